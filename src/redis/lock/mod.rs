//! Locks on Redis: one server's word, or that of most of several.
//!
//! A lease is a key with an expiry of its own, set by a script and deleted by another that compares
//! the token. Waiters stand in a queue beside it:
//!
//! - Who finds the lock held enters the queue and is believed in for a while; each further look
//!   renews that.
//! - A release wakes the first one alone, through its process' own channel. While somebody is
//!   first, nobody else is granted the lock.
//! - A lost message, or a holder that died, is found by the next look: at the end of the lease, and
//!   at least every `LOOK_AGAIN`. A first waiter that died is forgotten after `BELIEVED`.

mod quorum;
mod server;
mod single;

pub use self::{quorum::RedisQuorumLock, single::RedisLock};
