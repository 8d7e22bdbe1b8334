//! MariaDB 10.5 or later, or MySQL 5.7 or later: locks.
//!
//! - [`Pool`] holds the connections; any number of locks share one.
//! - [`MysqlSessionLock`] is `GET_LOCK`: fast, served in order, free at once when its holder dies. It ties up a
//!   connection for each lease.
//! - [`MysqlRowLock`] is a row in a table: for many leases at a time, and for replicated servers.
//!
//! ```no_run
//! # async fn report() -> Result<(), cattleguard::Fault> {
//! use std::time::Duration;
//! use cattleguard::{lock::Lock, mysql::{MysqlSessionLock, Pool}};
//! use tokio::time::Instant;
//!
//! let lock = MysqlSessionLock::new(Pool::open("mysql://127.0.0.1/database")?);
//! let deadline = Instant::now() + Duration::from_secs(10);
//! let lease = lock.acquire("report", Duration::from_secs(30), deadline).await?;
//! lease.run(async { /* write the report */ }).await?;
//! lease.release().await?;
//! # Ok(()) }
//! ```
//!
//! # What it uses on the server
//!
//! | | by | for |
//! |---|---|---|
//! | `GET_LOCK('cg:…')`, 160 bits of the name's SHA-256 | `MysqlSessionLock` | the locks, of the whole server |
//! | the setting `wait_timeout` of its sessions | `MysqlSessionLock` | the ttl, in whole seconds |
//! | `UUID_SHORT()` | both | fencing tokens |
//! | table `cattleguard_lock` | `MysqlRowLock` | a row a name, deleted a day after its last use |
//!
//! # The driver
//!
//! Signatures name types of the crate `sqlx` 0.8. They are re-exported in [`driver`]: a service that takes
//! them from there has the version that fits. Another major version comes with a breaking release of this crate.
//!
//! # What it promises, and what breaks it
//!
//! The whole contract of [`Lock`](crate::lock::Lock) but for the order, which only the session lock keeps.
//!
//! - *A failover* to a replica forgets sessions, and row leases that were not replicated. Fencing tokens of
//!   another server count from its own `server_id`.
//! - *A Galera cluster* does not share `GET_LOCK`: all clients must ask the same node.
//! - *A proxy* that shares a session between clients breaks session locks.

mod pool;
mod row_lock;
mod session_lock;

pub use self::{pool::Pool, row_lock::MysqlRowLock, session_lock::MysqlSessionLock};

/// The types of `sqlx` 0.8 that signatures name.
pub mod driver {
    #[doc(no_inline)]
    pub use sqlx::mysql::MySqlConnectOptions;
}
