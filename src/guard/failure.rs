//! What callers get when the origin does not answer: something stale, or the error, and then a pause.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use futures::future::join;

use super::{
    Core, CountsAsFailure,
    fetch::Answer,
    fly::Arrival,
    pauses::{Known, Pause},
};
use crate::{
    Entry, Error, Fetched, Outcome, StaleReason, Tier,
    entry::Age,
    far::Token,
    flight::{Landing, Ticket},
};

impl<V: Send + Sync + 'static> Core<V> {
    /// The answer to give while `name` is left alone. `None` also if the far tier has to be asked.
    pub(super) fn paused(&self, name: &str) -> Option<Answer<V>> {
        match self.pauses.known(name, || self.now())? {
            Known::Stale(entry) => self.resort_to(&entry, StaleReason::Failed).map(Ok),
            Known::Unsure => None,
            Known::Error(error) => Some(Err(error)),
        }
    }

    /// Ends a lease whose load failed, and has the answer for those aboard.
    pub(super) async fn failed(
        &self,
        ticket: &Ticket<Answer<V>>,
        lease: Option<(Token, u32)>,
        error: Error,
    ) -> Arrival<V> {
        let name = ticket.name();
        if !self.counts(&error) {
            if let Some((token, _)) = lease {
                self.release(name, token).await;
            }
            return self.instead(ticket, error).await;
        }
        let known = lease.map_or(0, |(_, failures)| failures);
        let failures = self.pauses.failures(name, self.now()).max(known).saturating_add(1);
        // Spread, so that keys that failed together are not tried together.
        let pause = self.policy.pause_after(failures).mul_f64(0.75 + fastrand::f64() / 4.0);
        let telling = async {
            match lease {
                // Of a lease that was lost meanwhile the far tier takes no notice.
                Some((token, _)) if !pause.is_zero() => {
                    let told = self.ask(self.far.fail(name, token, pause)).await;
                    if let Err(error) = told {
                        tracing::debug!(%error, "failure not shared");
                        self.release_later(name, token);
                    }
                }
                Some((token, _)) => self.release(name, token).await,
                None => {}
            }
        };
        let ((), found) = join(telling, self.found_in_far(name)).await;
        self.left_alone(found, error, pause, failures)
    }

    /// The answer when another process' load has failed and nobody loads for `remaining`.
    pub(super) async fn failed_elsewhere(
        &self,
        ticket: &Ticket<Answer<V>>,
        remaining: Duration,
    ) -> Arrival<V> {
        let found = self.found_in_far(ticket.name()).await;
        let error = Error::FailedElsewhere { retry_after: remaining };
        // The far tier has counted it.
        let failures = self.pauses.failures(ticket.name(), self.now());
        self.left_alone(found, error, remaining, failures)
    }

    /// The answer for those aboard, and for those who ask during the pause: a mark between them would
    /// only send the ones to the others.
    fn left_alone(
        &self,
        found: Option<Arc<Entry<V>>>,
        error: Error,
        pause: Duration,
        failures: u32,
    ) -> Arrival<V> {
        let instead = found.as_ref().and_then(|entry| self.resort_to(entry, StaleReason::Failed));
        let landing = Landing::for_all(instead.ok_or_else(|| error.clone()));
        let pause = Pause::new(self.now(), pause, failures, error, found);
        Arrival { pause: Some(pause), ..Arrival::of(landing) }
    }

    /// Something stale instead of an error that says nothing about the key.
    pub(super) async fn instead(&self, ticket: &Ticket<Answer<V>>, error: Error) -> Arrival<V> {
        let trouble = match error {
            Error::Overloaded { .. } => StaleReason::Overloaded,
            Error::WaitTimeout { .. } => StaleReason::Slow,
            _ => return Arrival::failed(error),
        };
        let mark = ticket.mark();
        match self.find_resort(ticket.name(), trouble).await {
            Some(fetched) => Arrival::of(Landing::for_those_before(mark, Ok(fetched))),
            None => Arrival::failed(error),
        }
    }

    /// What the far tier has, if it may still be served. Asked only when it is needed, so that it
    /// tells of an invalidation that came meanwhile.
    pub(super) async fn find_resort(&self, name: &str, trouble: StaleReason) -> Option<Fetched<V>> {
        self.resort_to(&self.found_in_far(name).await?, trouble)
    }

    pub(super) async fn found_in_far(&self, name: &str) -> Option<Arc<Entry<V>>> {
        self.ask(self.far.read(name)).await.ok().flatten()
    }

    pub(super) fn resort_to(
        &self,
        entry: &Arc<Entry<V>>,
        trouble: StaleReason,
    ) -> Option<Fetched<V>> {
        let outcome = match entry.age(self.now(), self.last_resort(entry)) {
            Age::Fresh => Outcome::Hit(Tier::Far),
            Age::Stale => Outcome::StaleIfError(trouble),
            Age::Dead => return None,
        };
        Some(Fetched::new(entry.clone(), outcome))
    }

    /// Whether this error says something about the origin and the key, rather than about this process
    /// or this caller.
    fn counts(&self, error: &Error) -> bool {
        let of_load = matches!(
            error,
            Error::Origin(_)
                | Error::LoadTimeout { .. }
                | Error::LoadPanicked
                | Error::Outdated { .. }
        );
        let counts = |counts: &CountsAsFailure| {
            // The user's. A panic here must not cost the others their answer.
            catch_unwind(AssertUnwindSafe(|| counts(error))).unwrap_or(true)
        };
        of_load && self.counts_as_failure.as_ref().is_none_or(counts)
    }
}
