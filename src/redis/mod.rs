//! How to reach Redis: a single server by URL, a Sentinel group, a Cluster, or a pool that the service
//! already has.

mod connection;
mod namespace;
mod replicas;
mod sentinel;
mod subscriber;

use std::time::Duration;

pub use self::connection::Connection;
pub(crate) use self::{
    namespace::Namespace,
    subscriber::{Listener, State, Subscriber},
};

/// Rounded up, so that Redis keeps nothing for shorter than we believe. At least one: Redis refuses an expiry of zero.
pub(crate) fn millis(duration: Duration) -> u64 {
    // Far below 2^53, so that sums stay exact in Lua; three centuries are enough for any cache.
    u64::try_from(duration.as_nanos().div_ceil(1_000_000))
        .unwrap_or(u64::MAX)
        .clamp(1, 10_000_000_000_000)
}
