//! Locks on MariaDB or MySQL.

mod session;

pub use self::session::MysqlSession;
