//! The load side of a flight: the origin is asked here, and in `batch_load` for many keys.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use futures::future::select_all;
use tokio::{task::JoinHandle, time::Instant};
use tracing::Instrument;

use super::{
    bulkhead::{Full, Permit},
    core::Core,
    loader::{FlightLoader, LoadBudget},
    nesting::Loading,
};
use crate::{Error, Loaded, flight::Depth};

impl<V: Send + Sync + 'static> Core<V> {
    /// One call to the origin, on its own task: a loader that blocks or panics harms neither the
    /// lease's renewal nor the flight.
    pub(super) async fn load_once(
        &self,
        name: &Arc<str>,
        load: &mut impl FlightLoader<V>,
        budget: &LoadBudget,
        place: Place,
        is_far_there: bool,
    ) -> Result<Loaded<V>, Error> {
        if self.tasks.closing() {
            return Err(Error::ShutDown);
        }
        let before = match load.begun() {
            Some(before) => before,
            None => self.before_load(is_far_there).await,
        };
        load.begins(before);
        let begun = Instant::now();
        // A batch has one load for all its members, and counts it itself.
        let counted = (!load.has_own_place()).then(|| self.observer.load(Some(name)));
        let loaded = self.call(name, load, budget, place).await.and_then(Loaded::into_result);
        if let Some(counted) = counted {
            counted.ended(&loaded);
        }
        let took = begun.elapsed();
        // A batch has told already, without the wait for its members.
        let timed = |loaded: Loaded<V>| match loaded.load_time.is_zero() {
            true => Loaded { load_time: took, ..loaded },
            false => loaded,
        };
        Ok(self.tagged(timed(loaded?), before).await)
    }

    async fn call(
        &self,
        name: &Arc<str>,
        load: &mut impl FlightLoader<V>,
        budget: &LoadBudget,
        place: Place,
    ) -> Result<Loaded<V>, Error> {
        // The closure itself may panic before there is a future.
        let Ok(loading) = catch_unwind(AssertUnwindSafe(|| load.load(budget))) else {
            return Err(Error::LoadPanicked);
        };
        let within = Loading::of(self.id(), name);
        let loading = Loading::scope(within, async move {
            // Until the task is gone the origin is busy with it.
            let _place = place;
            loading.await
        });
        let span = tracing::debug_span!("load", guard = self.observer.guard());
        let mut task = AbortOnDrop(tokio::spawn(loading.instrument(span)));
        tokio::select! {
            biased;
            joined = &mut task.0 => match joined {
                Ok(loaded) => loaded,
                Err(joined) if joined.is_panic() => Err(Error::LoadPanicked),
                Err(_) => Err(Error::Abandoned),
            },
            () = tokio::time::sleep_until(budget.deadline) => {
                Err(Error::LoadTimeout { after: self.policy.load_timeout })
            }
            () = self.tasks.closed() => Err(Error::ShutDown),
        }
    }

    /// A place for this load, unless it sees to one itself. Waits for it, if the budget lets it.
    pub(super) async fn place_for(
        &self,
        load: &mut impl FlightLoader<V>,
        budget: &LoadBudget,
    ) -> Result<Place, Error> {
        match load.has_own_place() {
            true => Ok(None),
            false => {
                let depths = std::slice::from_ref(&budget.depth);
                self.place_by(budget.deadline, budget.queues, depths).await
            }
        }
    }

    /// A place that is free now.
    pub(super) fn free_place(&self, depth: &Depth) -> Result<Place, Error> {
        match self.bulkheads.at(Loading::depth().max(depth.deepest())) {
            Some(bulkhead) => bulkhead.try_enter().map(Some).map_err(overloaded),
            None => Ok(None),
        }
    }

    /// An error if a load would find no room, not even in the queue.
    pub(super) fn check_room(&self, depth: &Depth) -> Result<(), Error> {
        match self.bulkheads.at(Loading::depth().max(depth.deepest())) {
            Some(bulkhead) => bulkhead.check_room().map_err(overloaded),
            None => Ok(()),
        }
    }

    /// A place in the bulkhead, at the level of the deepest load that waits for this one: see
    /// [`Bulkheads`](super::bulkhead::Bulkheads).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the place in the queue.
    pub(super) async fn place_by(
        &self,
        deadline: Instant,
        queues: bool,
        depths: &[Arc<Depth>],
    ) -> Result<Place, Error> {
        if !queues {
            return self.bulkheads.outermost().try_enter().map(Some).map_err(overloaded);
        }
        let mut depth = Loading::depth();
        loop {
            let Some(bulkhead) = self.bulkheads.at(depth) else { return Ok(None) };
            let deeper = select_all(depths.iter().map(|deepest| Box::pin(deepest.beyond(depth))));
            tokio::select! {
                biased;
                entered = bulkhead.enter(deadline) => {
                    return entered.map(Some).map_err(overloaded);
                }
                (deeper, ..) = deeper => depth = deeper,
                () = self.tasks.closed() => return Err(Error::ShutDown),
            }
        }
    }
}

/// A place in the bulkhead; `None` for a load that needs none: one so deep within others that there is no level
/// for it, or one whose batch has a place for all.
pub(crate) type Place = Option<Permit>;

fn overloaded(Full { retry_after }: Full) -> Error {
    Error::Overloaded { retry_after }
}

struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
