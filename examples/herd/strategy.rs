//! What is compared.

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Strategy {
    /// Every request asks the database.
    None,
    /// Get, load, set: what most people write.
    CacheAside,
    /// A single-flight in each process over a shared cache.
    Local,
    /// `SET NX`, and polling every 50 ms: what blog posts teach.
    LockPoll,
    Cattleguard,
    /// The same without grace and stale-if-error.
    NoStale,
}

impl Strategy {
    /// Those that can be chosen.
    pub const ALL: [Self; 5] =
        [Self::None, Self::CacheAside, Self::Local, Self::LockPoll, Self::Cattleguard];

    pub fn takes_one_address(self) -> bool {
        matches!(self, Self::CacheAside | Self::Local | Self::LockPoll)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::CacheAside => "cache-aside",
            Self::Local => "local",
            Self::LockPoll => "lock-poll",
            Self::Cattleguard => "cattleguard",
            Self::NoStale => "cattleguard, no stale",
        }
    }
}
