//! The near tier: a bounded map in this process. Entries carry their own times, so nothing here
//! expires by itself; a look decides.

use std::{sync::Arc, time::Duration};

use crate::{Clock, Entry, Moment, Version, entry::Age};

pub(crate) struct Near<V> {
    clock: Clock,
    /// β of XFetch.
    early_refresh: f64,
    /// `None` turns the tier off.
    entries: Option<quick_cache::sync::Cache<Arc<str>, Kept<V>>>,
}

/// Entries that had to make room.
pub(crate) struct Evicted<V>([Option<(Arc<str>, Kept<V>)>; 2]);

impl<V> Default for Evicted<V> {
    fn default() -> Self {
        Self([None, None])
    }
}

struct Kept<V> {
    entry: Arc<Entry<V>>,
    until: Moment,
    /// Before this no request refreshes it early, as good as never: one comparison on the path of a hit
    /// instead of a logarithm.
    early_from: Moment,
}

impl<V> Clone for Kept<V> {
    fn clone(&self) -> Self {
        Self { entry: self.entry.clone(), ..*self }
    }
}

pub(crate) enum Look<V> {
    Fresh(Arc<Entry<V>>),
    /// Fresh, and this request is the one that refreshes it before its end.
    Early(Arc<Entry<V>>),
    Stale(Arc<Entry<V>>),
    Miss,
}

impl<V> Near<V> {
    pub(crate) fn new(capacity: usize, early_refresh: f64, clock: Clock) -> Self {
        let entries = (capacity > 0).then(|| quick_cache::sync::Cache::new(capacity));
        Self { clock, early_refresh, entries }
    }

    pub(crate) fn look(&self, name: &str, grace: impl FnOnce(&Entry<V>) -> Duration) -> Look<V> {
        let Some(kept) = self.entries.as_ref().and_then(|entries| entries.get(name)) else {
            return Look::Miss;
        };
        let now = self.clock.now();
        if now >= kept.until {
            return Look::Miss;
        }
        // First, for a hit asks for nothing else.
        if now < kept.early_from {
            return Look::Fresh(kept.entry);
        }
        let grace = grace(&kept.entry);
        match kept.entry.age(now, grace) {
            Age::Fresh if kept.entry.is_early(now, self.early_refresh) => Look::Early(kept.entry),
            Age::Fresh => Look::Fresh(kept.entry),
            Age::Stale => Look::Stale(kept.entry),
            Age::Dead => Look::Miss,
        }
    }

    /// Keeps `entry` for `ttl` at most, unless a newer one is there or `ttl` is zero.
    ///
    /// Callers hold the name's lock in `Flights`, which makes look-then-insert one step.
    #[must_use = "dropped by the caller, without the name's lock"]
    pub(crate) fn keep(&self, name: &Arc<str>, entry: &Arc<Entry<V>>, ttl: Duration) -> Evicted<V> {
        let mut evicted = Evicted::default();
        let Some(entries) = &self.entries else { return evicted };
        let now = self.clock.now();
        let newer = |kept: Kept<V>| kept.entry.version() > entry.version() && now < kept.until;
        if ttl.is_zero() || entries.peek(name).is_some_and(newer) {
            return evicted;
        }
        let (until, early_from) = (now.after(ttl), entry.early_from(self.early_refresh));
        let kept = Kept { entry: entry.clone(), until, early_from };
        entries.insert_with_lifecycle(name.clone(), kept, &mut evicted.0);
        evicted
    }

    /// Whether this very entry is still here.
    pub(crate) fn holds(&self, name: &str, entry: &Arc<Entry<V>>) -> bool {
        let kept = self.entries.as_ref().and_then(|entries| entries.peek(name));
        kept.is_some_and(|kept| Arc::ptr_eq(&kept.entry, entry))
    }

    /// Drops the entry if `outdated` says so of its version.
    #[must_use = "dropped by the caller, without the name's lock"]
    pub(crate) fn drop_if(
        &self,
        name: &str,
        outdated: impl Fn(Version) -> bool,
    ) -> Option<Arc<Entry<V>>> {
        let entries = self.entries.as_ref()?;
        let dropped = entries.remove_if(name, |kept| outdated(kept.entry.version()));
        dropped.map(|(_, kept)| kept.entry)
    }

    /// Drops everything.
    pub(crate) fn clear(&self) {
        if let Some(entries) = &self.entries {
            entries.clear();
        }
    }
}
