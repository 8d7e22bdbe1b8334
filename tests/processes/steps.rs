//! A far tier whose holder can be stopped at every step of a miss.

use std::{
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use cattleguard::{
    Clock, Entry, Fault, Version,
    codec::Json,
    far::{Attempt, Commit, Far, Invalidated, Put, Record, Renewal, Token, Watcher},
    redis::RedisFar,
};
use tokio::sync::Notify;

type Inner = RedisFar<u64, Json>;

pub struct Steps {
    inner: Inner,
    gate: Gate,
}

/// Where the next miss of a name stops, and what lets it go on.
#[derive(Clone, Default)]
pub struct Gate {
    stop: Arc<Mutex<Option<(String, String)>>>,
    go: Arc<Notify>,
}

impl Gate {
    pub fn stop_at(&self, step: &str, name: &str) {
        *self.stop.lock().expect("a lock") = Some((step.to_owned(), name.to_owned()));
    }

    pub fn go(&self) {
        self.go.notify_one();
    }

    /// Says where it is, and waits, if this is the place.
    pub async fn pass(&self, step: &str, name: &str) {
        let here = |(at, of): &mut (String, String)| at == step && of == name;
        if self.stop.lock().expect("a lock").take_if(here).is_some() {
            self.hold(&format!("at {step}")).await;
        }
    }

    pub async fn hold(&self, place: &str) {
        println!("{place}");
        self.go.notified().await;
    }
}

impl Steps {
    pub fn new(inner: Inner, gate: Gate) -> Self {
        Self { inner, gate }
    }
}

impl Far<u64> for Steps {
    fn clock(&self) -> &Clock {
        self.inner.clock()
    }

    async fn read(&self, name: &str) -> Result<Option<Arc<Entry<u64>>>, Fault> {
        self.gate.pass("before-read", name).await;
        self.inner.read(name).await
    }

    async fn look_up_or_lease(
        &self,
        name: &str,
        token: Token,
        ttl: Duration,
        fresh_for: Duration,
    ) -> Result<Attempt<u64>, Fault> {
        let attempt = self.inner.look_up_or_lease(name, token, ttl, fresh_for).await;
        if let Ok(Attempt::Granted(_)) = &attempt {
            self.gate.pass("granted", name).await;
        }
        attempt
    }

    async fn commit(
        &self,
        name: &str,
        token: Token,
        record: Record<u64>,
    ) -> Result<Commit<u64>, Fault> {
        self.gate.pass("loaded", name).await;
        let commit = self.inner.commit(name, token, record).await;
        self.gate.pass("committed", name).await;
        commit
    }

    async fn renew(&self, name: &str, token: Token, ttl: Duration) -> Result<Renewal, Fault> {
        Far::<u64>::renew(&self.inner, name, token, ttl).await
    }

    async fn release(&self, name: &str, token: Token) -> Result<(), Fault> {
        Far::<u64>::release(&self.inner, name, token).await
    }

    async fn fail(&self, name: &str, token: Token, back_off: Duration) -> Result<(), Fault> {
        Far::<u64>::fail(&self.inner, name, token, back_off).await
    }

    async fn put(&self, name: &str, record: Record<u64>) -> Result<Put<u64>, Fault> {
        self.inner.put(name, record).await
    }

    async fn invalidate(
        &self,
        name: &str,
        version: Option<Version>,
        retention: Duration,
    ) -> Result<Invalidated, Fault> {
        Far::<u64>::invalidate(&self.inner, name, version, retention).await
    }

    async fn replicated(
        &self,
        name: &str,
        replicas: usize,
        timeout: Duration,
    ) -> Result<usize, Fault> {
        Far::<u64>::replicated(&self.inner, name, replicas, timeout).await
    }

    fn watch(&self, watcher: Weak<dyn Watcher>) {
        Far::<u64>::watch(&self.inner, watcher);
    }
}
