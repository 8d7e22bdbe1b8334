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
//! | `RedisQuorum` | while most servers keep their data | ttl | most of the servers | no | looking again, 5 to 100 ms | 0.5 |
//! | `PostgresSession` | until a failover | at once when the server sees it; ttl when frozen | by the database's failover | yes | the server | 1.4 |
//! | `PostgresRow` | yes, with synchronous replication | ttl | by the database's failover | no | `NOTIFY` | 0.6 |
//! | `MysqlSession` | until a failover | at once when the server sees it; ttl, in whole seconds, when frozen | by the database's failover | yes | the server | 1.4 |
//! | `MysqlRow` | yes, with synchronous replication | ttl | by the database's failover | no | looking again, 3 to 50 ms | 0.7 |
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

use std::{error, fmt, future::Future, sync::Arc, time::Duration};

use tokio::time::Instant;

mod any;
mod belief;
mod lease;
mod many;
mod memory;
#[cfg(feature = "mysql")]
mod mysql;
#[cfg(feature = "postgres")]
mod postgres;
mod queue;
#[cfg(feature = "redis")]
mod redis;
mod reentrant;
#[cfg(any(feature = "postgres", feature = "mysql"))]
mod row;
#[cfg(any(feature = "postgres", feature = "mysql"))]
mod session;
#[cfg(feature = "zookeeper")]
pub(crate) mod zookeeper;

#[cfg(feature = "mysql")]
pub use self::mysql::{MysqlRow, MysqlSession};
#[cfg(feature = "postgres")]
pub use self::postgres::{PostgresRow, PostgresSession};
#[cfg(feature = "redis")]
pub use self::redis::{Redis, RedisQuorum};
#[cfg(feature = "zookeeper")]
pub use self::zookeeper::Zookeeper;
pub use self::{
    any::AnyLock,
    belief::Belief,
    lease::{Hold, Lease},
    many::{Leases, acquire_many},
    memory::Memory,
    reentrant::Reentrant,
};
pub use crate::far::Renewal;

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
    ) -> impl Future<Output = Result<Attempt, Error>> + Send;

    /// The lock on `name`, for `ttl`: waits until it is free.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the place in the queue; as for
    /// [`try_acquire`](Self::try_acquire) otherwise.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Held`] when `deadline` has passed, or the reason why the system cannot be asked.
    fn acquire(
        &self,
        name: &str,
        ttl: Duration,
        deadline: Instant,
    ) -> impl Future<Output = Result<Lease, Error>> + Send;
}

impl<L: Lock> Lock for Arc<L> {
    async fn try_acquire(&self, name: &str, ttl: Duration) -> Result<Attempt, Error> {
        L::try_acquire(self, name, ttl).await
    }

    async fn acquire(&self, name: &str, ttl: Duration, deadline: Instant) -> Result<Lease, Error> {
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

/// Why a lock could not be had or kept. Shows no names.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    source: Option<Box<dyn error::Error + Send + Sync>>,
}

/// The kinds of [`Error`].
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ErrorKind {
    /// The address, the options, the ttl or the name cannot be used.
    Config,
    /// No connection, or it broke.
    Unreachable,
    /// No answer in time. The call may have been carried out.
    Timeout,
    /// The system refused: no permission, read-only, out of memory, …
    Refused,
    /// Others held the lock until the deadline.
    Held,
    /// The lease is no longer this holder's.
    Lost,
}

impl Error {
    /// An error of this kind with its cause.
    pub fn new(kind: ErrorKind, source: impl Into<Box<dyn error::Error + Send + Sync>>) -> Self {
        Self { kind, source: Some(source.into()) }
    }

    /// What kind of error this is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self { kind, source: None }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            ErrorKind::Config => "the lock's address, options, ttl or name cannot be used",
            ErrorKind::Unreachable => "the lock's system cannot be reached",
            ErrorKind::Timeout => "the lock's system did not answer in time",
            ErrorKind::Refused => "the lock's system refused the command",
            ErrorKind::Held => "others held the lock until the deadline",
            ErrorKind::Lost => "the lease was lost",
        })
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
