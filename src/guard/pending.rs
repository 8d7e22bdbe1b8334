use std::{collections::HashMap, sync::Arc};

use parking_lot::{Mutex, MutexGuard};

use crate::{
    Version,
    observe::{Gauge, Up},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

/// Invalidations that the far tier has not acknowledged: to be repeated when it is back.
pub(super) struct PendingInvalidations {
    by_name: Mutex<ByName>,
    /// Asked before each read of the far tier: cheaper than the lock.
    count: AtomicUsize,
    gauge: Gauge,
}

type ByName = HashMap<Arc<str>, Pending>;

struct Pending {
    invalidation: PendingInvalidation,
    _counted: Up,
}

/// The invalidations of one name, put together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct PendingInvalidation {
    /// The newest of those with a version.
    version: Option<Version>,
    /// Whether there was one without.
    of_any: bool,
    /// How many there were: one that came while an equal one was under way must be sent again.
    times: u64,
}

/// What an invalidation is that was added.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Added {
    /// Of its name: there was none.
    First,
    Another,
}

/// What has become of the pending invalidations of a name that were sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Left {
    /// None is pending any more.
    Nothing,
    /// There has been another meanwhile.
    Another,
}

/// There is no room: an invalidation is lost.
pub(super) struct Full;

impl PendingInvalidation {
    /// What to invalidate, one after the other.
    pub(super) fn versions(self) -> impl Iterator<Item = Option<Version>> {
        let of_any = self.of_any.then_some(None);
        of_any.into_iter().chain(self.version.map(Some))
    }
}

impl PendingInvalidations {
    /// How many names are kept at most. One is its name and some 50 bytes.
    pub(super) const CAPACITY: usize = 100_000;

    pub(super) fn new(gauge: Gauge) -> Self {
        Self { by_name: Mutex::default(), count: AtomicUsize::new(0), gauge }
    }

    pub(super) fn add(&self, name: &str, version: Option<Version>) -> Result<Added, Full> {
        let mut by_name = self.by_name.lock();
        let is_first = !by_name.contains_key(name);
        if is_first && by_name.len() >= Self::CAPACITY {
            return Err(Full);
        }
        let new = || Pending { invalidation: Default::default(), _counted: self.gauge.up() };
        let pending = &mut by_name.entry(name.into()).or_insert_with(new).invalidation;
        pending.version = pending.version.max(version);
        pending.of_any |= version.is_none();
        pending.times += 1;
        self.count.store(by_name.len(), Relaxed);
        Ok(if is_first { Added::First } else { Added::Another })
    }

    /// Whether an invalidation of this name is pending. Whoever knows of one by its caller sees it here.
    pub(super) fn contains(&self, name: &str) -> bool {
        self.count.load(Relaxed) > 0 && self.by_name.lock().contains_key(name)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count.load(Relaxed) == 0
    }

    pub(super) fn all(&self) -> Vec<(Arc<str>, PendingInvalidation)> {
        let by_name = self.by_name.lock();
        let all = by_name.iter().map(|(name, pending)| (name.clone(), pending.invalidation));
        let mut all: Vec<_> = all.collect();
        drop(by_name);
        // The same order in each run with a seed: see `tests/simulation`.
        all.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        all
    }

    /// Done with `sent`, unless there has been more meanwhile.
    pub(super) fn sent(&self, name: &str, sent: PendingInvalidation) -> Left {
        let mut by_name = self.by_name.lock();
        if by_name.get(name).is_none_or(|pending| pending.invalidation != sent) {
            return Left::Another;
        }
        by_name.remove(name);
        self.count.store(by_name.len(), Relaxed);
        Left::Nothing
    }

    /// Keeps others from adding while it lives; `None` if something is pending.
    pub(super) fn lock_if_empty(&self) -> Option<NonePending<'_>> {
        let by_name = self.by_name.lock();
        by_name.is_empty().then_some(NonePending(by_name))
    }
}

/// Nothing is pending, as long as this lives.
pub(super) struct NonePending<'a>(#[expect(dead_code, reason = "held")] MutexGuard<'a, ByName>);
