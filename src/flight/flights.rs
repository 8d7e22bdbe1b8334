use std::{collections::HashMap, hash::BuildHasher, sync::Arc};

use parking_lot::{Mutex, MutexGuard};

use super::{flight::Flight, solo_state::SoloState};
use crate::{Version, sync::RandomState};

const SHARDS: usize = 64;

/// The open flights of a guard. `T` is what callers get.
///
/// # The order of locks
///
/// 1. *The name's lock*: the shard of this map in which the name is. Boarding, closing, completing and every
///    change of what this process keeps of a name happen under it, so each of these comes before or after
///    the other.
/// 2. Under it, one at a time and none under another: the flight's provisional answer, the near tier's
///    shard, the failure back-offs' shard.
///
/// Nothing is awaited under a lock, and no code of the user's runs under one: values that a change puts out
/// of use are handed back and dropped after the name's lock (`#[must_use]` says where). The wake-ups of
/// waiters, the pending invalidations and the breaker have locks of their own, which are never taken
/// under a name's lock nor a name's lock under them, but for one: the breaker closes under the lock of the
/// pending invalidations (see `guard/recovery.rs`).
pub(crate) struct Flights<T> {
    shards: Box<[Shard<T>]>,
    hasher: RandomState,
}

pub(super) type Names<T> = HashMap<Arc<str>, Open<T>, RandomState>;
type Shard<T> = Mutex<Names<T>>;

/// What is open of a name.
pub(super) struct Open<T> {
    pub(super) by: OpenBy<T>,
    /// The newest version that a message told of while this was open: an older one may have been
    /// read, which must not be kept.
    pub(super) floor: Version,
}

pub(super) enum OpenBy<T> {
    Solo(Arc<SoloState>),
    Flight(Arc<Flight<T>>),
}

impl<T> Flights<T> {
    pub(crate) fn new() -> Arc<Self> {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Arc::new(Self { shards, hasher: RandomState::default() })
    }

    /// Takes the name's lock.
    pub(super) fn lock(&self, name: &str) -> MutexGuard<'_, Names<T>> {
        self.shards[self.hasher.hash_one(name) as usize % SHARDS].lock()
    }

    /// Closes the flight of `name` to newcomers, because answers below `version` (all, without one) are
    /// outdated, and runs `also` under the name's lock. Callers aboard still get its answer, but it will not fill
    /// the near tier.
    pub(crate) fn close<R>(&self, name: &str, version: Option<Version>, also: impl FnOnce() -> R) {
        let mut names = self.lock(name);
        let open = names.remove(name);
        if let Some(Open { by: OpenBy::Flight(flight), .. }) = &open {
            flight.overtake(version);
        }
        let closed = (open, also());
        drop(names);
        drop(closed);
    }

    /// Closes every flight.
    pub(crate) fn close_all(&self) {
        for shard in &self.shards {
            shard.lock().clear();
        }
    }

    /// Closes the flights that have a provisional answer, and returns when every fill that has begun before
    /// has ended.
    pub(crate) fn close_provisional(&self) {
        let is_provisional =
            |open: &Open<T>| matches!(&open.by, OpenBy::Flight(flight) if flight.has_provisional());
        for shard in &self.shards {
            let mut names = shard.lock();
            let closed: Vec<_> = names.extract_if(|_, open| is_provisional(open)).collect();
            drop(names);
            drop(closed);
        }
    }

    /// Notes that `version` exists and runs `also` under the name's lock.
    pub(crate) fn raise<R>(&self, name: &str, version: Version, also: impl FnOnce() -> R) {
        let mut names = self.lock(name);
        if let Some(open) = names.get_mut(name) {
            open.floor = open.floor.max(version);
        }
        let dropped = also();
        drop(names);
        drop(dropped);
    }

    /// How many flights are open.
    pub(crate) fn open_count(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    /// Removes `flight` if it is still open, running `fill` with its floor under the name's lock.
    #[must_use = "dropped by the caller, without the name's lock"]
    pub(super) fn remove<R>(
        &self,
        flight: &Arc<Flight<T>>,
        fill: impl FnOnce(Version) -> R,
    ) -> Option<R> {
        let mut names = self.lock(&flight.name);
        // An invalidation may have closed this flight and a newer one may be open in its place.
        let is_open =
            |open: &Open<T>| matches!(&open.by, OpenBy::Flight(open) if Arc::ptr_eq(open, flight));
        if !names.get(&flight.name).is_some_and(is_open) {
            return None;
        }
        let open = names.remove(&flight.name)?;
        Some(fill(open.floor))
    }
}

impl<T> Open<T> {
    pub(super) fn by(by: OpenBy<T>) -> Self {
        Self { by, floor: Version::ZERO }
    }
}
