//! Locks that processes share: at most one holder of a name, until a time.
//!
//! A lock alone, for work that only one process may do, and the piece that decides who loads in
//! [`far::Paired`](crate::far::Paired). All of them speak one contract, [`Lock`], so a service uses the
//! system it already runs.
//!
//! A lease is for *efficiency*: it saves the second load, the second e-mail. It cannot make a write
//! safe by itself, because its holder may be stopped for longer than the lease lasts and never know.
//! For *correctness* hand [`Lease::fence`] along with each write and let the store refuse a smaller one
//! than it has seen ([Kleppmann 2016][1]); `far::Paired` does.
//!
//! [1]: https://martin.kleppmann.com/2016/02/08/how-to-do-distributed-locking.html
//!
//! # Which one
//!
//! | | exclusive | freed when its holder dies or is cut off | highly available | served in order | a waiter is woken by | one turn, to Redis |
//! |---|---|---|---|---|---|---|
//! | [`Memory`] | in this process | with the process; ttl | – | yes | the release | – |
//! | `Redis` | until a failover loses the lease | ttl | Sentinel, Cluster, with that loss | yes, among processes | a message to the next alone | 1 |
//! | `RedisQuorumLock` | while most servers keep their data | ttl | most of the servers | no | looking again, 5 to 100 ms | 0.5 |
//! | `PostgresSessionLock` | until a failover | at once when the server sees it; ttl when frozen | by the database's failover | yes | the server | 1.4 |
//! | `PostgresRowLock` | yes, with synchronous replication | ttl | by the database's failover | no | `NOTIFY` | 0.6 |
//! | `MysqlSessionLock` | until a failover | at once when the server sees it; ttl, in whole seconds, when frozen | by the database's failover | yes | the server | 1.4 |
//! | `MysqlRowLock` | yes, with synchronous replication | ttl | by the database's failover | no | looking again, 3 to 50 ms | 0.7 |
//! | `Zookeeper` | yes | session timeout | most of an ensemble | yes | a watch on the one before | 0.15 |
//!
//! None is reentrant by itself; [`Reentrant`] makes each of them so, and [`acquire_many`] takes several names
//! without deadlocks. The last column is the `locks` bench on one machine: see the README. All but
//! [`Memory`] are behind a feature.
//!
//! # The contract
//!
//! Every implementer MUST:
//!
//! 1. *(one holder)* grant a name only while no other lease of it is live.
//! 2. *(fence)* give successive grants of a name growing fencing tokens.
//! 3. *(expiry)* free a lease that is not renewed, at the latest after its ttl and what the implementer
//!    says it adds; and never before [`Lease::expires_at`], unless the session that it belongs to is
//!    ended from outside: until the next renewal, the fencing token alone tells the two holders apart
//!    then.
//! 4. *(renewal)* extend only the lease of this grant, and say [`Renewal::Lost`] once it is gone.
//! 5. *(release)* free the name at once, only for the lease of this grant, and harm nobody when
//!    repeated.
//! 6. *(loss)* end [`Lease::lost`] as soon as the system says that the lease is gone, and at
//!    [`Lease::expires_at`] at the latest.
//! 7. *(wake-up)* let a waiter in [`Lock::acquire`] have a name soon after its release, by a message or
//!    a queue and not by spinning; if the message is lost, by a bounded second look.
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
pub trait Lock: Send + Sync + 'static {
    /// One attempt at the lock on `name`, for `ttl`.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may have been carried out: the name is then taken until it is freed in the
    /// background, or for its ttl.
    ///
    /// # Errors
    ///
    /// When the system cannot be asked. That another holds the lock is no error.
    fn try_acquire(
        &self,
        name: &str,
        ttl: Duration,
    ) -> impl Future<Output = Result<Attempt, Fault>> + Send;

    /// The lock on `name`, for `ttl`: waits until it is free.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the place in the queue; as for
    /// [`try_acquire`](Self::try_acquire) otherwise.
    ///
    /// # Errors
    ///
    /// [`FaultKind::Held`](crate::FaultKind::Held) when `deadline` has passed, or the reason why the system cannot be asked.
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
#[derive(Debug)]
pub enum Attempt {
    /// The lock is the caller's.
    Granted(Lease),
    /// Another holds the lock, or waits for it with an older claim.
    Held {
        /// When to look again if no message comes: the rest of that lease where the system tells it,
        /// or less.
        remaining: Duration,
    },
}
