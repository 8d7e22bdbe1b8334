//! A process' way to the far tier, which can be cut.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use super::world::{KEY, Watching};
use crate::{
    Clock, Entry, Fault, FaultKind, Version,
    far::{Attempt, Commit, Event, Far, Invalidated, Put, Record, Renewal, Token, Watcher},
    memory::MemoryFar,
    run::{choose, pause},
};

pub(super) struct Link {
    far: MemoryFar<u64>,
    /// How calls fail, if they do: what is not refused may have been carried out.
    failing: Mutex<Option<FaultKind>>,
    /// Messages are lost.
    deaf: AtomicBool,
    asked_to_invalidate: AtomicBool,
    /// Whether the process has been told that messages arrive.
    heard: AtomicBool,
    /// The newest version whose commit, in any process, this one was told of.
    told: AtomicU64,
    watcher: OnceLock<Watching>,
    /// Kept for the far tier, which knows it weakly.
    ear: Mutex<Option<Arc<Ear>>>,
}

struct Ear(Weak<Link>);

impl Link {
    pub(super) fn new(far: MemoryFar<u64>) -> Arc<Self> {
        Arc::new(Self {
            far,
            failing: Mutex::default(),
            deaf: AtomicBool::new(false),
            asked_to_invalidate: AtomicBool::new(false),
            heard: AtomicBool::new(false),
            told: AtomicU64::new(0),
            watcher: OnceLock::new(),
            ear: Mutex::default(),
        })
    }

    /// Calls fail from now on.
    pub(super) fn break_down(&self, how: FaultKind) {
        *self.failing() = Some(how);
    }

    pub(super) fn come_back(&self) {
        *self.failing() = None;
    }

    fn failing(&self) -> MutexGuard<'_, Option<FaultKind>> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fault(&self) -> Option<Fault> {
        self.failing().map(|kind| Fault::saying(kind, "on purpose"))
    }

    pub(super) fn is_asked_to_invalidate(&self) -> bool {
        self.asked_to_invalidate.load(SeqCst)
    }

    pub(super) fn is_heard(&self) -> bool {
        self.heard.load(SeqCst)
    }

    pub(super) fn told(&self) -> u64 {
        self.told.load(SeqCst)
    }

    /// Messages are lost from now on. The process finds out.
    pub(super) async fn lose_messages(&self) {
        self.heard.store(false, SeqCst);
        self.deaf.store(true, SeqCst);
        pause().await;
        self.tell(Event::Disconnected);
    }

    /// Messages arrive again. The process is told then.
    pub(super) async fn hear_again(&self) {
        self.deaf.store(false, SeqCst);
        pause().await;
        self.tell(Event::Connected);
        self.heard.store(true, SeqCst);
    }

    fn tell(&self, event: Event<'_>) {
        if let Some(watcher) = self.watcher.get().and_then(Weak::upgrade) {
            watcher.on_event(event);
        }
        if let Event::Committed { name: KEY, version } = event {
            let number = (0..100).find(|number| version == Version::new(*number));
            self.told.fetch_max(number.unwrap_or(0), SeqCst);
        }
    }

    async fn ask<T>(&self, call: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        pause().await;
        if let Some(fault) = self.fault()
            && (fault.kind() == FaultKind::Busy || choose(2) == 0)
        {
            return Err(fault);
        }
        let answer = call.await;
        pause().await;
        self.fault().map_or(answer, Err)
    }
}

impl Watcher for Ear {
    fn on_event(&self, event: Event<'_>) {
        let Some(link) = self.0.upgrade() else { return };
        if !link.deaf.load(SeqCst) {
            link.tell(event);
        }
    }
}

impl Far<u64> for Arc<Link> {
    fn clock(&self) -> &Clock {
        self.far.clock()
    }

    async fn read(&self, name: &str) -> Result<Option<Arc<Entry<u64>>>, Fault> {
        self.ask(self.far.read(name)).await
    }

    async fn look_up_or_lease(
        &self,
        name: &str,
        token: Token,
        ttl: Duration,
        fresh_for: Duration,
    ) -> Result<Attempt<u64>, Fault> {
        self.ask(self.far.look_up_or_lease(name, token, ttl, fresh_for)).await
    }

    async fn commit(
        &self,
        name: &str,
        token: Token,
        record: Record<u64>,
    ) -> Result<Commit<u64>, Fault> {
        self.ask(self.far.commit(name, token, record)).await
    }

    async fn renew(&self, name: &str, token: Token, ttl: Duration) -> Result<Renewal, Fault> {
        self.ask(self.far.renew(name, token, ttl)).await
    }

    async fn release(&self, name: &str, token: Token) -> Result<(), Fault> {
        self.ask(self.far.release(name, token)).await
    }

    async fn fail(&self, name: &str, token: Token, back_off: Duration) -> Result<(), Fault> {
        self.ask(self.far.fail(name, token, back_off)).await
    }

    async fn put(&self, name: &str, record: Record<u64>) -> Result<Put<u64>, Fault> {
        self.ask(self.far.put(name, record)).await
    }

    async fn invalidate(
        &self,
        name: &str,
        version: Option<Version>,
        retention: Duration,
    ) -> Result<Invalidated, Fault> {
        self.asked_to_invalidate.store(true, SeqCst);
        self.ask(self.far.invalidate(name, version, retention)).await
    }

    fn watch(&self, watcher: Watching) {
        let _ = self.watcher.set(watcher);
        let ear = Arc::new(Ear(Arc::downgrade(self)));
        let watcher: Arc<dyn Watcher> = ear.clone();
        if let Ok(mut kept) = self.ear.lock() {
            *kept = Some(ear);
        }
        // Which tells that it is connected.
        self.far.watch(Arc::downgrade(&watcher));
        self.heard.store(true, SeqCst);
    }
}
