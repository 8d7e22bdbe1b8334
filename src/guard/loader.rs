use std::{error, future::Future, sync::Arc};

use tokio::time::Instant;

use crate::{Entry, Error, Loaded, flight::Depth};

/// A way to ask the origin, as a flight has it.
pub(crate) trait Loader<V>: Send + 'static {
    /// Asks the origin. The budget is for loaders that see to their own place in the bulkhead.
    fn load(
        &mut self,
        budget: &LoadBudget,
    ) -> impl Future<Output = Result<Loaded<V>, Error>> + Send + use<Self, V>;

    /// Called when the entry is known that is to be loaded anew, before the flight begins.
    fn previous(&mut self, _entry: &Arc<Entry<V>>) {}

    /// Whether callers pass a name for a while once its value may not be kept. Not for a loader that has a
    /// hit-for-pass of its own.
    fn is_passed_if_uncacheable(&self) -> bool {
        true
    }

    /// Called before the flight waits for something else than its load.
    fn stand_by(&mut self) {}

    /// Whether the loader sees to its own place in the bulkhead.
    fn has_own_place(&self) -> bool {
        false
    }
}

/// What a load may cost.
#[derive(Clone)]
pub(crate) struct LoadBudget {
    pub(super) deadline: Instant,
    /// Whether it may wait for room in the bulkhead: not if no caller waits for it.
    pub(super) queues: bool,
    /// Of the callers that wait for it.
    pub(super) depth: Arc<Depth>,
}

impl LoadBudget {
    /// When the load is aborted.
    #[cfg(feature = "http")]
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }
}

impl<V, F, Fut, E> Loader<V> for F
where
    F: FnMut() -> Fut + Send + 'static,
    Fut: Future<Output = Result<Loaded<V>, E>> + Send + 'static,
    E: Into<Box<dyn error::Error + Send + Sync>> + 'static,
{
    fn load(
        &mut self,
        _: &LoadBudget,
    ) -> impl Future<Output = Result<Loaded<V>, Error>> + Send + use<V, F, Fut, E> {
        let loading = self();
        async move { loading.await.map_err(|error| Error::Origin(Arc::from(error.into()))) }
    }
}
