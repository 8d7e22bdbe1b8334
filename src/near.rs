//! The near tier: a bounded map in this process. Entries carry their own times, so nothing here
//! expires by itself; a look decides.

use std::{sync::Arc, time::Duration};

use crate::{
    Clock, Entry, Moment, Version,
    freshness::{Found, Freshness},
};

pub(crate) struct Near<V> {
    clock: Clock,
    /// `None` turns the tier off.
    entries: Option<quick_cache::sync::Cache<Arc<str>, NearEntry<V>>>,
}

/// Entries that had to make room.
pub(crate) struct Evicted<V>([Option<(Arc<str>, NearEntry<V>)>; 2]);

impl<V> Default for Evicted<V> {
    fn default() -> Self {
        Self([None, None])
    }
}

struct NearEntry<V> {
    entry: Arc<Entry<V>>,
    /// The end of its life here, whatever its own times say.
    until: Moment,
    early_from: Moment,
}

impl<V> Clone for NearEntry<V> {
    fn clone(&self) -> Self {
        Self { entry: self.entry.clone(), ..*self }
    }
}

impl<V> Near<V> {
    pub(crate) fn new(capacity: usize, clock: Clock) -> Self {
        let entries = (capacity > 0).then(|| quick_cache::sync::Cache::new(capacity));
        Self { clock, entries }
    }

    pub(crate) fn look(&self, name: &str, freshness: &Freshness<V>) -> Found<V> {
        let Some(near) = self.entries.as_ref().and_then(|entries| entries.get(name)) else {
            return Found::Nothing;
        };
        let now = self.clock.now();
        if now >= near.until {
            return Found::Nothing;
        }
        // First, for a hit asks for nothing else.
        if now < near.early_from {
            return Found::Fresh(near.entry);
        }
        match Found::judge(near.entry, freshness, now) {
            Found::Expired(_) => Found::Nothing,
            found => found,
        }
    }

    /// Inserts `entry` for `ttl` at most, unless a newer one is there or `ttl` is zero.
    ///
    /// Callers hold the name's lock in `Flights`, which makes look-then-insert one step.
    #[must_use = "dropped by the caller, without the name's lock"]
    pub(crate) fn insert(
        &self,
        name: &Arc<str>,
        entry: &Arc<Entry<V>>,
        ttl: Duration,
        freshness: &Freshness<V>,
    ) -> Evicted<V> {
        let mut evicted = Evicted::default();
        let Some(entries) = &self.entries else { return evicted };
        let now = self.clock.now();
        let is_newer =
            |near: NearEntry<V>| near.entry.version() > entry.version() && now < near.until;
        if ttl.is_zero() || entries.peek(name).is_some_and(is_newer) {
            return evicted;
        }
        let (until, early_from) = (now.after(ttl), freshness.early_from(entry));
        let near = NearEntry { entry: entry.clone(), until, early_from };
        entries.insert_with_lifecycle(name.clone(), near, &mut evicted.0);
        evicted
    }

    /// Whether this very entry is still here.
    pub(crate) fn contains(&self, name: &str, entry: &Arc<Entry<V>>) -> bool {
        let near = self.entries.as_ref().and_then(|entries| entries.peek(name));
        near.is_some_and(|near| Arc::ptr_eq(&near.entry, entry))
    }

    /// Removes the entry if `outdated` says so of its version.
    #[must_use = "dropped by the caller, without the name's lock"]
    pub(crate) fn remove_if(
        &self,
        name: &str,
        outdated: impl Fn(Version) -> bool,
    ) -> Option<Arc<Entry<V>>> {
        let entries = self.entries.as_ref()?;
        let removed = entries.remove_if(name, |near| outdated(near.entry.version()));
        removed.map(|(_, near)| near.entry)
    }

    /// Removes everything.
    pub(crate) fn clear(&self) {
        if let Some(entries) = &self.entries {
            entries.clear();
        }
    }
}
