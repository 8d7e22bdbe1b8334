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
    /// Until when the version is kept, by the clock of the cache.
    kept_until: Instant,
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
        let kept_until = self.kept_until(name, record.retention);
        let Record { entry, version, .. } = record;
        let (entry, version) = match version {
            Some(version) if version < known => return Err(known),
            Some(version) => (entry, version),
            None => {
                let absent = Entry::new(None, known, entry.fresh_until());
                (Arc::new(absent.loaded_in(entry.load_time())), known)
            }
        };
        let stored = Stored { entry: Some(entry.clone()), version, kept_until };
        self.cache.insert(name.into(), stored);
        Ok(entry)
    }

    /// No sooner than an earlier invalidation or write asked for: its version is in what replaces it.
    fn kept_until(&self, name: &str, retention: Duration) -> Instant {
        let asked = later(retention);
        self.get(name).map_or(asked, |known| known.kept_until.max(asked))
    }

    /// Replaces what is below `version` with a tombstone; anything, without one. What stays is kept for the
    /// retention, too.
    pub(super) fn invalidate(&self, name: &str, version: Option<Version>, retention: Duration) {
        let kept_until = self.kept_until(name, retention);
        let known = self.get(name);
        let at = known.as_ref().map_or(Version::ZERO, |known| known.version);
        let stays = version.is_some_and(|asked| asked <= at);
        let entry = known.and_then(|known| known.entry).filter(|_| stays);
        let version = version.map_or(at, |version| version.max(at));
        self.cache.insert(name.into(), Stored { entry, version, kept_until });
    }
}

/// A moment after this duration; in a century, when it is too long for a clock.
fn later(duration: Duration) -> Instant {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
    let now = Instant::now();
    now.checked_add(duration.min(CENTURY)).unwrap_or(now)
}

/// moka forgets a record after its retention. Freshness is a matter of the entry's own time, which follows
/// the far tier's clock.
struct Retention;

impl<V> moka::Expiry<Arc<str>, Stored<V>> for Retention {
    fn expire_after_create(
        &self,
        _: &Arc<str>,
        stored: &Stored<V>,
        now: Instant,
    ) -> Option<Duration> {
        Some(stored.kept_until.saturating_duration_since(now))
    }

    fn expire_after_update(
        &self,
        _: &Arc<str>,
        stored: &Stored<V>,
        now: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(stored.kept_until.saturating_duration_since(now))
    }
}
