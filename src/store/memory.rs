use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use moka::policy::EvictionPolicy;
use parking_lot::Mutex;

use super::{Begin, Look, Store};
use crate::{
    Clock, Entry, Moment, Version,
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
    /// Held over every write, which thereby is one step with the question whose load is open.
    loads: Mutex<Loads>,
}

#[derive(Default)]
struct Loads {
    by_name: HashMap<Arc<str>, Load>,
    /// Size at which failures that are to be forgotten are swept.
    sweep_at: usize,
}

struct Load {
    fence: u64,
    /// The end of the pause after the load failed; `None` while it is open.
    paused_until: Option<Moment>,
    /// Failed loads in a row, and how long that is remembered after the last one.
    failures: u32,
    remembered_until: Moment,
}

/// How much longer than its pause a failure is remembered, at least.
pub(crate) const REMEMBERED: Duration = Duration::from_secs(1);

impl<V: Send + Sync + 'static> Memory<V> {
    /// A store of at most 100,000 records on the system's clock.
    pub fn new() -> Self {
        Self::with(100_000, Clock::system())
    }

    /// A store of at most `capacity` records on `clock`.
    pub fn with(capacity: u64, clock: Clock) -> Self {
        let (records, loads) = (Records::new(capacity), Mutex::default());
        Self { inner: Arc::new(Inner { clock, records, loads }) }
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

    async fn look_up(&self, name: &str, fresh_for: Duration) -> Result<Look<V>, Error> {
        let loads = self.inner.loads.lock();
        let now = self.inner.clock.now();
        if let Some(entry) = self.inner.fresh(name, now.after(fresh_for)) {
            return Ok(Look::Hit(entry));
        }
        Ok(loads.pause(name, now).map_or(Look::Miss, |remaining| Look::Paused { remaining }))
    }

    async fn begin(&self, name: &str, fence: u64, fresh_for: Duration) -> Result<Begin<V>, Error> {
        let mut loads = self.inner.loads.lock();
        let now = self.inner.clock.now();
        if let Some(entry) = self.inner.fresh(name, now.after(fresh_for)) {
            return Ok(Begin::Hit(entry));
        }
        if let Some(remaining) = loads.pause(name, now) {
            return Ok(Begin::Paused { remaining });
        }
        let stored = self.inner.records.get(name);
        let (minimum, seen) =
            stored.map_or((Version::ZERO, 0), |stored| (stored.version, stored.fence));
        let before = loads.by_name.get(name).filter(|load| load.is_remembered(now));
        if fence < before.map_or(seen, |load| load.fence.max(seen)) {
            return Ok(Begin::Fenced);
        }
        let failures = before.map_or(0, |load| load.failures);
        let load = Load { fence, paused_until: None, failures, remembered_until: now };
        loads.by_name.insert(name.into(), load);
        Ok(Begin::Begun { minimum, failures })
    }

    async fn check(&self, name: &str, fence: u64) -> Result<Renewal, Error> {
        let open = self.inner.loads.lock().open(name, fence).is_some();
        Ok(if open { Renewal::Renewed } else { Renewal::Lost })
    }

    async fn commit(&self, name: &str, fence: u64, record: Record<V>) -> Result<Commit<V>, Error> {
        let mut loads = self.inner.loads.lock();
        if loads.open(name, fence).is_none() {
            return Ok(Commit::Lost);
        }
        loads.by_name.remove(name);
        Ok(match self.inner.records.write(name, record, fence) {
            Ok(entry) => Commit::Stored(entry),
            Err(minimum) => Commit::Older { minimum },
        })
    }

    async fn end(&self, name: &str, fence: u64) -> Result<(), Error> {
        let mut loads = self.inner.loads.lock();
        if loads.open(name, fence).is_some() {
            loads.by_name.remove(name);
        }
        Ok(())
    }

    async fn fail(&self, name: &str, fence: u64, pause: Duration) -> Result<(), Error> {
        let mut loads = self.inner.loads.lock();
        let now = self.inner.clock.now();
        if let Some(load) = loads.open(name, fence) {
            let until = now.after(pause);
            load.paused_until = Some(until);
            load.failures = load.failures.saturating_add(1);
            load.remembered_until = until.after(pause).after(REMEMBERED);
            loads.sweep(now);
        }
        Ok(())
    }

    async fn put(&self, name: &str, record: Record<V>) -> Result<Put<V>, Error> {
        let mut loads = self.inner.loads.lock();
        let past = loads.by_name.get(name).map_or(0, |load| load.fence.saturating_add(1));
        Ok(match self.inner.records.write(name, record, past) {
            Ok(entry) => {
                loads.by_name.remove(name);
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
        let mut loads = self.inner.loads.lock();
        let past = loads.by_name.remove(name).map_or(0, |load| load.fence.saturating_add(1));
        self.inner.records.invalidate(name, version, retention, past);
        Ok(())
    }
}

impl<V: Send + Sync + 'static> Inner<V> {
    fn fresh(&self, name: &str, at: Moment) -> Option<Arc<Entry<V>>> {
        let entry = self.records.get(name)?.entry?;
        (entry.age(at, Duration::ZERO) == Age::Fresh).then_some(entry)
    }
}

impl Loads {
    fn open(&mut self, name: &str, fence: u64) -> Option<&mut Load> {
        let load = self.by_name.get_mut(name)?;
        (load.fence == fence && load.paused_until.is_none()).then_some(load)
    }

    /// The rest of the pause.
    fn pause(&self, name: &str, now: Moment) -> Option<Duration> {
        let until = self.by_name.get(name)?.paused_until?;
        (now < until).then(|| until.since(now))
    }

    fn sweep(&mut self, now: Moment) {
        if self.by_name.len() >= self.sweep_at.max(64) {
            self.by_name.retain(|_, load| load.is_remembered(now));
            self.sweep_at = self.by_name.len() * 2;
        }
    }
}

impl Load {
    fn is_remembered(&self, now: Moment) -> bool {
        self.paused_until.is_none() || now < self.remembered_until
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
            None => {
                let absent = Entry::new(None, known, entry.fresh_until());
                (Arc::new(absent.loaded_in(entry.load_time())), known)
            }
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
