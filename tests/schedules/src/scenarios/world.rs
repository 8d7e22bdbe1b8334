//! An origin, a far tier, and processes that have a guard on it.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::link::Link;
use crate::{
    Clock, Error, Guard, GuardBuilder, Loaded, Policy, Write,
    memory::MemoryFar,
    run::{NEVER, choose, does_time_pass_at_any_moment, pause},
};

pub(super) const KEY: &str = "key";
pub(super) const TAG: &str = "t";

/// A table with a row. What is instrumented are the sources: this is read and written in one step.
#[derive(Default)]
pub(super) struct Origin {
    row: AtomicU64,
    /// How far the slowest replica is behind, in versions.
    pub(super) lag: AtomicU64,
    loads: Mutex<Loads>,
}

#[derive(Clone, Copy, Default)]
pub(super) struct Loads {
    pub(super) begun: usize,
    pub(super) running: usize,
    pub(super) most_at_once: usize,
}

/// The origin has failed.
#[derive(Debug)]
pub(super) struct Broken;

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("broken")
    }
}

impl std::error::Error for Broken {}

impl Origin {
    pub(super) fn loads(&self) -> Loads {
        *self.locked()
    }

    fn locked(&self) -> MutexGuard<'_, Loads> {
        self.loads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self) -> u64 {
        self.row.fetch_add(1, SeqCst) + 1
    }

    pub(super) fn row(&self) -> u64 {
        self.row.load(SeqCst)
    }

    pub(super) async fn load(self: Arc<Self>) -> Result<Loaded<u64>, Broken> {
        let _running = Running::begin(self.clone());
        pause().await;
        let lag = match self.lag.load(SeqCst) {
            0 => 0,
            lag => choose(lag + 1),
        };
        let version = self.row().saturating_sub(lag);
        pause().await;
        Ok(Loaded::found(version, version))
    }
}

/// A load in progress, until its future is dropped.
pub(super) struct Running(Arc<Origin>);

impl Running {
    pub(super) fn begin(origin: Arc<Origin>) -> Self {
        let mut loads = origin.locked();
        loads.begun += 1;
        loads.running += 1;
        loads.most_at_once = loads.most_at_once.max(loads.running);
        drop(loads);
        Self(origin)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.locked().running -= 1;
    }
}

/// What all processes share.
pub(super) struct World {
    pub(super) origin: Arc<Origin>,
    pub(super) far: MemoryFar<u64>,
    /// The newest version of an invalidation that was acknowledged.
    acknowledged: AtomicU64,
    begun: Instant,
}

/// One that has a guard.
pub(super) struct Process {
    pub(super) world: Arc<World>,
    pub(super) guard: Guard<str, u64>,
    pub(super) link: Arc<Link>,
    /// The newest version that this process knows of, because it has asked for its invalidation.
    known: AtomicU64,
}

/// How a writer tells of what it has written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Tell {
    Invalidate,
    InvalidateAt,
    Put,
    /// Of a tag, that all values have.
    Purge,
}

impl World {
    pub(super) fn new() -> Arc<Self> {
        let origin = Arc::new(Origin::default());
        origin.write();
        let far = MemoryFar::with(1_000, Clock::tokio());
        Arc::new(Self { origin, far, acknowledged: AtomicU64::new(0), begun: Instant::now() })
    }

    pub(super) fn process(self: &Arc<Self>) -> Arc<Process> {
        self.process_with(|builder| builder.policy(patient()))
    }

    pub(super) fn process_with(
        self: &Arc<Self>,
        settings: impl FnOnce(GuardBuilder<str, u64>) -> GuardBuilder<str, u64>,
    ) -> Arc<Process> {
        let link = Link::new(self.far.clone());
        let guard = settings(Guard::builder().far(link.clone())).build();
        Arc::new(Process { world: self.clone(), guard, link, known: AtomicU64::new(0) })
    }

    pub(super) fn processes<const N: usize>(self: &Arc<Self>) -> [Arc<Process>; N] {
        std::array::from_fn(|_| self.process())
    }

    /// Nobody has waited for a time to come: whoever waited was told.
    pub(super) fn no_time_has_passed(&self) {
        assert_eq!(self.begun.elapsed(), Duration::ZERO, "somebody was not told");
    }

    /// No answer of a caller that comes now may be older, in any process.
    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(SeqCst)
    }
}

/// Nothing ends while others can run.
pub(super) fn patient() -> Policy {
    let policy = Policy::default().ttl(NEVER).near_ttl(NEVER).early_refresh(0.0);
    policy.load_timeout(NEVER).wait_timeout(NEVER).slow_load_after(NEVER)
}

impl Process {
    /// Fetches, and checks that the answer is not older than what was known when the caller came.
    pub(super) async fn fetch(&self) -> Result<u64, Error> {
        self.fetch_from(|origin| origin.load()).await
    }

    pub(super) async fn fetch_from<F>(
        &self,
        load: impl Fn(Arc<Origin>) -> F + Send + 'static,
    ) -> Result<u64, Error>
    where
        F: Future<Output = Result<Loaded<u64>, Broken>> + Send + 'static,
    {
        let oldest = self.oldest();
        let origin = self.world.origin.clone();
        let fetched = self.guard.fetch(KEY, move || load(origin.clone())).await?;
        self.check(oldest, fetched.into_value().expect("the row is there"))
    }

    pub(super) fn oldest(&self) -> u64 {
        let elsewhere = if self.link.is_heard() { self.world.acknowledged() } else { 0 };
        // While something stale may be served, a commit elsewhere says nothing.
        let told = if does_time_pass_at_any_moment() { 0 } else { self.link.told() };
        self.known.load(SeqCst).max(elsewhere).max(told)
    }

    pub(super) fn check(&self, oldest: u64, answer: u64) -> Result<u64, Error> {
        assert!(answer >= oldest, "{answer} for a caller that came after {oldest} was invalidated");
        Ok(answer)
    }

    /// Writes a row, and tells.
    pub(super) async fn write(&self, tell: Tell) -> Result<(), Error> {
        let version = self.world.origin.write();
        pause().await;
        let told = match tell {
            Tell::Invalidate => self.guard.invalidate(KEY).await.map(drop),
            Tell::InvalidateAt => self.guard.invalidate_at(KEY, version).await.map(drop),
            Tell::Purge => self.guard.invalidate_tag(TAG).await.map(drop),
            Tell::Put => self.guard.put(KEY, Loaded::found(version, version)).await.map(|put| {
                assert!(put == Write::Stored || self.world.origin.row() > version);
            }),
        };
        self.known.fetch_max(version, SeqCst);
        if told.is_ok() {
            self.world.acknowledged.fetch_max(version, SeqCst);
        }
        told
    }

    /// Nothing is in progress any more, and nothing is left of it.
    pub(super) async fn is_idle(&self) {
        let rest = || self.guard.flights() + self.world.far.lease_count();
        for _ in 0..1_000 {
            if rest() == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{} flights and leases are left", rest());
    }
}

/// For a watcher that is told through a link.
pub(super) type Watching = Weak<dyn crate::far::Watcher>;
