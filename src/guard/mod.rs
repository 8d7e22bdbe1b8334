//! The guard: the story of one fetch, a verb per file.

use std::{
    fmt,
    marker::PhantomData,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::Semaphore;

use self::{
    breaker::Breaker, bulkhead::Bulkheads, pauses::Pauses, recovery::Unsent, shutdown::Tasks,
    waiters::Waiters,
};
use crate::{
    Error, Fetched, Loaded, Policy, Version,
    far::{Erased, Event, Watcher},
    flight::Flights,
    near::Near,
    observe::Observer,
    policy::StaleFor,
};

mod batch;
mod breaker;
mod builder;
mod bulkhead;
mod failure;
mod fetch;
mod fly;
mod load;
mod loader;
mod nesting;
mod pauses;
mod recovery;
mod refresh;
mod shutdown;
mod waiters;
mod windows;
mod write;

pub use self::{
    builder::GuardBuilder,
    shutdown::Shutdown,
    write::{Invalidation, Write},
};
#[cfg(feature = "http")]
pub(crate) use self::{fly::Patience, loader::Loader};

/// Guards the loads of one kind of value.
///
/// `K` is the key as callers have it (`str`, `u64`, a type of yours), `V` the value. Clones share
/// everything. Make one guard per kind of value and keep it: flights and the near tier live in it.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), cattleguard::Error> {
/// use cattleguard::{Guard, Loaded};
///
/// let users: Guard<u64, String> = Guard::builder().build();
///
/// let ada = users
///     .fetch(&42, || async { Ok::<_, std::io::Error>(Loaded::found("Ada".to_owned(), 1)) })
///     .await?;
/// assert_eq!(ada.value().map(String::as_str), Some("Ada"));
/// # Ok(()) }
/// ```
pub struct Guard<K: ?Sized, V> {
    core: Arc<Core<V>>,
    key: PhantomData<fn(&K)>,
}

/// What all clones of a guard, its flights and its watcher share.
struct Core<V> {
    /// For the tasks that must not keep a guard alive.
    me: Weak<Self>,
    policy: Policy,
    near: Near<V>,
    flights: Arc<Flights<Result<Fetched<V>, Error>>>,
    waiters: Waiters,
    far: Erased<V>,
    breaker: Breaker,
    /// Whether a task sees to the return of the far tier.
    recovering: Arc<AtomicBool>,
    unsent: Unsent,
    /// A permit for each stale entry that may be refreshed now.
    refreshes: Arc<Semaphore>,
    bulkheads: Bulkheads,
    pauses: Pauses<V>,
    counts_as_failure: Option<CountsAsFailure>,
    stale_for: Option<fn(Option<&V>) -> StaleFor>,
    tasks: Tasks,
    observer: Observer,
    /// Whether messages from other processes arrive. While they do not, near entries live
    /// shortly. Written by the watcher only, read under a name's lock.
    connected: AtomicBool,
}

type CountsAsFailure = Box<dyn Fn(&Error) -> bool + Send + Sync>;

impl<K: ?Sized, V> Guard<K, V> {
    /// Starts a guard with good defaults: embedded far tier, 10,000 near entries, [`Policy`]'s
    /// times.
    pub fn builder() -> GuardBuilder<K, V> {
        GuardBuilder::new()
    }
}

impl<K: ?Sized, V: Send + Sync + 'static> Guard<K, V> {
    /// How many flights are open now. Zero when idle.
    pub fn flights(&self) -> usize {
        self.core.flights.open_count()
    }

    /// Past the guard, for a request that has no key.
    pub(crate) fn go_past<F>(
        &self,
        loading: F,
    ) -> impl Future<Output = Result<Fetched<V>, Error>> + Send + use<K, V, F>
    where
        F: Future<Output = Result<Loaded<V>, Error>> + Send,
    {
        Core::go_past(self.core.clone(), loading)
    }
}

impl<K: ?Sized, V> Clone for Guard<K, V> {
    fn clone(&self) -> Self {
        Self { core: self.core.clone(), key: PhantomData }
    }
}

impl<K: ?Sized, V> fmt::Debug for Guard<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("policy", &self.core.policy).finish_non_exhaustive()
    }
}

/// Messages from the far tier, this process's own among them: what those repeat has been done already
/// and does no harm twice.
impl<V: Send + Sync + 'static> Watcher for Core<V> {
    fn on_event(&self, event: Event<'_>) {
        match event {
            Event::Committed { name, version } => {
                let outdated = |near: Version| near < version;
                self.flights.raise(name, version, || self.drop_if(name, outdated));
                self.waiters.wake(name);
            }
            Event::Put { name, version } => {
                self.forget(name, |near| near <= version);
                self.waiters.wake(name);
            }
            Event::Invalidated { name, version } => {
                self.forget_below(name, version);
                self.waiters.wake(name);
            }
            Event::Released { name } => self.waiters.wake(name),
            Event::Disconnected => {
                tracing::debug!("far tier messages stopped");
                self.connected.store(false, Ordering::Release);
                // A fill that saw the flag up has ended before the clearing, and later ones are for
                // a short life. Flights go on: closing them would cost a second load each, in the
                // very moment in which the origin is all there is. But none serves on what is stale.
                self.flights.close_answered();
                self.clear();
                self.waiters.wake_all();
            }
            Event::Connected => {
                // A flight that read before this moment may have missed a message: it must not
                // fill the near tier for long. Cleared before, so that no flight begins from an
                // old near entry, and after, for what was filled meanwhile.
                self.clear();
                self.flights.close_all();
                self.clear();
                self.connected.store(true, Ordering::Release);
                self.waiters.wake_all();
            }
        }
    }
}
