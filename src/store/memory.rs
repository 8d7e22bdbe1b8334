use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use moka::policy::EvictionPolicy;
use parking_lot::Mutex;

use super::{Begin, Store};
use crate::{
    Clock, Entry, Version,
    entry::Age,
    far::{Commit, Error, Put, Record, Renewal},
};

/// A store inside this process: the reference for the others. Clones are the same store.
#[derive(Clone)]
pub struct Memory<V> {
    inner: Arc<Inner<V>>,
}

struct Inner<V> {
    clock: Clock,
    records: Records<V>,
    /// The open loads' fencing tokens. Held over every write, which thereby is one step with the
    /// question whose load is open.
    open: Mutex<HashMap<Arc<str>, u64>>,
}

impl<V: Send + Sync + 'static> Memory<V> {
    /// A store of at most 100,000 records on the system's clock.
    pub fn new() -> Self {
        Self::with(100_000, Clock::system())
    }

    /// A store of at most `capacity` records on `clock`.
    pub fn with(capacity: u64, clock: Clock) -> Self {
        let (records, open) = (Records::new(capacity), Mutex::default());
        Self { inner: Arc::new(Inner { clock, records, open }) }
    }
}

impl<V: Send + Sync + 'static> Default for Memory<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V: Send + Sync + 'static> Store<V> for Memory<V> {
    fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    async fn get(&self, name: &str) -> Result<Option<Arc<Entry<V>>>, Error> {
        Ok(self.inner.records.get(name).and_then(|stored| stored.entry))
    }

    async fn begin(&self, name: &str, fence: u64) -> Result<Begin<V>, Error> {
        let mut open = self.inner.open.lock();
        let stored = self.inner.records.get(name);
        let minimum = stored.as_ref().map_or(Version::ZERO, |stored| stored.version);
        let seen = stored.as_ref().map_or(0, |stored| stored.fence);
        if let Some(entry) = stored.and_then(|stored| stored.entry)
            && entry.age(self.inner.clock.now(), Duration::ZERO) == Age::Fresh
        {
            return Ok(Begin::Hit(entry));
        }
        if fence < seen.max(open.get(name).copied().unwrap_or(0)) {
            return Ok(Begin::Fenced);
        }
        open.insert(name.into(), fence);
        Ok(Begin::Begun { minimum })
    }

    async fn check(&self, name: &str, fence: u64) -> Result<Renewal, Error> {
        let open = self.inner.open.lock().get(name) == Some(&fence);
        Ok(if open { Renewal::Renewed } else { Renewal::Lost })
    }

    async fn commit(&self, name: &str, fence: u64, record: Record<V>) -> Result<Commit<V>, Error> {
        let mut open = self.inner.open.lock();
        if open.get(name) != Some(&fence) {
            return Ok(Commit::Lost);
        }
        open.remove(name);
        Ok(match self.inner.records.write(name, record, fence) {
            Ok(entry) => Commit::Stored(entry),
            Err(minimum) => Commit::Older { minimum },
        })
    }

    async fn end(&self, name: &str, fence: u64) -> Result<(), Error> {
        let mut open = self.inner.open.lock();
        if open.get(name) == Some(&fence) {
            open.remove(name);
        }
        Ok(())
    }

    async fn put(&self, name: &str, record: Record<V>) -> Result<Put<V>, Error> {
        let mut open = self.inner.open.lock();
        let past = open.get(name).map_or(0, |fence| fence.saturating_add(1));
        Ok(match self.inner.records.write(name, record, past) {
            Ok(entry) => {
                open.remove(name);
                Put::Stored(entry)
            }
            Err(minimum) => Put::Older { minimum },
        })
    }

    async fn invalidate(
        &self,
        name: &str,
        version: Option<Version>,
        retention: Duration,
    ) -> Result<(), Error> {
        let mut open = self.inner.open.lock();
        let past = open.remove(name).map_or(0, |fence| fence.saturating_add(1));
        self.inner.records.invalidate(name, version, retention, past);
        Ok(())
    }
}

/// Entries and tombstones by name, forgotten after their retention. Its callers hold a lock on the name
/// over each write.
pub(crate) struct Records<V> {
    cache: moka::sync::Cache<Arc<str>, Stored<V>>,
}

pub(crate) struct Stored<V> {
    /// `None` for a tombstone.
    pub(crate) entry: Option<Arc<Entry<V>>>,
    pub(crate) version: Version,
    retention: Duration,
    /// The greatest fencing token seen.
    fence: u64,
}

impl<V> Clone for Stored<V> {
    fn clone(&self) -> Self {
        Self { entry: self.entry.clone(), ..*self }
    }
}

impl<V: Send + Sync + 'static> Records<V> {
    pub(crate) fn new(capacity: u64) -> Self {
        let cache = moka::sync::Cache::builder()
            .max_capacity(capacity)
            // TinyLFU may refuse a new key to keep an old one, and a commit that is not kept
            // means another load for every waiter.
            .eviction_policy(EvictionPolicy::lru())
            .expire_after(Retention)
            .build();
        Self { cache }
    }

    pub(crate) fn get(&self, name: &str) -> Option<Stored<V>> {
        self.cache.get(name)
    }

    /// Writes unless a newer version is on record, which is returned then.
    pub(crate) fn write(
        &self,
        name: &str,
        record: Record<V>,
        fence: u64,
    ) -> Result<Arc<Entry<V>>, Version> {
        let known = self.get(name);
        let (known, seen) = known.map_or((Version::ZERO, 0), |known| (known.version, known.fence));
        let Record { entry, version, retention, .. } = record;
        let (entry, version) = match version {
            Some(version) if version < known => return Err(known),
            Some(version) => (entry, version),
            None => (Arc::new(Entry::new(None, known, entry.fresh_until())), known),
        };
        let fence = fence.max(seen);
        let stored = Stored { entry: Some(entry.clone()), version, retention, fence };
        self.cache.insert(name.into(), stored);
        Ok(entry)
    }

    pub(crate) fn invalidate(
        &self,
        name: &str,
        version: Option<Version>,
        retention: Duration,
        fence: u64,
    ) {
        let known = self.get(name);
        let (at, seen) =
            known.as_ref().map_or((Version::ZERO, 0), |known| (known.version, known.fence));
        let fence = fence.max(seen);
        let stored = match known {
            Some(stored) if stored.entry.is_some() && version.is_some_and(|asked| asked <= at) => {
                if fence == seen {
                    return;
                }
                Stored { fence, ..stored }
            }
            _ => {
                let version = version.map_or(at, |version| version.max(at));
                Stored { entry: None, version, retention, fence }
            }
        };
        self.cache.insert(name.into(), stored);
    }
}

/// moka forgets a record after its retention; what is fresh is judged by the entry's own time, which
/// follows the store's clock.
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
