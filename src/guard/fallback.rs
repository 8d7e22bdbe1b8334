//! What callers get when the origin does not answer: something stale, or the error, and then a back-off.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use super::{
    answer::{Answer, Keep, Resolution},
    core::{Core, CountsAsFailure},
    failure_backoff::{DuringBackoff, FailureBackoff},
};
use crate::{
    Entry, Error, Fetched, Outcome, StaleReason, Tier,
    flight::{Completer, Completion},
    freshness::Age,
};

impl<V: Send + Sync + 'static> Core<V> {
    /// The answer to give while `name` backs off. `None` also if the far tier has to be asked.
    pub(super) fn during_backoff(&self, name: &str) -> Option<Answer<V>> {
        match self.failures.answer(name, || self.now())? {
            DuringBackoff::Stale(entry) if !self.is_current(&entry) => None,
            DuringBackoff::Stale(entry) => self.stale_fallback(&entry, StaleReason::Failed).map(Ok),
            DuringBackoff::AskFar => None,
            DuringBackoff::Error(error) => Some(Err(error)),
        }
    }

    pub(super) fn is_backing_off(&self, name: &str) -> bool {
        self.failures.current(name, || self.now()).is_some()
    }

    /// An entry that may be served although the origin is in trouble.
    pub(super) fn stale_fallback(
        &self,
        entry: &Arc<Entry<V>>,
        reason: StaleReason,
    ) -> Option<Fetched<V>> {
        let outcome = match self.freshness.age(entry, self.now()) {
            Age::Fresh => Outcome::Hit(Tier::Far),
            Age::Stale | Age::Expired => Outcome::StaleIfError(reason),
            Age::Dead => return None,
        };
        Some(Fetched::new(entry.clone(), outcome))
    }

    /// The answer when a load of this process has failed: something stale or the error, for callers aboard
    /// and for those that ask during the back-off. An epoch between them would only send the ones to the
    /// others.
    pub(super) fn back_off(
        &self,
        found: Option<Arc<Entry<V>>>,
        error: Error,
        pause: Duration,
        failures: u32,
    ) -> Resolution<V> {
        let fallback =
            found.as_ref().and_then(|entry| self.stale_fallback(entry, StaleReason::Failed));
        let completion = Completion::for_all(fallback.ok_or_else(|| error.clone()));
        let backoff = FailureBackoff::new(self.now(), pause, failures, error, found);
        Resolution { completion, keep: Keep::Failure(backoff) }
    }

    /// The answer when another process' load has failed and no process loads for `remaining`.
    pub(super) async fn failed_elsewhere(
        &self,
        completer: &Completer<Answer<V>>,
        remaining: Duration,
    ) -> Resolution<V> {
        let name = completer.name();
        completer.begin_epoch();
        let found = self.found_in_far(name).await;
        let error = Error::FailedElsewhere { retry_after: remaining };
        // The far tier has counted it.
        let failures = self.failures.failures(name, self.now());
        self.back_off(found, error, remaining, failures)
    }

    /// Something stale instead of an error that says nothing about the key. The far tier is asked only
    /// now, so that it tells of an invalidation that came meanwhile.
    pub(super) async fn stale_instead(
        &self,
        completer: &Completer<Answer<V>>,
        error: Error,
    ) -> Resolution<V> {
        let reason = match error {
            Error::Overloaded { .. } => StaleReason::Overloaded,
            Error::WaitTimeout { .. } => StaleReason::Slow,
            _ => return Resolution::failed(error),
        };
        let epoch = completer.begin_epoch();
        let found = self.found_in_far(completer.name()).await;
        if let Some(entry) = found.as_ref().filter(|entry| entry.is_fresh_at(self.now())) {
            return Resolution::read(epoch, entry.clone(), Outcome::Hit(Tier::Far));
        }
        match found.and_then(|entry| self.stale_fallback(&entry, reason)) {
            Some(fetched) => Resolution::visible_before(epoch, fetched),
            None => Resolution::failed(error),
        }
    }

    /// The end of a refresh that is not made now: callers keep what they are served meanwhile.
    pub(super) async fn leave_as_served(
        &self,
        completer: &Completer<Answer<V>>,
        why: Error,
    ) -> Resolution<V> {
        match completer.provisional(|| self.now()) {
            Some(served) => Resolution::of(Completion::for_all(served)),
            None => self.stale_instead(completer, why).await,
        }
    }

    /// Whether this error says something about the origin and the key, rather than about this process
    /// or this caller.
    pub(super) fn counts(&self, error: &Error) -> bool {
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
