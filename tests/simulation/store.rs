//! The store that all processes share: a `MemoryFar` that can lose what it holds.

use std::{
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use cattleguard::{
    Clock, Entry, Version,
    far::{Attempt, Event, Far, Record, Token, Watcher},
    memory::MemoryFar,
};
use futures::FutureExt;
use parking_lot::Mutex;

/// What is cached: which load or put it came from, and the version of its row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Value {
    pub(crate) source: u64,
    pub(crate) version: u64,
}

pub(crate) struct Store {
    clock: Clock,
    names: Vec<String>,
    memory: Mutex<MemoryFar<Value>>,
    watcher: OnceLock<Arc<Once>>,
}

/// What a store held: per name the entry and the version on record.
pub(crate) type Snapshot = Vec<(String, Option<Arc<Entry<Value>>>, Version)>;

/// Longer than a run.
const LONG: Duration = Duration::from_secs(3600);

impl Store {
    pub(crate) fn new(clock: Clock, keys: u32) -> Self {
        let names = (0..u64::from(keys)).map(|key| key.to_string()).collect();
        let memory = Mutex::new(memory(&clock));
        Self { clock, names, memory, watcher: OnceLock::new() }
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The store as it is now.
    pub(crate) fn memory(&self) -> MemoryFar<Value> {
        self.memory.lock().clone()
    }

    /// `watcher` is told of everything from now on, also after a restart.
    pub(crate) fn watch(&self, watcher: Weak<dyn Watcher>) {
        let once = self.watcher.get_or_init(|| Arc::new(Once(watcher)));
        self.memory().watch(once.weak());
    }

    /// Loses the records and leases of names for which `loses` says so, and every other lease, too.
    pub(crate) fn lose(&self, mut loses: impl FnMut(&str) -> bool) {
        let kept = self.snapshot().into_iter().filter(|(name, ..)| !loses(name));
        self.restore(&kept.collect());
    }

    /// A lease hides the version of a tombstone: that is not in the snapshot.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let memory = self.memory();
        let of = |name: &String| {
            let entry = at_once(memory.read(name)).unwrap_or_default();
            let token = Token::random();
            let leasing = memory.look_up_or_lease(name, token, LONG, LONG);
            let mut version = entry.as_ref().map_or(Version::ZERO, |entry| entry.version());
            if let Ok(Attempt::Granted(grant)) = at_once(leasing) {
                version = grant.minimum;
                let _ = at_once(memory.release(name, token));
            }
            (name.clone(), entry, version)
        };
        self.names.iter().map(of).collect()
    }

    /// What the store held then is all that it holds.
    pub(crate) fn restore(&self, snapshot: &Snapshot) {
        let restored = memory(&self.clock);
        for (name, entry, version) in snapshot {
            if *version > Version::ZERO {
                let _ = at_once(restored.invalidate(name, Some(*version), LONG));
            }
            if let Some(entry) = entry {
                let _ = at_once(restored.put(name, Record::new(entry.clone(), LONG, LONG)));
            }
        }
        if let Some(watcher) = self.watcher.get() {
            restored.watch(watcher.weak());
        }
        *self.memory.lock() = restored;
    }
}

fn memory(clock: &Clock) -> MemoryFar<Value> {
    MemoryFar::with(100_000, clock.clone())
}

/// `MemoryFar` awaits nothing.
pub(crate) fn at_once<T>(call: impl Future<Output = T>) -> T {
    call.now_or_never().expect("a call in memory is never pending")
}

/// A store in memory tells each new watcher that messages arrive. This one is told by its link.
struct Once(Weak<dyn Watcher>);

impl Once {
    fn weak(self: &Arc<Self>) -> Weak<dyn Watcher> {
        let this: Arc<dyn Watcher> = self.clone();
        Arc::downgrade(&this)
    }
}

impl Watcher for Once {
    fn on_event(&self, event: Event<'_>) {
        if !matches!(event, Event::Connected | Event::Disconnected)
            && let Some(watcher) = self.0.upgrade()
        {
            watcher.on_event(event);
        }
    }
}
