//! Records live in moka, which bounds them and forgets them after their retention; leases live in
//! sharded maps beside it. Every operation on a name runs under that name's shard lock, so record and
//! lease are judged at one moment. Watchers are called after the lock is released.

use std::{
    collections::HashMap,
    fmt,
    hash::BuildHasher,
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::{Mutex, MutexGuard};

use super::records::{Bounds, Records, Usage};
use crate::{
    Clock, Entry, Fault, Moment, Version,
    far::{
        Attempt, Commit, Event, Far, Grant, Invalidated, Put, Record, Renewal, Token, Watcher,
        Watchers,
    },
    size::SizeOf,
    sync::RandomState,
};

const SHARDS: usize = 64;
/// How much longer than its back-off a failure is remembered, at least.
const REMEMBERED: Duration = Duration::from_secs(1);

/// A far tier in this process. Guards that share a clone elect one load among them, as processes that share a
/// Redis do.
///
/// Holds 100,000 records by default. An evicted record takes its version with it: the lease still guards
/// commits, but an outdated read is no longer recognised.
pub struct MemoryFar<V> {
    inner: Arc<Inner<V>>,
}

struct Inner<V> {
    clock: Clock,
    records: Records<V>,
    leases: Box<[Mutex<Leases>]>,
    hasher: RandomState,
    watchers: Watchers,
}

#[derive(Default)]
struct Leases {
    live: HashMap<Arc<str>, Lease>,
    /// The last fence granted in this shard, so fences of a name grow without a counter per name.
    fence: u64,
    /// Size at which expired leases of lost holders are swept.
    sweep_at: usize,
}

#[derive(Clone, Copy)]
struct Lease {
    /// `None` for the back-off after a failed load.
    token: Option<Token>,
    fence: u64,
    until: Moment,
    /// Failed loads in a row, and how long that is remembered.
    failures: u32,
    remembered_until: Moment,
    /// How often another was told that it is held.
    waiters: usize,
}

impl<V: Send + Sync + 'static> MemoryFar<V> {
    /// A store of at most 100,000 records on the system's clock.
    pub fn new() -> Self {
        Self::with(100_000, Clock::system())
    }

    /// A store of at most `capacity` records on `clock`.
    pub fn with(capacity: u64, clock: Clock) -> Self {
        Self::of(Bounds { records: capacity, bytes: None }, SizeOf::default(), clock)
    }

    /// A store of at most `capacity` records and `bytes` bytes on `clock`. `size_of` says what a value holds,
    /// in bytes; its name and what surrounds it is counted, too. A value of more than an eighth of the bound is not
    /// kept, only its version, nor is one for which `size_of` panics. Take it where values are large, or of
    /// very different sizes.
    ///
    /// ```
    /// use cattleguard::{Clock, memory::MemoryFar};
    ///
    /// let pages: MemoryFar<String> =
    ///     MemoryFar::bounded(100_000, 64 << 20, Clock::system(), String::capacity);
    /// ```
    pub fn bounded(
        capacity: u64,
        bytes: u64,
        clock: Clock,
        size_of: impl Fn(&V) -> usize + Send + Sync + 'static,
    ) -> Self {
        Self::of(Bounds { records: capacity, bytes: Some(bytes) }, SizeOf::by(size_of), clock)
    }

    /// The far tier of a guard that has no other: with the guard's bound in bytes.
    pub(crate) fn embedded(
        capacity: u64,
        bytes: Option<u64>,
        clock: Clock,
        size_of: SizeOf<V>,
    ) -> Self {
        Self::of(Bounds { records: capacity, bytes }, size_of, clock)
    }

    fn of(bounds: Bounds, size_of: SizeOf<V>, clock: Clock) -> Self {
        let leases = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self {
            inner: Arc::new(Inner {
                clock,
                records: Records::new(bounds, size_of),
                leases,
                hasher: RandomState::default(),
                watchers: Watchers::default(),
            }),
        }
    }

    /// What the store holds now, for your own metrics: it may serve several guards. Takes longer than a read, as it first
    /// does what the store has put off.
    ///
    /// ```
    /// use cattleguard::memory::MemoryFar;
    ///
    /// let pages = MemoryFar::<String>::new();
    /// assert_eq!((pages.usage().records, pages.usage().evictions), (0, 0));
    /// ```
    pub fn usage(&self) -> Usage {
        self.inner.records.usage()
    }

    /// How many leases are live or not yet swept.
    #[doc(hidden)]
    pub fn lease_count(&self) -> usize {
        self.inner.leases.iter().map(|shard| shard.lock().live.len()).sum()
    }
}

impl<V: Send + Sync + 'static> Default for MemoryFar<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V> Clone for MemoryFar<V> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<V> fmt::Debug for MemoryFar<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryFar").field("clock", &self.inner.clock).finish_non_exhaustive()
    }
}

impl<V: Send + Sync + 'static> Far<V> for MemoryFar<V> {
    fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    async fn read(&self, name: &str) -> Result<Option<Arc<Entry<V>>>, Fault> {
        let entry = self.inner.records.entry(name);
        self.inner.records.drop_gone();
        Ok(entry)
    }

    async fn look_up_or_lease(
        &self,
        name: &str,
        token: Token,
        ttl: Duration,
        fresh_for: Duration,
    ) -> Result<Attempt<V>, Fault> {
        let mut leases = self.inner.shard(name);
        let now = self.inner.clock.now();
        let stored = self.inner.records.get(name);
        let minimum = stored.as_ref().map_or(Version::ZERO, |stored| stored.version);
        if let Some(entry) = stored.and_then(|stored| stored.entry())
            && entry.is_fresh_at(now.after(fresh_for))
        {
            return Ok(Attempt::Hit(entry));
        }
        if let Some(lease) = leases.live(name, now)
            && lease.token != Some(token)
        {
            let remaining = lease.until.since(now);
            if lease.token.is_none() {
                return Ok(Attempt::BackOff { remaining });
            }
            lease.waiters += 1;
            return Ok(Attempt::Held { remaining, ahead: lease.waiters - 1 });
        }
        let (fence, failures) = leases.grant(name, token, now, now.after(ttl));
        Ok(Attempt::Granted(Grant::new(fence, minimum, failures)))
    }

    async fn commit(
        &self,
        name: &str,
        token: Token,
        record: Record<V>,
    ) -> Result<Commit<V>, Fault> {
        let measured = self.inner.records.measure(name, &record.entry);
        let mut leases = self.inner.shard(name);
        let Some(lease) = leases.take(name, token, self.inner.clock.now()) else {
            return Ok(Commit::Lost);
        };
        // Of a value that is too large, or invalidated, the version alone is there.
        let before = self.inner.records.get(name).map(|stored| stored.version);
        let written = self.inner.records.write(name, record, measured);
        drop(leases);
        self.inner.records.settle();
        match written {
            Ok(entry) => {
                let version = entry.version();
                if before.is_some_and(|before| before < version) || lease.waiters > 0 {
                    self.inner.watchers.tell(Event::Committed { name, version });
                }
                Ok(Commit::Stored(entry))
            }
            Err(minimum) => {
                self.inner.tell_end(name, lease);
                Ok(Commit::Older { minimum })
            }
        }
    }

    async fn renew(&self, name: &str, token: Token, ttl: Duration) -> Result<Renewal, Fault> {
        let mut leases = self.inner.shard(name);
        let now = self.inner.clock.now();
        match leases.live(name, now) {
            Some(lease) if lease.token == Some(token) => {
                lease.until = now.after(ttl);
                Ok(Renewal::Renewed)
            }
            _ => Ok(Renewal::Lost),
        }
    }

    async fn release(&self, name: &str, token: Token) -> Result<(), Fault> {
        let released = self.inner.shard(name).take(name, token, self.inner.clock.now());
        if let Some(lease) = released {
            self.inner.tell_end(name, lease);
        }
        Ok(())
    }

    async fn fail(&self, name: &str, token: Token, back_off: Duration) -> Result<(), Fault> {
        let now = self.inner.clock.now();
        let mut leases = self.inner.shard(name);
        let Some(lease) = leases.live(name, now).filter(|lease| lease.token == Some(token)) else {
            return Ok(());
        };
        lease.token = None;
        lease.failures = lease.failures.saturating_add(1);
        lease.until = now.after(back_off);
        lease.remembered_until = lease.until.after(back_off).after(REMEMBERED);
        let failed = *lease;
        drop(leases);
        self.inner.tell_end(name, failed);
        Ok(())
    }

    async fn put(&self, name: &str, record: Record<V>) -> Result<Put<V>, Fault> {
        let measured = self.inner.records.measure(name, &record.entry);
        let mut leases = self.inner.shard(name);
        let written = self.inner.records.write(name, record, measured);
        if written.is_ok() {
            leases.live.remove(name);
        }
        drop(leases);
        self.inner.records.settle();
        match written {
            Ok(entry) => {
                self.inner.watchers.tell(Event::Put { name, version: entry.version() });
                Ok(Put::Stored(entry))
            }
            Err(minimum) => Ok(Put::Older { minimum }),
        }
    }

    async fn invalidate(
        &self,
        name: &str,
        version: Option<Version>,
        retention: Duration,
    ) -> Result<Invalidated, Fault> {
        let mut leases = self.inner.shard(name);
        leases.live.remove(name);
        self.inner.records.invalidate(name, version, retention);
        drop(leases);
        self.inner.records.settle();
        self.inner.watchers.tell(Event::Invalidated { name, version });
        Ok(Invalidated::Everywhere)
    }

    fn watch(&self, watcher: Weak<dyn Watcher>) {
        self.inner.watchers.add(watcher.clone());
        if let Some(watcher) = watcher.upgrade() {
            watcher.on_event(Event::Connected);
        }
    }
}

impl<V: Send + Sync + 'static> Inner<V> {
    /// Tells those that wait.
    fn tell_end(&self, name: &str, lease: Lease) {
        if lease.waiters > 0 {
            self.watchers.tell(Event::Released { name });
        }
    }

    fn shard(&self, name: &str) -> MutexGuard<'_, Leases> {
        self.leases[self.hasher.hash_one(name) as usize % SHARDS].lock()
    }
}

impl Leases {
    fn live(&mut self, name: &str, now: Moment) -> Option<&mut Lease> {
        self.live.get_mut(name).filter(|lease| now < lease.until)
    }

    /// The fence, and the failures in a row.
    fn grant(&mut self, name: &str, token: Token, now: Moment, until: Moment) -> (u64, u32) {
        if let Some(lease) = self.live(name, now)
            && lease.token == Some(token)
        {
            lease.until = until;
            return (lease.fence, lease.failures);
        }
        if self.live.len() >= self.sweep_at.max(64) {
            self.live.retain(|_, lease| now < lease.until.max(lease.remembered_until));
            self.sweep_at = self.live.len() * 2;
        }
        self.fence += 1;
        let before = self.live.get(name).filter(|lease| now < lease.remembered_until);
        let (failures, remembered_until) =
            before.map_or((0, now), |lease| (lease.failures, lease.remembered_until));
        let fence = self.fence;
        let lease =
            Lease { token: Some(token), fence, until, failures, remembered_until, waiters: 0 };
        self.live.insert(name.into(), lease);
        (fence, failures)
    }

    fn take(&mut self, name: &str, token: Token, now: Moment) -> Option<Lease> {
        self.live(name, now).filter(|lease| lease.token == Some(token))?;
        self.live.remove(name)
    }
}
