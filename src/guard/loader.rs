use std::{error, future::Future, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::tags::Before;
use crate::{Entry, Error, Loaded, flight::Depth};

/// A way to ask the origin, as a flight has it.
pub(crate) trait FlightLoader<V>: Send + 'static {
    /// Asks the origin. The budget is for loaders that see to their own place in the bulkhead.
    fn load(
        &mut self,
        budget: &LoadBudget,
    ) -> impl Future<Output = Result<Loaded<V>, Error>> + Send + use<Self, V>;

    /// Called before the origin is asked, with what is known of tags then.
    fn begins(&mut self, _before: Before) {}

    /// What was known of tags before the origin was asked, if that was before this load.
    fn begun(&self) -> Option<Before> {
        None
    }

    /// Called when the entry is known that is to be loaded anew, before the flight begins.
    fn previous(&mut self, _entry: &Arc<Entry<V>>) {}

    /// Whether callers pass a name for a while once its value may not be kept. Not for a loader that has a
    /// hit-for-pass of its own.
    fn is_passed_if_uncacheable(&self) -> bool {
        true
    }

    /// Called before the flight waits for something else than its load.
    fn stand_by(&mut self) {}

    /// Whether it may be asked again, if the origin was behind.
    fn can_repeat(&self) -> bool {
        true
    }

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

impl<V, F, Fut, L, E> FlightLoader<V> for F
where
    F: FnMut() -> Fut + Send + 'static,
    Fut: Future<Output = Result<L, E>> + Send + 'static,
    L: Into<Loaded<V>> + 'static,
    E: Into<Box<dyn error::Error + Send + Sync>> + 'static,
{
    fn load(
        &mut self,
        _: &LoadBudget,
    ) -> impl Future<Output = Result<Loaded<V>, Error>> + Send + use<V, F, Fut, L, E> {
        loaded(self())
    }
}

async fn loaded<V, L, E>(loading: impl Future<Output = Result<L, E>>) -> Result<Loaded<V>, Error>
where
    L: Into<Loaded<V>>,
    E: Into<Box<dyn error::Error + Send + Sync>>,
{
    match loading.await {
        Ok(loaded) => Ok(loaded.into()),
        Err(error) => Err(Error::Origin(Arc::from(error.into()))),
    }
}

/// A load that can be made only once.
pub(super) struct Once<Fut>(Option<Fut>);

impl<Fut> Once<Fut> {
    pub(super) const fn of(load: Fut) -> Self {
        Self(Some(load))
    }
}

impl<V, Fut, L, E> FlightLoader<V> for Once<Fut>
where
    Fut: Future<Output = Result<L, E>> + Send + 'static,
    L: Into<Loaded<V>> + 'static,
    E: Into<Box<dyn error::Error + Send + Sync>> + 'static,
{
    fn load(
        &mut self,
        _: &LoadBudget,
    ) -> impl Future<Output = Result<Loaded<V>, Error>> + Send + use<V, Fut, L, E> {
        let load = self.0.take();
        async move {
            match load {
                Some(load) => loaded(load).await,
                None => Err(Error::Abandoned),
            }
        }
    }

    fn can_repeat(&self) -> bool {
        false
    }
}

/// A load whose value is fresh for this long, if it does not say so itself.
pub(super) struct WithTtl<L> {
    pub(super) load: L,
    pub(super) ttl: Option<Duration>,
}

impl<V, L: FlightLoader<V>> FlightLoader<V> for WithTtl<L> {
    fn load(
        &mut self,
        budget: &LoadBudget,
    ) -> impl Future<Output = Result<Loaded<V>, Error>> + Send + use<V, L> {
        let (loading, ttl) = (self.load.load(budget), self.ttl);
        async move {
            let mut loaded = loading.await?;
            // An absence has a ttl of another kind.
            if loaded.value.is_some() {
                loaded.ttl = loaded.ttl.or(ttl);
            }
            Ok(loaded)
        }
    }

    fn previous(&mut self, entry: &Arc<Entry<V>>) {
        self.load.previous(entry);
    }

    fn can_repeat(&self) -> bool {
        self.load.can_repeat()
    }
}
