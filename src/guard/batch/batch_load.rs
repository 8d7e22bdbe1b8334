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
        load::Place,
        loader::{FlightLoader, LoadBudget},
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
    /// Flights whose load was refused as older: those that ask again at one time ask together.
    asking_again: Mutex<Vec<Joined<Q, V>>>,
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
    /// The one of their load. It is there before a flight asks for its lease.
    place: Place,
}

/// A flight that waits for the load.
struct Joined<Q, V> {
    key: Q,
    name: Arc<str>,
    budget: LoadBudget,
    told: oneshot::Sender<Result<Loaded<V>, Error>>,
}

/// What a flight's next load is a part of.
enum Part<Q, V> {
    /// The one load of the batch, until this flight has decided.
    Batch(Arc<Batch<Q, V>>),
    /// A load of its own, after it stood by.
    Single,
    /// The load of all that were refused at the same time.
    Again,
}

/// The loader of one flight.
pub(super) struct Member<Q: BatchKey, V: Send + Sync + 'static> {
    part: Part<Q, V>,
    origin: Arc<Origin<Q, V>>,
    key: Q,
    name: Arc<str>,
}

impl<Q: BatchKey, V: Send + Sync + 'static> Batch<Q, V> {
    pub(super) fn of(origin: Arc<Origin<Q, V>>, undecided: usize, place: Place) -> Arc<Self> {
        let joining = Mutex::new(Joining { undecided, joined: Vec::new(), place });
        Arc::new(Self { origin, joining })
    }

    /// One flight has decided. The last one starts the load.
    fn decided(&self, joined: Option<Joined<Q, V>>) {
        let (all, place) = {
            let mut joining = self.joining.lock();
            joining.joined.extend(joined);
            joining.undecided -= 1;
            if joining.undecided > 0 {
                return;
            }
            (std::mem::take(&mut joining.joined), joining.place.take())
        };
        if !all.is_empty() {
            self.origin.start(all, Counted::Here(place));
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
        Arc::new(Self { core: core.clone(), name_of, load, asking_again: Mutex::default() })
    }

    /// Loads on a task of its own, and answers the flights that have joined.
    fn start(self: &Arc<Self>, joined: Vec<Joined<Q, V>>, counted: Counted) {
        let work = self.clone().load_and_tell(joined, counted);
        tokio::spawn(Loading::scope(Loading::current(), work).in_current_span());
    }

    /// Loads again what was refused, together with what else was refused at the same time: a lagging replica
    /// is behind with all rows of a batch.
    fn start_again(self: &Arc<Self>, joined: Joined<Q, V>) {
        let is_first = {
            let mut asking = self.asking_again.lock();
            asking.push(joined);
            asking.len() == 1
        };
        if !is_first {
            return;
        }
        let this = self.clone();
        let work = async move {
            tokio::time::sleep(A_MOMENT).await;
            let joined = std::mem::take(&mut *this.asking_again.lock());
            // One place for all; under their leases, for a first load of theirs has been made.
            let budgets: Vec<_> = joined.iter().map(|joined| joined.budget.clone()).collect();
            match this.place_for(&budgets).await {
                Ok(place) => this.load_and_tell(joined, Counted::Here(place)).await,
                Err(error) => tell_all(joined, &error),
            }
        };
        tokio::spawn(Loading::scope(Loading::current(), work).in_current_span());
    }

    async fn place_for(&self, budgets: &[LoadBudget]) -> Result<Place, Error> {
        // Flights hear that there was no room before the first of them has waited too long.
        let by = budgets.iter().map(|budget| budget.deadline).min();
        let by = by.map_or_else(Instant::now, |by| by - A_LITTLE);
        let queues = budgets.iter().any(|budget| budget.queues);
        let depths: Vec<_> = budgets.iter().map(|budget| budget.depth.clone()).collect();
        self.core.place_by(by, queues, &depths).await
    }

    async fn load_and_tell(self: Arc<Self>, joined: Vec<Joined<Q, V>>, counted: Counted) {
        let deadline = joined.iter().map(|joined| joined.budget.deadline).max();
        let deadline = deadline.unwrap_or_else(Instant::now);
        let keys = joined.iter().map(|joined| joined.key.clone()).collect();
        let names: Vec<_> = joined.iter().map(|joined| joined.name.clone()).collect();
        let mut told: Vec<_> = joined.into_iter().map(|joined| joined.told).collect();
        // Aborted when no flight waits any more: each has its load timeout.
        let none_waits = join_all(told.iter_mut().map(|told| told.closed()));
        let loaded = {
            let loading = pin!(self.load(keys, &names, deadline, counted));
            match select(loading, none_waits).await {
                Either::Left((loaded, _)) => loaded,
                Either::Right(_) => return,
            }
        };
        let mut loaded = loaded;
        for (told, name) in told.into_iter().zip(names) {
            let answer = match &mut loaded {
                Ok(by_name) => Ok(by_name.remove(&name).unwrap_or_else(Loaded::absent)),
                Err(error) => Err(error.clone()),
            };
            let _ = told.send(answer);
        }
    }

    async fn load(
        &self,
        keys: Vec<Q>,
        names: &[Arc<str>],
        deadline: Instant,
        counted: Counted,
    ) -> Result<HashMap<Arc<str>, Loaded<V>>, Error> {
        let begun = Instant::now();
        let load = matches!(counted, Counted::Here(_)).then(|| self.core.observer.load(None));
        let loaded = self.call(keys, names, deadline).await;
        if let Some(load) = load {
            load.ended(&loaded);
        }
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
        Self { part: Part::Single, origin, key, name }
    }

    pub(super) fn of(batch: &Arc<Batch<Q, V>>, key: Q, name: Arc<str>) -> Self {
        Self { part: Part::Batch(batch.clone()), origin: batch.origin.clone(), key, name }
    }

    fn leave(&mut self) {
        if let Part::Batch(batch) = std::mem::replace(&mut self.part, Part::Single) {
            batch.decided(None);
        }
    }
}

impl<Q: BatchKey, V: Send + Sync + 'static> FlightLoader<V> for Member<Q, V> {
    fn load(
        &mut self,
        budget: &LoadBudget,
    ) -> impl Future<Output = Result<Loaded<V>, Error>> + Send + use<Q, V> {
        let (told, loaded) = oneshot::channel();
        let (key, name) = (self.key.clone(), self.name.clone());
        let joined = Joined { key, name, budget: budget.clone(), told };
        match std::mem::replace(&mut self.part, Part::Again) {
            Part::Batch(batch) => batch.decided(Some(joined)),
            Part::Single => self.origin.start(vec![joined], Counted::ByItsFlight),
            Part::Again => self.origin.start_again(joined),
        }
        // The sender is dropped when the load has panicked.
        async move { loaded.await.unwrap_or(Err(Error::LoadPanicked)) }
    }

    fn stand_by(&mut self) {
        self.leave();
    }

    fn has_own_place(&self) -> bool {
        !matches!(self.part, Part::Single)
    }
}

/// A flight that ends without a load must not hold up the others.
impl<Q: BatchKey, V: Send + Sync + 'static> Drop for Member<Q, V> {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Where a load is counted, and has its place in the bulkhead.
enum Counted {
    Here(#[expect(dead_code, reason = "held while the load runs")] Place),
    /// As that of any single fetch.
    ByItsFlight,
}

fn tell_all<Q, V>(joined: Vec<Joined<Q, V>>, error: &Error) {
    for joined in joined {
        let _ = joined.told.send(Err(error.clone()));
    }
}

/// In which flights that were refused together ask again together.
const A_MOMENT: Duration = Duration::from_millis(2);
pub(super) const A_LITTLE: Duration = Duration::from_millis(10);
