//! PostgreSQL 14 or later: connections, and locks.

mod pool;
mod row_lock;
mod schema;
mod session_lock;
mod subscriber;
mod transaction;
mod wakeups;

pub use self::{pool::Pool, row_lock::PostgresRowLock, session_lock::PostgresSessionLock};
