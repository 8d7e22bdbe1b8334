//! The way to a far tier that falls silent.

use std::{
    future::Future,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use cattleguard::{
    Clock, Entry, Fault, FaultKind, Version,
    far::{Attempt, Commit, Event, Far, Invalidated, Put, Record, Renewal, Token, Watcher},
    http::StoredResponse,
    memory::MemoryFar,
};
use parking_lot::Mutex;

type Stored = StoredResponse;

/// Which names it is silent about.
type About = fn(&str) -> bool;

#[derive(Clone)]
pub struct Wire {
    memory: MemoryFar<Stored>,
    silent: Arc<Mutex<Option<(FaultKind, About)>>>,
    watchers: Arc<Mutex<Vec<Weak<dyn Watcher>>>>,
    refuses_one: Arc<AtomicBool>,
}

impl Wire {
    pub fn to(memory: &MemoryFar<Stored>) -> Self {
        Self {
            memory: memory.clone(),
            silent: Arc::default(),
            watchers: Arc::default(),
            refuses_one: Arc::default(),
        }
    }

    /// No call gets through, and messages stop.
    pub fn cut(&self) {
        self.fail(FaultKind::Unreachable, |_| true);
        self.tell(Event::Disconnected);
    }

    /// Calls about these names fail; messages arrive.
    pub fn fail(&self, kind: FaultKind, about: About) {
        *self.silent.lock() = Some((kind, about));
    }

    /// The next invalidation fails, and it alone.
    pub fn fail_one_invalidation(&self) {
        self.refuses_one.store(true, Ordering::SeqCst);
    }

    pub fn heal(&self) {
        *self.silent.lock() = None;
        self.tell(Event::Connected);
    }

    fn tell(&self, event: Event<'_>) {
        let watchers = self.watchers.lock().clone();
        watchers.iter().filter_map(Weak::upgrade).for_each(|watcher| watcher.on_event(event));
    }

    async fn carry<T>(
        &self,
        name: &str,
        call: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        let silent = *self.silent.lock();
        match silent {
            Some((kind, about)) if about(name) => {
                if kind == FaultKind::Timeout {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(kind.into())
            }
            _ => call.await,
        }
    }
}

impl Far<Stored> for Wire {
    fn clock(&self) -> &Clock {
        self.memory.clock()
    }

    async fn read(&self, name: &str) -> Result<Option<Arc<Entry<Stored>>>, Fault> {
        self.carry(name, self.memory.read(name)).await
    }

    async fn look_up_or_lease(
        &self,
        name: &str,
        token: Token,
        ttl: Duration,
        fresh_for: Duration,
    ) -> Result<Attempt<Stored>, Fault> {
        self.carry(name, self.memory.look_up_or_lease(name, token, ttl, fresh_for)).await
    }

    async fn commit(
        &self,
        name: &str,
        token: Token,
        record: Record<Stored>,
    ) -> Result<Commit<Stored>, Fault> {
        self.carry(name, self.memory.commit(name, token, record)).await
    }

    async fn renew(&self, name: &str, token: Token, ttl: Duration) -> Result<Renewal, Fault> {
        self.carry(name, self.memory.renew(name, token, ttl)).await
    }

    async fn release(&self, name: &str, token: Token) -> Result<(), Fault> {
        self.carry(name, self.memory.release(name, token)).await
    }

    async fn fail(&self, name: &str, token: Token, back_off: Duration) -> Result<(), Fault> {
        self.carry(name, self.memory.fail(name, token, back_off)).await
    }

    async fn put(&self, name: &str, record: Record<Stored>) -> Result<Put<Stored>, Fault> {
        self.carry(name, self.memory.put(name, record)).await
    }

    async fn invalidate(
        &self,
        name: &str,
        version: Option<Version>,
        retention: Duration,
    ) -> Result<Invalidated, Fault> {
        if self.refuses_one.swap(false, Ordering::SeqCst) {
            return Err(FaultKind::Busy.into());
        }
        self.carry(name, self.memory.invalidate(name, version, retention)).await
    }

    fn watch(&self, watcher: Weak<dyn Watcher>) {
        self.watchers.lock().push(watcher.clone());
        self.memory.watch(watcher);
    }
}
