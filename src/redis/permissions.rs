//! What the server lets this user do, as the first use finds out. Where there is another way, it is taken.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

/// Shared by the records and the messages of one far tier.
#[derive(Default)]
pub(super) struct Permissions {
    found: Mutex<Permitted>,
    /// Held by the caller that asks; others do not wait for it.
    pub(super) turn: tokio::sync::Mutex<()>,
    asked: Mutex<Option<Instant>>,
    /// Asked for with every read: cheaper than a lock.
    doubted: AtomicBool,
    /// What was said to be missing.
    told: Mutex<Vec<&'static str>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Permitted {
    /// Whether scripts may ask for the time. If not, they are given it.
    pub(super) time: bool,
    pub(super) publisher: Publisher,
    /// Whether the subscribers of a channel may be counted. If not, a stranger that listens by a pattern is
    /// taken for one of ours, which never confirms.
    pub(super) count: bool,
    /// Whether scripts may publish to sharded channels. If not, they publish to those that all nodes pass on.
    pub(super) sharded: bool,
}

/// Who sends the messages about what a script did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Publisher {
    Script,
    /// The client does, after the script.
    Client,
    /// `PUBLISH` is refused: waiters poll.
    Nobody,
}

impl Default for Permitted {
    fn default() -> Self {
        Self { time: true, publisher: Publisher::Script, count: true, sharded: false }
    }
}

impl Permissions {
    pub(super) fn get(&self) -> Permitted {
        *self.found.lock()
    }

    pub(super) fn found(&self, found: Permitted) {
        *self.found.lock() = found;
        *self.asked.lock() = Some(Instant::now());
        self.doubted.store(false, Ordering::Relaxed);
    }

    /// Whether they were not asked for within this time.
    pub(super) fn are_older_than(&self, age: Duration) -> bool {
        self.asked.lock().is_none_or(|asked| asked.elapsed() >= age)
    }

    /// Makes the next read ask again.
    pub(super) fn doubt(&self) {
        self.doubted.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_doubted(&self) -> bool {
        self.doubted.load(Ordering::Relaxed)
    }

    /// Whether something is missing, and that has not been said.
    pub(super) fn is_news(&self, missing: Vec<&'static str>) -> bool {
        let mut told = self.told.lock();
        let is_news = *told != missing && !missing.is_empty();
        *told = missing;
        is_news
    }
}
