//! The one load of a batch, and the flights that wait for it.

use std::{
    collections::HashMap,
    error,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use futures::{
    FutureExt,
    future::{BoxFuture, Either, join_all, select},
};
use parking_lot::Mutex;
use tokio::{sync::oneshot, time::Instant};
use tracing::Instrument;

use crate::{
    Error, Loaded,
    guard::{
        core::Core,
        loader::{LoadBudget, Loader},
        nesting::Loading,
    },
};

/// A key that a batch can hold on to.
pub(super) trait BatchKey: Clone + Send + Sync + 'static {}

impl<Q: Clone + Send + Sync + 'static> BatchKey for Q {}

/// What a batch asks.
pub(super) struct Origin<Q, V> {
    core: Arc<Core<V>>,
    /// Asked of the keys that a load returns.
    name_of: fn(&Q) -> Arc<str>,
    load: LoadMany<Q, V>,
}

type LoadMany<Q, V> =
    Box<dyn Fn(Vec<Q>) -> BoxFuture<'static, Result<Vec<(Q, Loaded<V>)>, Error>> + Send + Sync>;

/// Flights that have yet to decide, and those that load together.
pub(super) struct Batch<Q, V> {
    origin: Arc<Origin<Q, V>>,
    joining: Mutex<Joining<Q, V>>,
}

struct Joining<Q, V> {
    undecided: usize,
    joined: Vec<Joined<Q, V>>,
}

/// A flight that waits for the load.
struct Joined<Q, V> {
    key: Q,
    name: Arc<str>,
    budget: LoadBudget,
    told: oneshot::Sender<Result<Loaded<V>, Error>>,
}

/// The loader of one flight.
pub(super) struct Member<Q: BatchKey, V: Send + Sync + 'static> {
    /// Until it has decided.
    batch: Option<Arc<Batch<Q, V>>>,
    origin: Arc<Origin<Q, V>>,
    key: Q,
    name: Arc<str>,
}

impl<Q: BatchKey, V: Send + Sync + 'static> Batch<Q, V> {
    pub(super) fn of(origin: Arc<Origin<Q, V>>, undecided: usize) -> Arc<Self> {
        Arc::new(Self { origin, joining: Mutex::new(Joining { undecided, joined: Vec::new() }) })
    }

    /// One flight has decided. The last one starts the load.
    fn decided(&self, joined: Option<Joined<Q, V>>) {
        let all = {
            let mut joining = self.joining.lock();
            joining.joined.extend(joined);
            joining.undecided -= 1;
            if joining.undecided > 0 {
                return;
            }
            std::mem::take(&mut joining.joined)
        };
        if !all.is_empty() {
            self.origin.start(all);
        }
    }
}

impl<Q: BatchKey, V: Send + Sync + 'static> Origin<Q, V> {
    pub(super) fn new<F, Fut, E>(
        core: &Arc<Core<V>>,
        name_of: fn(&Q) -> Arc<str>,
        load_many: F,
    ) -> Arc<Self>
    where
        F: Fn(Vec<Q>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Vec<(Q, Loaded<V>)>, E>> + Send + 'static,
        E: Into<Box<dyn error::Error + Send + Sync>> + 'static,
    {
        let load: LoadMany<Q, V> = Box::new(move |keys| {
            let loading = load_many(keys);
            let shared = |error: E| Error::Origin(Arc::from(error.into()));
            async move { loading.await.map_err(shared) }.boxed()
        });
        Arc::new(Self { core: core.clone(), name_of, load })
    }

    /// Loads on a task of its own, and answers the flights that have joined.
    fn start(self: &Arc<Self>, joined: Vec<Joined<Q, V>>) {
        let this = self.clone();
        let work = async move {
            let mut keys = Vec::with_capacity(joined.len());
            let mut names = Vec::with_capacity(joined.len());
            let mut told = Vec::with_capacity(joined.len());
            let mut budget = Vec::with_capacity(joined.len());
            for joined in joined {
                budget.push(joined.budget);
                keys.push(joined.key);
                names.push(joined.name);
                told.push(joined.told);
            }
            // Aborted when no flight waits any more: each has its load timeout.
            let none_waits = join_all(told.iter_mut().map(|told| told.closed()));
            let loaded = {
                let loading = pin!(this.load(keys, &names, &budget));
                match select(loading, none_waits).await {
                    Either::Left((loaded, _)) => loaded,
                    Either::Right(_) => return,
                }
            };
            match loaded {
                Ok(mut by_name) => {
                    for (told, name) in told.into_iter().zip(names) {
                        let loaded = by_name.remove(&name).unwrap_or_else(Loaded::absent);
                        let _ = told.send(Ok(loaded));
                    }
                }
                Err(error) => {
                    for told in told {
                        let _ = told.send(Err(error.clone()));
                    }
                }
            }
        };
        tokio::spawn(Loading::scope(Loading::current(), work).in_current_span());
    }

    async fn load(
        &self,
        keys: Vec<Q>,
        names: &[Arc<str>],
        budget: &[LoadBudget],
    ) -> Result<HashMap<Arc<str>, Loaded<V>>, Error> {
        // Flights hear that there was no room before the first of them has waited too long.
        let by = budget.iter().map(|budget| budget.deadline).min();
        let by = by.map_or_else(Instant::now, |by| by - A_LITTLE);
        let queues = budget.iter().any(|budget| budget.queues);
        let depths: Vec<_> = budget.iter().map(|budget| budget.depth.clone()).collect();
        let _permit = self.core.room_for_a_load(by, queues, &depths).await?;
        let last = budget.iter().map(|budget| budget.deadline).max();
        let begun = Instant::now();
        let counted = self.core.observer.load();
        let loaded = self.call(keys, names, last.unwrap_or(by)).await;
        counted.ended(&loaded);
        let load_time = begun.elapsed();
        let named = loaded?
            .into_iter()
            .map(|(key, loaded)| ((self.name_of)(&key), Loaded { load_time, ..loaded }));
        Ok(named.collect())
    }

    async fn call(
        &self,
        keys: Vec<Q>,
        names: &[Arc<str>],
        deadline: Instant,
    ) -> Result<Vec<(Q, Loaded<V>)>, Error> {
        let Ok(loading) = catch_unwind(AssertUnwindSafe(|| (self.load)(keys))) else {
            return Err(Error::LoadPanicked);
        };
        let within = Loading::of_all(self.core.id(), names);
        let core = &self.core;
        // The flights come to the same end at the same moment; here it is counted as what it is.
        tokio::select! {
            biased;
            loaded = Loading::scope(within, loading) => loaded,
            () = tokio::time::sleep_until(deadline) => {
                Err(Error::LoadTimeout { after: core.policy.load_timeout })
            }
            () = core.tasks.closed() => Err(Error::ShutDown),
        }
    }
}

impl<Q: BatchKey, V: Send + Sync + 'static> Member<Q, V> {
    /// A flight that is of no batch.
    pub(super) fn single(origin: Arc<Origin<Q, V>>, key: Q, name: Arc<str>) -> Self {
        Self { batch: None, origin, key, name }
    }

    pub(super) fn of(batch: &Arc<Batch<Q, V>>, key: Q, name: Arc<str>) -> Self {
        Self { batch: Some(batch.clone()), origin: batch.origin.clone(), key, name }
    }

    fn leave(&mut self) {
        if let Some(batch) = self.batch.take() {
            batch.decided(None);
        }
    }
}

impl<Q: BatchKey, V: Send + Sync + 'static> Loader<V> for Member<Q, V> {
    fn load(
        &mut self,
        budget: &LoadBudget,
    ) -> impl Future<Output = Result<Loaded<V>, Error>> + Send + use<Q, V> {
        let (told, loaded) = oneshot::channel();
        let (key, name) = (self.key.clone(), self.name.clone());
        let joined = Joined { key, name, budget: budget.clone(), told };
        match self.batch.take() {
            Some(batch) => batch.decided(Some(joined)),
            None => self.origin.start(vec![joined]),
        }
        // The sender is dropped when the load has panicked.
        async move { loaded.await.unwrap_or(Err(Error::LoadPanicked)) }
    }

    fn stand_by(&mut self) {
        self.leave();
    }

    fn has_own_permit(&self) -> bool {
        true
    }
}

/// A flight that ends without a load must not hold up the others.
impl<Q: BatchKey, V: Send + Sync + 'static> Drop for Member<Q, V> {
    fn drop(&mut self) {
        self.leave();
    }
}

const A_LITTLE: Duration = Duration::from_millis(10);
