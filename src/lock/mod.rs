//! Locks that processes share: at most one holder of a name, until a time.
//!
//! For work that only one process may do, and to elect who loads in front of a Redis far tier
//! (`RedisFar::elected_by`). All of them have one contract, [`Lock`], so a service uses the system that it
//! runs already.
//!
//! A lease is for *efficiency*: it saves the second load, the second e-mail. It cannot make a write safe by
//! itself, because its holder may be stopped for longer than the lease lasts, without knowing. For
//! *correctness* send [`Lease::fence`] with each write and let the store refuse a smaller one than it has seen
//! ([Kleppmann 2016][1]), as the Redis far tier does.
//!
//! [1]: https://martin.kleppmann.com/2016/02/08/how-to-do-distributed-locking.html
//!
//! # Which one
//!
//! | | exclusive | freed when its holder dies or is cut off | highly available | served in order | a waiter is notified by | speed, to Redis |
//! |---|---|---|---|---|---|---|
//! | [`MemoryLock`](crate::memory::MemoryLock) | in this process | with the process; ttl | – | yes | the release | – |
//! | `redis::RedisLock` | until a failover loses the lease | ttl | Sentinel, Cluster, with that loss | yes, among processes | a message to the next alone | 1 |
//! | `redis::RedisQuorumLock` | while most servers keep their data | ttl | most of the servers | no | looking again, 5 to 100 ms | 0.5 |
//! | `postgres::PostgresSessionLock` | until a failover | at once when the server sees it; ttl when frozen | by the database's failover | yes | the server | 1.4 |
//! | `postgres::PostgresRowLock` | yes, with synchronous replication | ttl | by the database's failover | no | `NOTIFY` | 0.6 |
//! | `mysql::MysqlSessionLock` | until a failover | at once when the server sees it; ttl, in whole seconds, when frozen | by the database's failover | yes | the server | 1.4 |
//! | `mysql::MysqlRowLock` | yes, with synchronous replication | ttl | by the database's failover | no | looking again, 3 to 50 ms | 0.7 |
//! | `zookeeper::ZookeeperLock` | yes | session timeout | most of an ensemble | yes | a watch on the one before | 0.15 |
//!
//! None is reentrant by itself: [`Reentrant`] makes any of them so. [`acquire_many`] acquires several names
//! without deadlocks, and [`BoxLock`] is for a lock that is chosen at run time. The last column is how often one
//! client acquires and releases in a second, by the `locks` bench on one machine. All but the `MemoryLock` are
//! behind the feature of their system.
//!
//! # The contract
//!
//! Every implementer MUST:
//!
//! 1. *(one holder)* grant a name only while no other lease of it is live.
//! 2. *(fence)* give successive grants of a name growing fencing tokens.
//! 3. *(expiry)* free a lease that is not renewed, at the latest after its ttl and what the implementer says
//!    it adds; and never before [`Lease::expires_at`], unless the session that it belongs to is ended from
//!    outside: then only the fencing token tells the two holders apart, until the next renewal.
//! 4. *(renewal)* extend only the lease of this grant, and answer [`Renewal::Lost`] once it is gone.
//! 5. *(release)* free the name at once, but only if this grant still holds it; a repeated release has no
//!    effect.
//! 6. *(loss)* resolve [`Lease::lost`] as soon as the system says that the lease is gone, and at
//!    [`Lease::expires_at`] at the latest.
//! 7. *(wake-up)* grant a name to a waiter in [`Lock::acquire`] soon after its release, by a message or a queue
//!    and not by spinning; if the message is lost, by another look within a bounded time.
//! 8. *(crash)* free the leases of a process that is killed or cut off as in clause 3.
//! 9. *(bounded)* end `acquire` by its deadline and every other call within the implementer's own
//!    timeout.
//! 10. *(cancel safe)* leave nothing behind when a call's future is dropped, at the latest after the
//!     ttl: neither a lease nor a waiter.
//! 11. *(quiet)* show no name in an error or log.
//!
//! `tests/locks` stamps a test per clause over every implementer.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::Fault;

mod boxed;
mod lease;
mod many;
mod queue;
mod reentrant;
mod validity;

pub use self::{
    boxed::BoxLock,
    lease::{Lease, LeaseBackend},
    many::{Leases, acquire_many},
    reentrant::Reentrant,
    validity::Validity,
};
pub(crate) use self::{queue::Queue, validity::end_of};
pub use crate::token::Renewal;

/// A lock on names that processes share. See the [module](self) for the contract.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a lock",
    label = "not a `Lock`",
    note = "a connection or pool becomes one: `RedisLock::new(connection)`, `PostgresSessionLock::new(pool)`, and others that the module `cattleguard::lock` lists"
)]
pub trait Lock: Send + Sync + 'static {
    /// Tries once to acquire the lock on `name`, for `ttl`.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may have been carried out: the name is then held until it is freed in the background, or
    /// for its ttl.
    ///
    /// # Errors
    ///
    /// When the system cannot be asked. That another holds the lock is no error.
    fn try_acquire(
        &self,
        name: &str,
        ttl: Duration,
    ) -> impl Future<Output = Result<Attempt, Fault>> + Send;

    /// Acquires the lock on `name`, for `ttl`: waits until it is free, or until `deadline`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the place in the queue; otherwise as
    /// [`try_acquire`](Self::try_acquire).
    ///
    /// # Errors
    ///
    /// [`FaultKind::Held`](crate::FaultKind::Held) when `deadline` has passed, or the reason why the system cannot
    /// be asked.
    fn acquire(
        &self,
        name: &str,
        ttl: Duration,
        deadline: Instant,
    ) -> impl Future<Output = Result<Lease, Fault>> + Send;
}

impl<L: Lock> Lock for Arc<L> {
    async fn try_acquire(&self, name: &str, ttl: Duration) -> Result<Attempt, Fault> {
        L::try_acquire(self, name, ttl).await
    }

    async fn acquire(&self, name: &str, ttl: Duration, deadline: Instant) -> Result<Lease, Fault> {
        L::acquire(self, name, ttl, deadline).await
    }
}

/// The answer to [`Lock::try_acquire`].
#[non_exhaustive]
#[derive(Debug)]
pub enum Attempt {
    /// The lock is the caller's.
    Granted(Lease),
    /// Another holds the lock, or has waited for it longer.
    Held {
        /// When to try again: the rest of that lease where the system tells it, or less.
        remaining: Duration,
    },
}
