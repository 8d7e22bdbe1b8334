//! What a guard does, as metrics.

use std::time::Duration;

use crate::{Error, Outcome, far, guard::BreakerState};

/// Counts what one guard does.
#[derive(Clone)]
pub(crate) struct Observer;

impl Observer {
    pub(crate) fn new(_guard: &str) -> Self {
        Self
    }

    /// A request was answered.
    pub(crate) fn fetched(&self, _outcome: Outcome) {}

    /// A request got an error.
    pub(crate) fn failed(&self, _error: &Error) {}

    /// A request that was no plain near hit took so long.
    pub(crate) fn waited(&self, _took: Duration) {}

    /// The origin was asked, and has answered in this time.
    pub(crate) fn loaded(&self, _answer: Result<(), &Error>, _took: Duration) {}

    /// How many loads run and queue now.
    pub(crate) fn loads(&self, _running: usize, _queued: usize) {}

    /// A call to the far tier failed.
    pub(crate) fn far_failed(&self, _error: &far::Error) {}

    /// The breaker before the far tier is in this state now.
    pub(crate) fn breaker(&self, _state: BreakerState) {}

    /// An invalidation or a put was acknowledged or not.
    pub(crate) fn written(&self, _what: &'static str, _result: &'static str) {}

    /// How many invalidations wait for the far tier to come back.
    pub(crate) fn kept_invalidations(&self, _count: usize) {}

    /// A commit was refused, because of this.
    pub(crate) fn refused(&self, _why: &'static str) {}
}
