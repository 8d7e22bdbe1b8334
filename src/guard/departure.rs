//! How a flight begins: with a plan, on a task of its own.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use tracing::Instrument;

use super::{
    answer::{Answer, Resolution},
    core::Core,
    flight_task::FlightTask,
    limits::FOREVER,
    loader::{FlightLoader, LoadBudget},
    nesting::Loading,
    refresh::{Refresh, RefreshPermit, Reload},
};
use crate::{
    Bypass, Entry, Error, Outcome, StaleReason, Tier, flight::Completer, freshness::Found,
};

/// How a flight gets its answer.
pub(super) enum Plan {
    Lease,
    /// Under a lease, too, and no caller waits for it.
    Refresh(RefreshPermit, Refresh),
    /// Under a lease, whatever there is, which stays until there is another entry.
    Reload(Reload),
    /// Without a lease: the far tier has just failed to answer, or refused.
    Unleased(Bypass),
}

/// A flight that is to begin.
pub(super) struct Departure<V> {
    pub(super) completer: Completer<Answer<V>>,
    pub(super) plan: Plan,
    /// The entry that is to be loaded anew.
    pub(super) previous: Option<Arc<Entry<V>>>,
}

impl<V> Departure<V> {
    pub(super) fn of(
        completer: Completer<Answer<V>>,
        plan: Plan,
        previous: Option<Arc<Entry<V>>>,
    ) -> Box<Self> {
        Box::new(Self { completer, plan, previous })
    }
}

impl<V: Send + Sync + 'static> Core<V> {
    /// Starts the task, so that no caller's end ends the flight.
    pub(super) fn launch(
        self: &Arc<Self>,
        departure: Departure<V>,
        mut load: impl FlightLoader<V>,
    ) {
        let Departure { completer, plan, previous } = departure;
        if let Some(previous) = &previous {
            load.previous(previous);
        }
        let span = tracing::debug_span!(
            "flight",
            guard = self.observer.guard(),
            outcome = tracing::field::Empty
        );
        let (task, counted) = (self.tasks.begin(), self.observer.gauges.flights.up());
        let core = self.clone();
        let flight = async move {
            let _alive = (task, counted);
            let resolution = core.resolve(&completer, load, plan).await;
            core.record_outcome(resolution.completion.answer());
            core.complete(completer, resolution);
        };
        tokio::spawn(Loading::scope(Loading::current(), flight).instrument(span));
    }

    async fn resolve(
        &self,
        completer: &Completer<Answer<V>>,
        mut load: impl FlightLoader<V>,
        plan: Plan,
    ) -> Resolution<V> {
        match plan {
            Plan::Lease => {
                let task = FlightTask::new(self, completer, load, Duration::ZERO, true);
                tokio::select! {
                    biased;
                    resolution = self.resolve_with_soft_timeout(completer, task.run()) => resolution,
                    never = self.serve_what_the_solo_reader_found(completer) => match never {},
                }
            }
            Plan::Refresh(_permit, refresh) => {
                let task = FlightTask::new(self, completer, load, refresh.fresh_for, false);
                self.resolve_while_serving(completer, task.run(), refresh).await
            }
            Plan::Reload(reload) => {
                let task = FlightTask::new(self, completer, load, FOREVER, true);
                let resolving = task.reloading(reload).run();
                match reload.meanwhile {
                    Some(refresh) => {
                        self.resolve_while_serving(completer, resolving, refresh).await
                    }
                    None => resolving.await,
                }
            }
            Plan::Unleased(bypass) => {
                let budget = self.load_budget(completer, true);
                self.load_unleased(completer, &mut load, &budget, None, bypass).await
            }
        }
    }

    pub(super) fn load_budget(&self, completer: &Completer<Answer<V>>, queues: bool) -> LoadBudget {
        let deadline = Instant::now() + self.policy.load_timeout.min(FOREVER);
        LoadBudget { deadline, queues, depth: completer.depth().clone() }
    }

    /// What there is when no more loads are begun.
    pub(super) async fn without_a_load(&self, completer: &Completer<Answer<V>>) -> Resolution<V> {
        let epoch = completer.begin_epoch();
        let found = self.found_in_far(completer.name()).await;
        let served = match self.judge(found) {
            Found::Fresh(entry) => {
                return Resolution::read(epoch, entry, Outcome::Hit(Tier::Far));
            }
            Found::Early(entry) => Some(self.early(entry, Tier::Far).served),
            Found::Stale(entry) => Some(self.stale(entry, Tier::Far).served),
            Found::Expired(entry) => self.stale_fallback(&entry, StaleReason::Slow),
            Found::Dead(_) | Found::Nothing => None,
        };
        match served {
            Some(served) => Resolution::visible_before(epoch, served),
            None => Resolution::failed(Error::ShutDown),
        }
    }

    fn record_outcome(&self, answer: &Answer<V>) {
        let span = tracing::Span::current();
        match answer {
            Ok(fetched) => {
                span.record("outcome", fetched.outcome().as_str());
            }
            Err(error) => {
                span.record("outcome", error.as_str());
                let guard = self.observer.guard();
                tracing::debug!(guard, error = error.as_str(), "flight failed");
            }
        }
    }

    /// What the far tier's answer is worth now.
    pub(super) fn judge(&self, found: Option<Arc<Entry<V>>>) -> Found<V> {
        match found {
            Some(entry) => Found::judge(entry, &self.freshness, self.now()),
            None => Found::Nothing,
        }
    }
}
