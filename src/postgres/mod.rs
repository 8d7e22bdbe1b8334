//! PostgreSQL 14 or later: locks.
//!
//! - [`Pool`] holds the connections; any number of locks share one.
//! - [`PostgresSessionLock`] is an advisory lock of a session: fast, served in order, free at once when its
//!   holder dies. It ties up a connection for each lease.
//! - [`PostgresRowLock`] is a row in a table: for many leases at a time, for proxies that pool transactions, and
//!   [inside a transaction](PostgresRowLock::lock_in) of your own.
//!
//! ```no_run
//! # async fn report() -> Result<(), cattleguard::Fault> {
//! use std::time::Duration;
//! use cattleguard::{lock::Lock, postgres::{Pool, PostgresSessionLock}};
//! use tokio::time::Instant;
//!
//! let lock = PostgresSessionLock::new(Pool::open("postgres://127.0.0.1/database")?);
//! let deadline = Instant::now() + Duration::from_secs(10);
//! let lease = lock.acquire("report", Duration::from_secs(30), deadline).await?;
//! lease.run(async { /* write the report */ }).await?;
//! lease.release().await?;
//! # Ok(()) }
//! ```
//!
//! # What it uses in the database
//!
//! | | by | for |
//! |---|---|---|
//! | sequence `cattleguard_fence` | both | fencing tokens of all names |
//! | advisory locks, 64 bits of a hash of the name | `PostgresSessionLock` | the locks |
//! | settings `idle_session_timeout`, `lock_timeout`, `client_connection_check_interval` of its sessions | `PostgresSessionLock` | the ttl, the deadline, dropped calls |
//! | table `cattleguard_lock` | `PostgresRowLock` | a row a name, deleted a day after its last use |
//! | channel `cattleguard_lock` | `PostgresRowLock` | `NOTIFY` of releases |
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
//! - *A failover* to a standby that replicates asynchronously may forget row leases, and always forgets
//!   sessions; its sequence may give smaller fencing tokens than the primary did.
//! - *A proxy* that pools transactions breaks session locks.
//! - *`synchronous_commit = off`* and an `UNLOGGED` table make row locks faster, and free them in a crash.

mod channel;
mod pool;
mod row_lock;
mod schema;
mod session_lock;
mod transaction;
mod waiting;
mod wakeups;

pub use self::{pool::Pool, row_lock::PostgresRowLock, session_lock::PostgresSessionLock};

/// The types of `sqlx` 0.8 that signatures name.
pub mod driver {
    #[doc(no_inline)]
    pub use sqlx::{PgConnection, postgres::PgConnectOptions};
}
