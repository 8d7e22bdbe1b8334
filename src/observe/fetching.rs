use tracing::{Instrument, Span, instrument::Instrumented};

use super::{Stopwatch, observer::Observer};
use crate::{Error, Fetched};

/// A request that is no plain near hit, until it is answered: its span, and its place in the metrics.
///
/// Dropped without an answer it counts as a caller that went away.
#[must_use = "a caller that goes away is counted as one"]
pub(crate) struct Fetching<'a> {
    /// `None` once it is counted.
    observer: Option<&'a Observer>,
    begun: Stopwatch,
    span: Span,
}

impl Observer {
    pub(crate) fn fetching(&self, begun: Stopwatch) -> Fetching<'_> {
        let span =
            tracing::debug_span!("fetch", guard = self.guard(), outcome = tracing::field::Empty);
        // One that nobody watches would be entered and left all the same, for `log`.
        let span = if span.is_disabled() { Span::none() } else { span };
        Fetching { observer: Some(self), begun, span }
    }
}

impl Fetching<'_> {
    /// Does what is to be done for this request within its span.
    pub(crate) fn within<F: Future>(&self, work: F) -> Instrumented<F> {
        work.instrument(self.span.clone())
    }

    pub(crate) fn span(&self) -> &Span {
        &self.span
    }

    /// Says how the answer to a request for `name` came, to the span, the metrics and the hook.
    pub(crate) fn answered<V>(mut self, name: Option<&str>, answer: &Result<Fetched<V>, Error>) {
        let outcome = match answer {
            Ok(fetched) => fetched.outcome().as_str(),
            Err(error) => error.as_str(),
        };
        self.span.record("outcome", outcome);
        if let Some(observer) = self.observer.take() {
            observer.fetches.count(outcome);
            observer.fetch_seconds.record(self.begun.elapsed());
            if let Ok(fetched) = answer {
                observer.served(name, fetched);
            }
        }
    }
}

impl Drop for Fetching<'_> {
    fn drop(&mut self) {
        if let Some(observer) = self.observer {
            observer.fetches_dropped.increment();
        }
    }
}
