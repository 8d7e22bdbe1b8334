//! Locks on Redis: granted by one server, or by most of several.
//!
//! A lease is a key with an expiry of its own, set by a script and deleted by another that compares the
//! token. Waiters stand in a queue beside it:
//!
//! - A process that finds the lock held enters the queue and counts as alive for `WAITER_TTL`; each further
//!   attempt renews that.
//! - A release notifies the first one alone, through its process' own channel. As long as it counts as alive,
//!   no other is granted the lock.
//! - A lost message, or a holder that died, is found by the next attempt: at the end of the lease, and at
//!   least every `LOOK_AGAIN`.

mod quorum;
mod server;
mod single;

pub use self::{quorum::RedisQuorumLock, single::RedisLock};
