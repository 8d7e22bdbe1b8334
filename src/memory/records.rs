use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use moka::policy::EvictionPolicy;

use crate::{Entry, Version, far::Record};

/// Entries and tombstones by name, forgotten after their retention. Callers lock the name over each write.
pub(super) struct Records<V> {
    cache: moka::sync::Cache<Arc<str>, Stored<V>>,
}

pub(super) struct Stored<V> {
    /// `None` for a tombstone.
    pub(super) entry: Option<Arc<Entry<V>>>,
    pub(super) version: Version,
    retention: Duration,
}

impl<V> Clone for Stored<V> {
    fn clone(&self) -> Self {
        Self { entry: self.entry.clone(), ..*self }
    }
}

impl<V: Send + Sync + 'static> Records<V> {
    pub(super) fn new(capacity: u64) -> Self {
        let cache = moka::sync::Cache::builder()
            .max_capacity(capacity)
            // TinyLFU may refuse a new key to keep an old one, and a commit that is not kept
            // means another load for every waiter.
            .eviction_policy(EvictionPolicy::lru())
            .expire_after(Retention)
            .build();
        Self { cache }
    }

    pub(super) fn get(&self, name: &str) -> Option<Stored<V>> {
        self.cache.get(name)
    }

    /// Writes unless a newer version is on record, which is returned then.
    pub(super) fn write(&self, name: &str, record: Record<V>) -> Result<Arc<Entry<V>>, Version> {
        let known = self.get(name).map_or(Version::ZERO, |known| known.version);
        let Record { entry, version, retention, .. } = record;
        let (entry, version) = match version {
            Some(version) if version < known => return Err(known),
            Some(version) => (entry, version),
            None => {
                let absent = Entry::new(None, known, entry.fresh_until());
                (Arc::new(absent.loaded_in(entry.load_time())), known)
            }
        };
        let stored = Stored { entry: Some(entry.clone()), version, retention };
        self.cache.insert(name.into(), stored);
        Ok(entry)
    }

    /// Replaces what is below `version` with a tombstone; anything, without one.
    pub(super) fn invalidate(&self, name: &str, version: Option<Version>, retention: Duration) {
        let known = self.get(name);
        let at = known.as_ref().map_or(Version::ZERO, |known| known.version);
        let has_entry = known.is_some_and(|known| known.entry.is_some());
        if has_entry && version.is_some_and(|asked| asked <= at) {
            return;
        }
        let version = version.map_or(at, |version| version.max(at));
        self.cache.insert(name.into(), Stored { entry: None, version, retention });
    }
}

/// moka forgets a record after its retention. Freshness is a matter of the entry's own time, which follows
/// the far tier's clock.
struct Retention;

impl<V> moka::Expiry<Arc<str>, Stored<V>> for Retention {
    fn expire_after_create(
        &self,
        _: &Arc<str>,
        stored: &Stored<V>,
        _: Instant,
    ) -> Option<Duration> {
        Some(stored.retention)
    }

    fn expire_after_update(
        &self,
        _: &Arc<str>,
        stored: &Stored<V>,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(stored.retention)
    }
}
