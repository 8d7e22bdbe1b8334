//! What all processes share: the store, the way its messages take, and the record.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use cattleguard::{
    Clock, Version,
    far::{Event, Far, Watcher},
};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    mailbox::{Mailbox, Message, ReplyTo},
    record::Record,
    store::{Store, at_once},
};

pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) record: Record,
    mailboxes: Mutex<BTreeMap<u32, Arc<Mailbox>>>,
    /// Of the invalidation that the store carries out just now.
    reply_to: Mutex<Option<ReplyTo>>,
    next_number: AtomicU64,
    /// How long a command takes at most in each direction, in milliseconds.
    pub(crate) latency: u64,
    away: Mutex<Option<Away>>,
    is_full: AtomicBool,
    /// A clock that can be set, and until when it has followed tokio's.
    set_clock: Option<Mutex<Instant>>,
}

/// A store that does not answer.
#[derive(Clone, Copy)]
pub(crate) struct Away {
    pub(crate) until: Instant,
    /// Refuses connections; otherwise it is only silent, and carries out later what it has received.
    pub(crate) refuses: bool,
}

impl World {
    pub(crate) fn new(keys: u32, latency: u64, has_set_clock: bool) -> Arc<Self> {
        let clock = if has_set_clock { Clock::manual() } else { Clock::tokio() };
        // There is a past to which it can be set back. Does nothing to tokio's.
        clock.advance(Duration::from_secs(24 * 3600));
        let world = Arc::new(Self {
            store: Store::new(clock, keys),
            record: Record::new(),
            mailboxes: Mutex::default(),
            reply_to: Mutex::default(),
            next_number: AtomicU64::new(0),
            latency,
            away: Mutex::default(),
            is_full: AtomicBool::new(false),
            set_clock: has_set_clock.then(|| Mutex::new(Instant::now())),
        });
        let watcher: Arc<dyn Watcher> = world.clone();
        world.store.watch(Arc::downgrade(&watcher));
        world
    }

    pub(crate) fn join(&self, process: u32, mailbox: &Arc<Mailbox>) {
        self.mailboxes.lock().insert(process, mailbox.clone());
    }

    pub(crate) fn leave(&self, process: u32) {
        self.mailboxes.lock().remove(&process);
    }

    /// Mailboxes and world keep each other.
    pub(crate) fn end(&self) {
        self.mailboxes.lock().clear();
    }

    pub(crate) fn number(&self) -> u64 {
        self.next_number.fetch_add(1, Ordering::Relaxed)
    }

    /// Carries out an invalidation, and returns how many are to confirm it.
    pub(crate) fn invalidate(
        &self,
        name: &str,
        version: Option<Version>,
        retention: Duration,
        reply_to: Option<ReplyTo>,
    ) -> usize {
        *self.reply_to.lock() = reply_to;
        let _ = at_once(self.store.memory().invalidate(name, version, retention));
        *self.reply_to.lock() = None;
        self.mailboxes.lock().values().filter(|mailbox| mailbox.is_counted()).count()
    }

    pub(crate) fn away(&self) -> Option<Away> {
        self.away.lock().filter(|away| Instant::now() < away.until)
    }

    pub(crate) fn go_away(&self, away: Away) {
        *self.away.lock() = Some(away);
    }

    pub(crate) fn is_full(&self) -> bool {
        self.is_full.load(Ordering::Relaxed)
    }

    pub(crate) fn set_full(&self, is_full: bool) {
        self.is_full.store(is_full, Ordering::Relaxed);
    }

    /// Lets a clock that can be set follow tokio's.
    pub(crate) fn tick(&self) {
        if let Some(followed) = &self.set_clock {
            let (now, mut followed) = (Instant::now(), followed.lock());
            self.store.clock().advance(now - *followed);
            *followed = now;
        }
    }

    /// Sets the clock forward.
    pub(crate) fn advance_clock(&self, by: Duration) {
        self.tick();
        self.store.clock().advance(by);
    }

    /// Sets the clock back.
    pub(crate) fn set_back_clock(&self, by: Duration) {
        self.tick();
        // It counts nanoseconds modulo 2^64.
        let back = (by.as_nanos() as u64).wrapping_neg();
        self.store.clock().advance(Duration::from_nanos(back));
    }
}

/// The store tells this one watcher, which sends it to every process.
impl Watcher for World {
    fn on_event(&self, event: Event<'_>) {
        let reply_to = self.reply_to.lock().clone();
        let Some(message) = Message::of(event, reply_to) else { return };
        for mailbox in self.mailboxes.lock().values() {
            mailbox.send(message.clone());
        }
    }
}
