use std::{error, fmt, future::Future, marker::PhantomData, sync::Arc};

use tokio::sync::Semaphore;

use super::{
    breaker::Breaker,
    bulkhead::Bulkheads,
    core::{Core, CountsAsFailure, Guard},
    epochs::Epochs,
    failure_backoff::FailureBackoffs,
    loading_guard::{Loaders, LoadingGuard},
    passes::Passes,
    pending::PendingInvalidations,
    tasks::Tasks,
    wakeups::Wakeups,
};
use crate::{
    Clock, Error, Key, Loaded, Loader, Policy,
    far::{Erased, Far, Watcher},
    flight::Flights,
    freshness::Freshness,
    memory::MemoryFar,
    near::{self, Near},
    observe::{EventHook, GuardEvent, Observer},
    size::SizeOf,
    sync::atomic::AtomicBool,
};

/// Makes a [`Guard`].
///
/// ```
/// use std::time::Duration;
/// use cattleguard::{Guard, Policy, memory::MemoryFar};
///
/// let shared = MemoryFar::new();
/// let guard: Guard<str, String> = Guard::builder()
///     .far(shared)
///     .near_capacity(1_000)
///     .policy(Policy::default().ttl(Duration::from_secs(300)))
///     .build();
/// ```
#[must_use = "a builder does nothing until `build`"]
pub struct GuardBuilder<K: ?Sized, V, L = ()> {
    settings: Settings<V>,
    loaders: L,
    key: PhantomData<fn(&K)>,
}

struct Settings<V> {
    policy: Policy,
    near_capacity: usize,
    near_bytes: Option<usize>,
    size_of: SizeOf<V>,
    clock: Option<Clock>,
    far: Option<Erased<V>>,
    counts_as_failure: Option<CountsAsFailure>,
    has_tags: bool,
    name: String,
    hook: EventHook,
}

impl<K: ?Sized, V> Guard<K, V> {
    /// Starts a guard with good defaults: embedded far tier, 10,000 near entries, [`Policy`]'s
    /// times.
    pub fn builder() -> GuardBuilder<K, V> {
        GuardBuilder::new()
    }
}

impl<K: ?Sized, V> GuardBuilder<K, V> {
    fn new() -> Self {
        let settings = Settings {
            policy: Policy::default(),
            near_capacity: 10_000,
            near_bytes: None,
            size_of: SizeOf::default(),
            clock: None,
            far: None,
            counts_as_failure: None,
            has_tags: false,
            name: "default".to_owned(),
            hook: EventHook::default(),
        };
        Self { settings, loaders: (), key: PhantomData }
    }
}

impl<K: ?Sized, V, L> GuardBuilder<K, V, L> {
    /// Times and limits. Default: [`Policy::default`].
    pub fn policy(mut self, policy: Policy) -> Self {
        self.settings.policy = policy;
        self
    }

    /// How many entries the near tier holds. Default 10,000; zero turns it off, and every hit asks
    /// the far tier. Raise it if more values than that are asked for within the near ttl.
    ///
    /// The embedded far tier holds ten times as many records, and 100,000 if the near tier is off.
    pub fn near_capacity(mut self, entries: usize) -> Self {
        self.settings.near_capacity = entries;
        self
    }

    /// How many bytes the entries of the near tier take at most, beside its capacity in entries. Default: no bound
    /// in bytes. Set it where values are large, or of very different sizes.
    ///
    /// A value counts with what [`size_of`](Self::size_of) says of it. Without such a function it counts with the
    /// length of its encoding, if it comes from Redis, and else with nothing. Its name and what
    /// surrounds it, some 250 bytes, are counted, too. An entry larger than a sixteenth of the bound is not kept
    /// near, and every hit on it asks the far tier. To bound the bytes alone, raise the capacity: an entry
    /// weighs at least the bound divided by the capacity.
    ///
    /// The bound is for this process: where the far tier is the embedded one, each of the two gets half of it.
    ///
    /// ```
    /// use cattleguard::Guard;
    ///
    /// let pages: Guard<str, String> =
    ///     Guard::builder().near_bytes(64 << 20).size_of(String::capacity).build();
    /// ```
    pub fn near_bytes(mut self, bytes: usize) -> Self {
        self.settings.near_bytes = Some(bytes);
        self
    }

    /// How many bytes a value takes, its heap included, for [`near_bytes`](Self::near_bytes) and the metrics.
    /// Default: the length of its encoding, where that is known. Set it where values are made in memory, or
    /// are larger there than encoded.
    ///
    /// It is called whenever an entry comes near, without a lock, and should be cheap. If it panics, the
    /// value is not kept near.
    pub fn size_of(mut self, size_of: impl Fn(&V) -> usize + Send + Sync + 'static) -> Self {
        self.settings.size_of = SizeOf::by(size_of);
        self
    }

    /// Bounds the near tier, unless it is bounded already.
    #[cfg(feature = "http")]
    pub(crate) fn or_near_bytes(mut self, bytes: usize) -> Self {
        self.settings.near_bytes.get_or_insert(bytes);
        self
    }

    /// Which failed loads start a failure back-off and let something stale take their place. The others
    /// answer their callers, and the next caller loads again: an error that says what the caller
    /// asked for, not that the origin is in trouble. Default: all of them. Asked of
    /// [`Origin`](Error::Origin), [`LoadTimeout`](Error::LoadTimeout),
    /// [`LoadPanicked`](Error::LoadPanicked) and [`Outdated`](Error::Outdated).
    ///
    /// ```
    /// use cattleguard::{Error, Guard};
    ///
    /// let guard: Guard<u64, String> = Guard::builder()
    ///     .counts_as_failure(|error| match error {
    ///         Error::Origin(error) => !error.is::<std::num::ParseIntError>(),
    ///         _ => true,
    ///     })
    ///     .build();
    /// ```
    pub fn counts_as_failure(
        mut self,
        counts: impl Fn(&Error) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.settings.counts_as_failure = Some(Box::new(counts));
        self
    }

    /// Loads may name tags, with [`Loaded::tag`], and [`Guard::invalidate_tag`] and [`Guard::clear`] work. Default: off,
    /// for it has a price: each hit looks up its tags in this process, some 30 ns, and a process asks the far tier
    /// for the epoch of each tag once per near ttl. What was stored without has no tags, and stays.
    pub fn tags(mut self) -> Self {
        self.settings.has_tags = true;
        self
    }

    /// What this guard is called in metrics, logs and spans: their label or field `guard`. Default: `default`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.settings.name = name.into();
        self
    }

    /// A function that is told what happens in the guard, for logs of your own or alerts: see
    /// [`GuardEventKind`](crate::GuardEventKind). Default: none. Set it where one event matters; what counts as a rate is in
    /// the metrics (feature `metrics`).
    ///
    /// It runs in the middle of fetches and loads, without a lock, on several threads at the same time: it must be
    /// quick and must not block. It may call the guard, and spawn what takes longer. If it panics, only the event is
    /// lost. Hits are not told. A guard that is captured in its own hook is never dropped.
    ///
    /// ```
    /// use cattleguard::{Guard, GuardEventKind};
    ///
    /// let users: Guard<u64, String> = Guard::builder()
    ///     .name("users")
    ///     .on_event(|event| match event.kind() {
    ///         GuardEventKind::FarAway { why } => eprintln!("{}: Redis is away ({why:?})", event.guard()),
    ///         GuardEventKind::InvalidationLost { .. } => eprintln!("{}: old values may stay", event.guard()),
    ///         _ => {}
    ///     })
    ///     .build();
    /// ```
    pub fn on_event(mut self, on_event: impl Fn(&GuardEvent<'_>) + Send + Sync + 'static) -> Self {
        self.settings.hook.set(on_event);
        self
    }

    /// Events say their [key](GuardEvent::key). Default: they do not, for a key may be what logs must not hold. Set
    /// it where the hook sees to that.
    pub fn event_keys(mut self) -> Self {
        self.settings.hook.with_keys();
        self
    }

    /// The clock of the embedded far tier. Default: the system's. Another far tier brings its own.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.settings.clock = Some(clock);
        self
    }
}

impl<K: ?Sized, V: Send + Sync + 'static, L> GuardBuilder<K, V, L> {
    /// The store that processes share. Default: a [`MemoryFar`] of its own.
    pub fn far(mut self, far: impl Far<V>) -> Self {
        self.settings.far = Some(Arc::new(far));
        self
    }
}

impl<K: ?Sized, V: Send + Sync + 'static> GuardBuilder<K, V> {
    /// How the origin is asked, for [`LoadingGuard::get`]: a function or closure `async fn(K) -> Result<…>`, or a type
    /// that implements [`Loader`]. Default: none, and each [`fetch`](Guard::fetch) brings its own.
    pub fn loader(self, loader: impl Loader<K, V>) -> GuardBuilder<K, V, Loaders<K, V>>
    where
        K: ToOwned,
    {
        let Self { settings, key, .. } = self;
        GuardBuilder { settings, loaders: Loaders::of(loader), key }
    }

    /// The guard.
    pub fn build(self) -> Guard<K, V> {
        Guard::of(self.settings.build())
    }
}

impl<K, V> GuardBuilder<K, V, Loaders<K, V>>
where
    K: Key + ToOwned<Owned: Send + Sync> + ?Sized + 'static,
    V: Send + Sync + 'static,
{
    /// How the origin is asked for many keys in one query, for [`LoadingGuard::get_many`]: a function or closure
    /// that takes a `Vec` of them and returns those that it has found, each with its [`Loaded`] or `Option`. Default:
    /// none, and each key is loaded by itself.
    ///
    /// What it returns is read as by [`Guard::fetch_many`]. It does not see the entries there were:
    /// [`Loader::load`] does.
    pub fn batch_loader<F, Fut, L, E>(mut self, load_many: F) -> Self
    where
        F: Fn(Vec<K::Owned>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Vec<(K::Owned, L)>, E>> + Send + 'static,
        L: Into<Loaded<V>>,
        E: Into<Box<dyn error::Error + Send + Sync>>,
    {
        self.loaders.load_many_with(load_many);
        self
    }

    /// The guard.
    pub fn build(self) -> LoadingGuard<K, V> {
        LoadingGuard::new(Guard::of(self.settings.build()), self.loaders)
    }
}

impl<V: Send + Sync + 'static> Settings<V> {
    fn build(self) -> Arc<Core<V>> {
        let mut near = near::Bounds { entries: self.near_capacity, bytes: self.near_bytes };
        let far = self.far.unwrap_or_else(|| {
            let clock = self.clock.unwrap_or_default();
            let records = match self.near_capacity {
                0 => 100_000,
                entries => entries.saturating_mul(10) as u64,
            };
            // Both are in this process. With the near tier turned off, the far tier has all of it.
            if self.near_capacity > 0 {
                near.bytes = near.bytes.map(|bytes| bytes / 2);
            }
            let bytes = near.bytes.map(|bytes| bytes as u64);
            Arc::new(MemoryFar::embedded(records, bytes, clock, self.size_of.clone()))
        });
        let policy = self.policy;
        let observer = Observer::new(&self.name, far.clock().clone(), self.hook);
        let gauges = observer.gauges.clone();
        let core = Arc::new_cyclic(|me| Core {
            me: me.clone(),
            freshness: Freshness::new(policy.clone()),
            near: Near::new(near, self.size_of, far.clock().clone(), observer.near_usage.clone()),
            flights: Flights::new(),
            wakeups: Wakeups::default(),
            far: far.clone(),
            breaker: Breaker::new(gauges.breaker.clone()),
            recovering: Arc::default(),
            pending: PendingInvalidations::new(gauges.pending_invalidations.clone()),
            refreshes: Arc::new(Semaphore::new(policy.max_refreshes)),
            bulkheads: Bulkheads::new(&policy, &gauges),
            failures: FailureBackoffs::new(),
            passes: Passes::default(),
            has_tags: self.has_tags.into(),
            epochs: Epochs::default(),
            counts_as_failure: self.counts_as_failure,
            tasks: Tasks::new(),
            observer,
            connected: AtomicBool::new(false),
            policy,
        });
        let watcher: Arc<dyn Watcher> = core.clone();
        far.watch(Arc::downgrade(&watcher));
        core
    }
}

impl<K: ?Sized, V, L> fmt::Debug for GuardBuilder<K, V, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardBuilder")
            .field("policy", &self.settings.policy)
            .field("near_capacity", &self.settings.near_capacity)
            .field("near_bytes", &self.settings.near_bytes)
            .finish_non_exhaustive()
    }
}
