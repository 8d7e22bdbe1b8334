//! ZooKeeper 3.5 or later: a lock.
//!
//! - [`Session`] is a session with an ensemble; any number of locks share one.
//! - [`ZookeeperLock`] is Curator's recipe, so Java services that use `InterProcessMutex` share the locks.
//!
//! ```no_run
//! # async fn report() -> Result<(), cattleguard::Fault> {
//! use std::time::Duration;
//! use cattleguard::{lock::Lock, zookeeper::{Session, ZookeeperLock}};
//! use tokio::time::Instant;
//!
//! let lock = ZookeeperLock::new(Session::open("10.0.0.1:2181,10.0.0.2:2181,10.0.0.3:2181").await?);
//! let deadline = Instant::now() + Duration::from_secs(10);
//! let lease = lock.acquire("report", Duration::from_secs(30), deadline).await?;
//! lease.run(async { /* write the report */ }).await?;
//! lease.release().await?;
//! # Ok(()) }
//! ```
//!
//! # Nodes
//!
//! | node | kind | for |
//! |---|---|---|
//! | `/cattleguard/locks` | container | the base, which [`ZookeeperLock::base`] changes |
//! | `<base>/<name>` | container | a name |
//! | `<base>/<name>/_c_<uuid>-lock-<number>` | ephemeral, sequential | its holder, with the lowest number, and its waiters |
//!
//! The server deletes a container soon after it is empty, and an ephemeral node with its session.
//!
//! # The driver
//!
//! Signatures name types of the crate `zookeeper-client` 0.11. They are re-exported in [`driver`]: a service that takes
//! them from there has the version that fits. Another major version comes with a breaking release of this crate.
//!
//! # What it promises, and what breaks it
//!
//! The whole contract of [`Lock`](crate::lock::Lock), also over the crash of a minority of the ensemble, and
//! waiters in order. The locks of a dead process are free after the session timeout, whatever their ttl.
//!
//! - *A leader that has lost its followers* may still keep a session alive for `syncLimit` × `tickTime` (10 s by
//!   default): a session timeout below that lets two processes hold a lock for that time, told apart by the
//!   fencing token.
//! - *A client that deletes nodes* frees their locks; the holder notices at once.

mod claim;
mod dir;
mod fault;
mod link;
mod lock;
mod node_lease;
mod session;

pub use self::{lock::ZookeeperLock, session::Session};

/// The types of `zookeeper-client` 0.11 that signatures name.
pub mod driver {
    #[doc(no_inline)]
    pub use zookeeper_client::Connector;
}
