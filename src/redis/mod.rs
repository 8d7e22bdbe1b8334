//! Redis 6.2 or later, as one server, a Sentinel group or a Cluster: the far tier, and locks.
//!
//! - [`Connection`] reaches it; any number of far tiers and locks share one.
//! - [`RedisFar`] is the far tier: entries, leases and messages.
//! - [`ElectedFar`] is the same, with a lock of another system to elect who loads:
//!   [`RedisFar::elected_by`].
//! - [`RedisLock`] is a lock on one Redis, [`RedisQuorumLock`] one that most of several must grant.
//!
//! ```no_run
//! # #[cfg(feature = "json")]
//! # async fn example() -> Result<(), cattleguard::Fault> {
//! use cattleguard::{Guard, codec::Json, redis::{Connection, RedisFar, RedisLock}};
//!
//! let connection = Connection::open("redis://127.0.0.1/").await?;
//! let lock = RedisLock::new(connection.clone());
//! let users: Guard<u64, String> =
//!     Guard::builder().far(RedisFar::new(connection, Json).namespace("users")).build();
//! # Ok(()) }
//! ```
//!
//! # The far tier
//!
//! - A hit is one plain `GET`; everything else is one atomic script. A miss costs the process that loads three
//!   commands (`GET`, look up or lease, commit), and each other process three (`GET`, look up or lease, look up
//!   again when notified).
//! - All times are the server's. A client estimates the server's clock from its answers; the estimate moves only
//!   the moment at which the client takes an entry for stale.
//! - Fencing tokens come from the server's clock and grow past each record's floor, so there is no counter key
//!   that could be evicted or expire.
//! - Each process has one more connection, which subscribes to the messages of its namespaces; in a Cluster since Redis 7
//!   one to each primary. While it is down, waiters poll and near entries are kept for a short time only.
//!
//! # Keys
//!
//! The braces put all keys of a name into one slot of a Cluster; `{`, `}` and `%` in a name are
//! percent-encoded.
//!
//! | key or channel | holds | until |
//! |---|---|---|
//! | `cg:{namespace:name}` | the entry or tombstone: a header of 42 bytes and the value | its retention |
//! | `cg:{namespace:name}:l` | the lease, or the back-off after a failed load | its ttl |
//! | `cg:{namespace:name}:w` | nothing: a write that `WAIT` confirms | 1 ms |
//! | `cg:{namespace:}:events` | the channel of messages | – |
//! | `cg:{namespace:}:subscribers` | a channel without messages: who is to confirm invalidations | – |
//! | `cg:process:<process>` | the channel of wake-ups and confirmations for a process | – |
//! | `cg:{<number>}:…` | in a Cluster since Redis 7: the sharded channels of the two kinds | – |
//! | `cgs:{…}` | the first five, of an [`ElectedFar`] | the same |
//! | `cgk:{namespace:name}` | the lease of a lock | its ttl |
//! | `cgk:{namespace:name}:f` | the last fencing token | a minute after the lease |
//! | `cgk:{namespace:name}:q`, `:w` | the queue of waiters | 2 s after the last attempt |
//! | `cg:lock:<process>` | the channel on which a waiter is notified | – |
//!
//! A key of another type under one of these is a stranger's: it is no entry and no lease, and is replaced.
//!
//! # The driver
//!
//! Signatures name types of the crate `redis` 1, and with the feature `deadpool` one of `deadpool-redis` 0.23. They are
//! re-exported in [`driver`]: a service that takes them from there has the version that fits. Another major
//! version of either comes with a breaking release of this crate.
//!
//! # What it promises, and what breaks it
//!
//! The whole contract of [`Far`](crate::far::Far) and [`Lock`](crate::lock::Lock), as long as the server keeps what it has
//! acknowledged:
//!
//! - *Eviction* may drop a live lease or a version. A second load is possible then, and an outdated read is no
//!   longer recognised; a commit without its lease is still refused.
//! - *A failover that loses writes* may let an older entry return until the next write, and a lock have two
//!   holders for a ttl. Replication is asynchronous: [`Invalidated::Unreplicated`](crate::far::Invalidated::Unreplicated)
//!   tells which invalidations are at risk, if confirmation by replicas is asked for.
//! - *A clock that is set back*, at the server or by a failover to one that is behind: what lasts until a moment (a
//!   lease, a back-off, freshness) lasts no longer from then than it was to last at all, and keys may stay for as long
//!   as the clock was set back. A lease that ended and left no record leaves no fencing token either: the next may be
//!   smaller. What it commits is refused all the same.
//! - *In a Cluster older than Redis 7* the number of subscribers is not known: an invalidation is always
//!   [`Unconfirmed`](crate::far::Invalidated::Unconfirmed).

mod audience;
mod channel;
mod cluster;
mod command;
mod confirmations;
mod connection;
mod credentials;
mod elected;
mod far;
mod fault;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod gate;
mod link;
mod lock;
mod message;
mod messages;
mod namespace;
mod open;
mod options;
mod permissions;
#[cfg(feature = "deadpool")]
mod pool;
mod push_connection;
mod records;
mod replicas;
mod route;
mod script;
mod sentinel;
mod server;
mod subscriber;
mod subscriptions;
mod tls;

pub use self::{
    connection::Connection,
    elected::ElectedFar,
    far::RedisFar,
    lock::{RedisLock, RedisQuorumLock},
    options::Options,
};

/// The types of `redis` 1 and `deadpool-redis` 0.23 that signatures name.
///
/// Types alone: with whole crates in reach, the compiler's messages would write out `std::string::String`.
pub mod driver {
    #[doc(no_inline)]
    pub use ::redis::{
        Client, RedisResult,
        auth::{BasicAuth, StreamingCredentialsProvider},
    };
    #[cfg(feature = "redis-rustls")]
    #[doc(no_inline)]
    pub use ::redis::{ClientTlsConfig, TlsCertificates};
    #[cfg(feature = "deadpool")]
    #[doc(no_inline)]
    pub use deadpool_redis::Pool;
}
