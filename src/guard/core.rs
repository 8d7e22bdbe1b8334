use std::{
    fmt,
    marker::PhantomData,
    sync::{Arc, Weak},
};

use tokio::sync::Semaphore;

use super::{
    answer::Answer, breaker::Breaker, bulkhead::Bulkheads, epochs::Epochs,
    failure_backoff::FailureBackoffs, passes::Passes, pending::PendingInvalidations, tasks::Tasks,
    wakeups::Wakeups,
};
use crate::{
    Error, Moment, Policy,
    far::Erased,
    flight::Flights,
    freshness::Freshness,
    near::Near,
    observe::Observer,
    sync::atomic::{AtomicBool, Ordering},
};

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
    pub(super) core: Arc<Core<V>>,
    key: PhantomData<fn(&K)>,
}

/// What all clones of a guard, its flights and its watcher share.
pub(super) struct Core<V> {
    /// For the tasks that must not keep a guard alive.
    pub(super) me: Weak<Self>,
    pub(super) policy: Policy,
    pub(super) freshness: Freshness,
    pub(super) near: Near<V>,
    pub(super) flights: Arc<Flights<Answer<V>>>,
    pub(super) wakeups: Wakeups,
    pub(super) far: Erased<V>,
    pub(super) breaker: Breaker,
    /// Whether a task sees to the return of the far tier.
    pub(super) recovering: Arc<AtomicBool>,
    pub(super) pending: PendingInvalidations,
    /// A permit for each stale entry that may be refreshed now.
    pub(super) refreshes: Arc<Semaphore>,
    pub(super) bulkheads: Bulkheads,
    pub(super) failures: FailureBackoffs<V>,
    pub(super) passes: Passes,
    /// Whether loads may name tags. It is never unset.
    pub(super) has_tags: AtomicBool,
    pub(super) epochs: Epochs,
    pub(super) counts_as_failure: Option<CountsAsFailure>,
    pub(super) tasks: Tasks,
    pub(super) observer: Observer,
    /// Whether messages from other processes arrive. While they do not, near entries live
    /// shortly. Written by the watcher only, read under a name's lock.
    pub(super) connected: AtomicBool,
}

pub(super) type CountsAsFailure = Box<dyn Fn(&Error) -> bool + Send + Sync>;

impl<V: Send + Sync + 'static> Core<V> {
    pub(super) fn now(&self) -> Moment {
        self.far.clock().now()
    }

    /// Tells this guard from others.
    pub(super) fn id(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    pub(super) fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Acquire)
    }
}

impl<K: ?Sized, V> Guard<K, V> {
    pub(super) fn of(core: Arc<Core<V>>) -> Self {
        Self { core, key: PhantomData }
    }
}

impl<K: ?Sized, V: Send + Sync + 'static> Guard<K, V> {
    /// How many flights are open now. Zero when idle.
    pub fn flights(&self) -> usize {
        self.core.flights.open_count()
    }
}

impl<K: ?Sized, V> Clone for Guard<K, V> {
    fn clone(&self) -> Self {
        Self::of(self.core.clone())
    }
}

impl<K: ?Sized, V> fmt::Debug for Guard<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("policy", &self.core.policy).finish_non_exhaustive()
    }
}
