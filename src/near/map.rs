use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use quick_cache::{DefaultHashBuilder, Lifecycle, Weighter, sync::EntryAction};

use super::{
    bounds::Bounds,
    line::{Line, Place},
};
use crate::{
    Entry, Moment,
    observe::{EvictedFor, NearUsage},
    size::{Panicked, SizeOf},
};

/// The entries, what they weigh, and when they leave.
pub(super) struct Map<V> {
    entries: quick_cache::sync::Cache<Arc<str>, NearEntry<V>, Weight, DefaultHashBuilder, Collect>,
    bounds: Bounds,
    size_of: SizeOf<V>,
    /// A leaf, taken without the name's lock.
    line: Mutex<Line>,
    /// The bytes of all entries.
    held: AtomicU64,
    usage: NearUsage,
}

pub(super) struct NearEntry<V> {
    pub(super) entry: Arc<Entry<V>>,
    /// The end of its life here, whatever its own times say.
    pub(super) until: Moment,
    pub(super) early_from: Moment,
    /// What it counts for, its name and the map's own needs included.
    bytes: usize,
}

/// What has left the map.
pub(super) type Gone<V> = Vec<(Arc<str>, NearEntry<V>)>;

/// How many entries past their time leave with one insertion, at most.
const SWEPT_AT_ONCE: usize = 8;

impl<V> NearEntry<V> {
    pub(super) fn new(name: &str, entry: Arc<Entry<V>>, until: Moment, early_from: Moment) -> Self {
        let bytes = Self::bytes(name, entry.bytes());
        Self { entry, until, early_from, bytes }
    }

    fn bytes(name: &str, value: usize) -> usize {
        // The counts of two `Arc`s, the map's pointers and its place in the line.
        let around =
            size_of::<(Arc<str>, Self)>() + size_of::<Place>() + 4 * size_of::<usize>() + 32;
        value.saturating_add(name.len() + size_of::<Entry<V>>() + around)
    }
}

impl<V> Clone for NearEntry<V> {
    fn clone(&self) -> Self {
        Self { entry: self.entry.clone(), ..*self }
    }
}

impl<V> Map<V> {
    pub(super) fn new(bounds: Bounds, size_of: SizeOf<V>, usage: NearUsage) -> Self {
        let entries = quick_cache::sync::Cache::with_options(
            bounds.options(),
            Weight(bounds),
            DefaultHashBuilder::default(),
            Collect,
        );
        Self { entries, bounds, size_of, line: Mutex::default(), held: AtomicU64::new(0), usage }
    }

    pub(super) fn get(&self, name: &str) -> Option<NearEntry<V>> {
        self.entries.get(name)
    }

    /// Looks at an entry where it is: a clone that is dropped under the name's lock could be the last.
    pub(super) fn is(&self, name: &str, so: impl FnOnce(&NearEntry<V>) -> bool) -> bool {
        let mut is_so = false;
        let removed = self.entries.remove_if(name, |near| {
            is_so = so(near);
            false
        });
        debug_assert!(removed.is_none());
        is_so
    }

    /// What had to leave.
    pub(super) fn insert(&self, name: Arc<str>, mut near: NearEntry<V>, now: Moment) -> Gone<V> {
        if self.size_of.is_asked() {
            // The length of the encoding is a guess then.
            near.bytes = self.bounds.largest(near.bytes);
        }
        if self.bounds.is_too_large(near.bytes) {
            self.usage.evicted(EvictedFor::TooLarge);
            let replaced = self.remove_if(&name, |_| true);
            return replaced.map(|replaced| (name, replaced)).into_iter().collect();
        }
        // Before it can leave again.
        self.count(0, near.bytes);
        self.usage.came();
        let mut gone = Gone::new();
        self.entries.insert_with_lifecycle(name.clone(), near, &mut gone);
        for (evicted, near) in &gone {
            self.left(near);
            if *evicted != name {
                self.usage.evicted(EvictedFor::of(now >= near.until));
            }
        }
        gone
    }

    pub(super) fn remove_if(
        &self,
        name: &str,
        outdated: impl FnOnce(&NearEntry<V>) -> bool,
    ) -> Option<NearEntry<V>> {
        let (_, near) = self.entries.remove_if(name, outdated)?;
        self.left(&near);
        Some(near)
    }

    /// Removes everything. Not the map's own `clear`: that drops values under a lock.
    pub(super) fn clear(&self) {
        for (_, near) in self.entries.drain() {
            self.left(&near);
            discard(near);
        }
    }

    /// The second part of an insertion: runs the user's code, and so without a lock. Returns what had to leave.
    pub(super) fn settle(&self, name: Arc<str>, near: NearEntry<V>, now: Moment) -> Gone<V> {
        let mut gone = Gone::new();
        let is_same = |other: &NearEntry<V>| Arc::ptr_eq(&other.entry, &near.entry);
        match self.size_of.measure(&near.entry) {
            Ok(bytes) if !self.bounds.is_too_large(NearEntry::<V>::bytes(&name, bytes)) => {
                self.correct(&name, &near, NearEntry::<V>::bytes(&name, bytes));
            }
            measured => {
                if let Err(Panicked) = measured {
                    tracing::warn!(
                        guard = self.usage.guard(),
                        "a size function panicked: the value is not kept near"
                    );
                }
                let removed = self.remove_if(&name, is_same);
                if let Some(removed) = removed {
                    self.usage.evicted(EvictedFor::TooLarge);
                    gone.push((name.clone(), removed));
                }
            }
        }
        self.queue(Place { name, until: near.until });
        self.sweep(now, &mut gone);
        self.relieve(now, &mut gone);
        gone
    }

    /// Counts `bytes` for an entry that is still there.
    fn correct(&self, name: &Arc<str>, near: &NearEntry<V>, bytes: usize) {
        if near.bytes == bytes {
            return;
        }
        // This counts as a hit of the entry, so it is done only where it must be.
        let _ = self.entries.entry(name, Some(Duration::ZERO), |_, other| {
            if Arc::ptr_eq(&other.entry, &near.entry) {
                self.count(other.bytes, bytes);
                other.bytes = bytes;
            }
            EntryAction::Retain(())
        });
    }

    /// Gives an entry its place in the line. Most places of a line twice as long as the map are of entries
    /// that have left: two are looked at, so that it does not grow.
    fn queue(&self, place: Place) {
        let mut line = self.line.lock();
        line.push(place);
        for _ in 0..2 {
            if line.len() <= self.bounds.entries.saturating_mul(2) {
                return;
            }
            if let Some(place) = line.pop()
                && self.is(&place.name, |near| near.until == place.until)
            {
                line.push(place);
            }
        }
    }

    /// A few entries whose time is over leave.
    fn sweep(&self, now: Moment, gone: &mut Gone<V>) {
        for _ in 0..SWEPT_AT_ONCE {
            let Some(place) = self.line.lock().pop_due(now) else { return };
            self.call(place, now, gone);
        }
    }

    /// The oldest leave until the rest is within the bound: the map makes room by the sizes that are known
    /// at an insertion, and some are known only afterwards.
    fn relieve(&self, now: Moment, gone: &mut Gone<V>) {
        while self.bounds.exceeded_by(self.held.load(Ordering::Relaxed)) {
            let Some(place) = self.line.lock().pop() else { return };
            self.call(place, now, gone);
        }
    }

    fn call(&self, place: Place, now: Moment, gone: &mut Gone<V>) {
        if let Some(near) = self.remove_if(&place.name, |near| near.until == place.until) {
            self.usage.evicted(EvictedFor::of(now >= near.until));
            gone.push((place.name, near));
        }
    }

    fn left(&self, near: &NearEntry<V>) {
        self.count(near.bytes, 0);
        self.usage.left();
    }

    fn count(&self, before: usize, after: usize) {
        if after >= before {
            self.held.fetch_add((after - before) as u64, Ordering::Relaxed);
        } else {
            self.held.fetch_sub((before - after) as u64, Ordering::Relaxed);
        }
        self.usage.resized(after as f64 - before as f64);
    }
}

impl<V> Drop for Map<V> {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Drops what is out of use. A value whose drop panics takes nothing else down.
pub(super) fn discard<T>(out_of_use: T) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(out_of_use)));
}

#[derive(Clone)]
struct Weight(Bounds);

impl<V> Weighter<Arc<str>, NearEntry<V>> for Weight {
    fn weight(&self, _: &Arc<str>, near: &NearEntry<V>) -> u64 {
        self.0.weight(near.bytes)
    }
}

/// Hands out all that leaves: the default drops the third of an insertion under the map's lock.
#[derive(Clone)]
struct Collect;

impl<V> Lifecycle<Arc<str>, NearEntry<V>> for Collect {
    type RequestState = Gone<V>;

    fn on_evict(&self, gone: &mut Gone<V>, name: Arc<str>, near: NearEntry<V>) {
        gone.push((name, near));
    }
}
