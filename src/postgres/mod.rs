//! PostgreSQL 14 or later: connections, and locks.

mod channel;
mod pool;
mod row_lock;
mod schema;
mod session_lock;
mod transaction;
mod waiting;
mod wakeups;

pub use self::{pool::Pool, row_lock::PostgresRowLock, session_lock::PostgresSessionLock};
