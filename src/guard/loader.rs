use std::{error, future::Future, sync::Arc};

use super::fly::Patience;
use crate::{Entry, Error, Loaded};

/// A way to ask the origin, as a flight has it.
pub(crate) trait Loader<V>: Send + 'static {
    /// Asks the origin. `patience` is for those who see to their own place in the bulkhead.
    fn load(
        &mut self,
        patience: &Patience,
    ) -> impl Future<Output = Result<Loaded<V>, Error>> + Send + use<Self, V>;

    /// Called when what is to be loaded anew is known, before the flight begins.
    fn previous(&mut self, _entry: &Arc<Entry<V>>) {}

    /// Called before the flight waits for something else than its load.
    fn stand_by(&mut self) {}

    /// Whether the load sees to its own place in the bulkhead.
    fn has_own_permit(&self) -> bool {
        false
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
        _: &Patience,
    ) -> impl Future<Output = Result<Loaded<V>, Error>> + Send + use<V, F, Fut, E> {
        let loading = self();
        async move { loading.await.map_err(|error| Error::Origin(Arc::from(error.into()))) }
    }
}
