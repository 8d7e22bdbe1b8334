//! MariaDB or MySQL: connections, and locks.

mod pool;
mod row_lock;
mod session_lock;

pub use self::{pool::Pool, row_lock::MysqlRowLock, session_lock::MysqlSessionLock};
