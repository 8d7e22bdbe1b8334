use std::{
    fmt,
    marker::PhantomData,
    sync::{Arc, atomic::AtomicBool},
};

use tokio::sync::Semaphore;

use crate::{
    Clock, Guard, Policy,
    far::{self, Erased, Far, Watcher},
    flight::Flights,
    guard::{Core, waiters::Waiters},
    near::Near,
};

/// Makes a [`Guard`].
///
/// ```
/// use std::time::Duration;
/// use cattleguard::{Guard, Policy, far};
///
/// let shared = far::Memory::new();
/// let guard: Guard<str, String> = Guard::builder()
///     .far(shared)
///     .near_capacity(1_000)
///     .policy(Policy::default().ttl(Duration::from_secs(300)))
///     .build();
/// ```
#[must_use = "a builder does nothing until `build`"]
pub struct GuardBuilder<K: ?Sized, V> {
    policy: Policy,
    near_capacity: usize,
    clock: Option<Clock>,
    far: Option<Erased<V>>,
    key: PhantomData<fn(&K)>,
}

impl<K: ?Sized, V> GuardBuilder<K, V> {
    pub(super) fn new() -> Self {
        Self {
            policy: Policy::default(),
            near_capacity: 10_000,
            clock: None,
            far: None,
            key: PhantomData,
        }
    }

    /// Times and limits. Default: [`Policy::default`].
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// How many entries the near tier holds. Default 10,000; zero turns it off, and every hit asks
    /// the far tier.
    pub fn near_capacity(mut self, entries: usize) -> Self {
        self.near_capacity = entries;
        self
    }

    /// The clock of the embedded far tier. Default: the system's. Another far tier brings its own.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = Some(clock);
        self
    }
}

impl<K: ?Sized, V: Send + Sync + 'static> GuardBuilder<K, V> {
    /// The store that processes share. Default: a [`far::Memory`] of its own.
    pub fn far(mut self, far: impl Far<V>) -> Self {
        self.far = Some(Arc::new(far));
        self
    }

    /// The guard.
    pub fn build(self) -> Guard<K, V> {
        let far = self.far.unwrap_or_else(|| {
            let clock = self.clock.unwrap_or_default();
            Arc::new(far::Memory::with(100_000, clock))
        });
        let core = Arc::new(Core {
            near: Near::new(self.near_capacity, far.clock().clone()),
            refreshes: Arc::new(Semaphore::new(self.policy.max_refreshes)),
            policy: self.policy,
            flights: Flights::new(),
            waiters: Waiters::default(),
            connected: AtomicBool::new(false),
            far: far.clone(),
        });
        let watcher: Arc<dyn Watcher> = core.clone();
        far.watch(Arc::downgrade(&watcher));
        Guard { core, key: PhantomData }
    }
}

impl<K: ?Sized, V> fmt::Debug for GuardBuilder<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardBuilder")
            .field("policy", &self.policy)
            .field("near_capacity", &self.near_capacity)
            .finish_non_exhaustive()
    }
}
