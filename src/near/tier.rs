use std::{sync::Arc, time::Duration};

use super::{
    bounds::Bounds,
    evicted::{Evicted, Inserted},
    map::{Map, NearEntry},
};
use crate::{
    Clock, Entry, Version,
    freshness::{Found, Freshness},
    observe::NearUsage,
    size::SizeOf,
};

pub(crate) struct Near<V> {
    clock: Clock,
    /// `None` turns the tier off.
    map: Option<Arc<Map<V>>>,
}

impl<V> Near<V> {
    pub(crate) fn new(bounds: Bounds, size_of: SizeOf<V>, clock: Clock, usage: NearUsage) -> Self {
        let map = (bounds.entries > 0).then(|| Arc::new(Map::new(bounds, size_of, usage)));
        Self { clock, map }
    }

    pub(crate) fn look(&self, name: &str, freshness: &Freshness) -> Found<V> {
        let Some(near) = self.map.as_ref().and_then(|map| map.get(name)) else {
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
            Found::Expired(_) | Found::Dead(_) => Found::Nothing,
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
        freshness: &Freshness,
    ) -> Evicted<V> {
        let Some(map) = &self.map else { return Evicted::nothing() };
        let now = self.clock.now();
        let is_newer =
            |near: &NearEntry<V>| near.entry.version() > entry.version() && now < near.until;
        if ttl.is_zero() || map.is(name, is_newer) {
            return Evicted::nothing();
        }
        let (until, early_from) = (now.after(ttl), freshness.early_from(entry));
        let near = NearEntry::new(name, entry.clone(), until, early_from);
        let gone = map.insert(name.clone(), near.clone(), now);
        Evicted::of(gone, Inserted { map: map.clone(), name: name.clone(), near, at: now })
    }

    /// Whether this very entry is still here.
    pub(crate) fn contains(&self, name: &str, entry: &Arc<Entry<V>>) -> bool {
        let is_same = |near: &NearEntry<V>| Arc::ptr_eq(&near.entry, entry);
        self.map.as_ref().is_some_and(|map| map.is(name, is_same))
    }

    /// Removes the entry if `outdated` says so of its version.
    #[must_use = "dropped by the caller, without the name's lock"]
    pub(crate) fn remove_if(
        &self,
        name: &str,
        outdated: impl Fn(Version) -> bool,
    ) -> Option<Arc<Entry<V>>> {
        let removed = self.map.as_ref()?.remove_if(name, |near| outdated(near.entry.version()));
        removed.map(|near| near.entry)
    }

    /// Removes everything. Called without a lock: values are dropped here.
    pub(crate) fn clear(&self) {
        if let Some(map) = &self.map {
            map.clear();
        }
    }
}
