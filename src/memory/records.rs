use std::{
    mem,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use moka::{notification::RemovalCause, policy::EvictionPolicy};
use parking_lot::Mutex;

use crate::{
    Entry, Version,
    far::Record,
    size::{Panicked, SizeOf},
};

/// Entries and tombstones by name, forgotten after their retention. Callers lock the name over each write,
/// and without it call [`measure`](Self::measure) before and [`settle`](Self::settle) after.
pub(super) struct Records<V> {
    cache: moka::sync::Cache<Arc<str>, Stored<V>>,
    bounds: Bounds,
    size_of: SizeOf<V>,
    gone: Gone<V>,
    evictions: Arc<AtomicU64>,
}

/// What a [`MemoryFar`](super::MemoryFar) holds.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Usage {
    /// Entries and tombstones.
    pub records: u64,
    /// What they take; `None` for a store without a bound in bytes.
    pub bytes: Option<u64>,
    /// How many have left for room, and not because their time was over, since the store was made.
    pub evictions: u64,
}

/// How much is held.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    pub(super) records: u64,
    pub(super) bytes: Option<u64>,
}

pub(super) struct Stored<V> {
    slot: Slot<V>,
    pub(super) version: Version,
    /// Until when the version is kept, by the clock of the cache.
    kept_until: Instant,
    weight: u32,
}

/// An entry, or `None` for a tombstone. Taken out when the record leaves: moka keeps what it has removed for
/// a while, and drops it under whatever lock is held then.
type Slot<V> = Arc<Mutex<Option<Arc<Entry<V>>>>>;

/// Entries that have left, to be dropped without the name's lock.
type Gone<V> = Arc<Mutex<Vec<Arc<Entry<V>>>>>;

/// What a value weighs, measured without the name's lock.
pub(super) enum Measured {
    Bytes(u64),
    /// Its version is kept, and it is not.
    TooLarge,
}

impl<V> Clone for Stored<V> {
    fn clone(&self) -> Self {
        Self { slot: self.slot.clone(), ..*self }
    }
}

impl<V> Stored<V> {
    pub(super) fn entry(&self) -> Option<Arc<Entry<V>>> {
        self.slot.lock().clone()
    }
}

impl<V: Send + Sync + 'static> Records<V> {
    pub(super) fn new(bounds: Bounds, size_of: SizeOf<V>) -> Self {
        let gone = Gone::default();
        let (leaving, evictions) = (gone.clone(), Arc::<AtomicU64>::default());
        let evicted = evictions.clone();
        let cache = moka::sync::Cache::builder()
            .max_capacity(bounds.bytes.unwrap_or(bounds.records))
            .weigher(|_, stored: &Stored<V>| stored.weight)
            // TinyLFU may refuse a new key to keep an old one, and a commit that is not kept
            // means another load for every waiter.
            .eviction_policy(EvictionPolicy::lru())
            .expire_after(Retention)
            .eviction_listener(move |_, stored: Stored<V>, cause| {
                if cause == RemovalCause::Size {
                    evicted.fetch_add(1, Ordering::Relaxed);
                }
                let entry = stored.slot.lock().take();
                leaving.lock().extend(entry);
            })
            .build();
        Self { cache, bounds, size_of, gone, evictions }
    }

    pub(super) fn usage(&self) -> Usage {
        self.cache.run_pending_tasks();
        self.drop_gone();
        Usage {
            records: self.cache.entry_count(),
            bytes: self.bounds.bytes.map(|_| self.cache.weighted_size()),
            evictions: self.evictions.load(Ordering::Relaxed),
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<Stored<V>> {
        self.cache.get(name)
    }

    /// The entry, if it is not a tombstone. Needs no lock: what was replaced after it was found is looked
    /// for once more.
    pub(super) fn entry(&self, name: &str) -> Option<Arc<Entry<V>>> {
        self.get(name)?.entry().or_else(|| self.get(name)?.entry())
    }

    /// Runs the user's size function.
    pub(super) fn measure(&self, name: &str, entry: &Entry<V>) -> Measured {
        let Some(all) = self.bounds.bytes else { return Measured::Bytes(0) };
        match self.size_of.measure(entry) {
            Ok(value) => match self.bounds.record(name, value as u64) {
                bytes if bytes > all / 8 => Measured::TooLarge,
                bytes => Measured::Bytes(bytes),
            },
            Err(Panicked) => {
                tracing::warn!("a size function panicked: the value is not kept in memory");
                Measured::TooLarge
            }
        }
    }

    /// Makes room at once, where bytes are bounded, and drops what has left.
    pub(super) fn settle(&self) {
        if self.bounds.bytes.is_some() {
            self.cache.run_pending_tasks();
        }
        self.drop_gone();
    }

    /// Drops what has left.
    pub(super) fn drop_gone(&self) {
        let gone = mem::take(&mut *self.gone.lock());
        drop(gone);
    }

    /// Writes unless a newer version is on record, which is returned then.
    pub(super) fn write(
        &self,
        name: &str,
        record: Record<V>,
        measured: Measured,
    ) -> Result<Arc<Entry<V>>, Version> {
        let known = self.get(name).map_or(Version::ZERO, |known| known.version);
        let kept_until = self.kept_until(name, record.retention);
        let Record { entry, version, .. } = record;
        let (entry, version) = match version {
            Some(version) if version < known => return Err(known),
            Some(version) => (entry, version),
            None => (Arc::new(entry.absent_at(known)), known),
        };
        let (kept, bytes) = match measured {
            Measured::Bytes(bytes) => (Some(entry.clone()), bytes),
            Measured::TooLarge => (None, self.bounds.record(name, 0)),
        };
        self.store(name, kept, version, kept_until, bytes);
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
        if let Some(stored) = known.filter(|known| stays && known.entry().is_some()) {
            // A slot of its own: that of the record that it replaces is emptied.
            let slot = Arc::new(Mutex::new(stored.entry()));
            self.cache.insert(name.into(), Stored { slot, kept_until, ..stored });
            return;
        }
        let version = version.map_or(at, |version| version.max(at));
        self.store(name, None, version, kept_until, self.bounds.record(name, 0));
    }

    fn store(
        &self,
        name: &str,
        entry: Option<Arc<Entry<V>>>,
        version: Version,
        kept_until: Instant,
        bytes: u64,
    ) {
        let weight = self.bounds.weight(bytes);
        let slot = Arc::new(Mutex::new(entry));
        self.cache.insert(name.into(), Stored { slot, version, kept_until, weight });
    }
}

impl Bounds {
    /// What a record takes, with its name and moka's own needs.
    fn record(self, name: &str, value: u64) -> u64 {
        value.saturating_add(name.len() as u64 + 400)
    }

    /// Both bounds in one: no record weighs less than its share of the bytes.
    fn weight(self, bytes: u64) -> u32 {
        let share = |all: u64| all / self.records.max(1);
        let weight = self.bytes.map_or(1, |all| bytes.max(share(all)).max(1));
        u32::try_from(weight).unwrap_or(u32::MAX)
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
