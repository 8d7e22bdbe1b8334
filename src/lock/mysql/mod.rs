//! Locks on MariaDB or MySQL.

mod row;
mod session;

pub use self::{row::MysqlRow, session::MysqlSession};
