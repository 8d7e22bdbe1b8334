use std::{future::Future, sync::Arc};

use super::{
    answer::Answer,
    core::{Core, Guard},
};
use crate::{Bypass, Error, Fetched, Loaded, Outcome, observe::Stopwatch};

impl<K: ?Sized, V: Send + Sync + 'static> Guard<K, V> {
    /// Past every tier, for a request that has no key.
    pub(crate) fn bypass<F>(
        &self,
        loading: F,
    ) -> impl Future<Output = Result<Fetched<V>, Error>> + Send + use<K, V, F>
    where
        F: Future<Output = Result<Loaded<V>, Error>> + Send,
    {
        Core::bypass(self.core.clone(), loading)
    }
}

impl<V: Send + Sync + 'static> Core<V> {
    async fn bypass(
        core: Arc<Self>,
        loading: impl Future<Output = Result<Loaded<V>, Error>>,
    ) -> Answer<V> {
        let fetching = core.observer.fetching(Stopwatch::start());
        let answer = fetching.within(loading).await.map(|loaded| {
            let record = core.freshness.record(loaded, core.now());
            Fetched::new(record.entry, Outcome::Bypassed(Bypass::NoKey))
        });
        fetching.answered(&answer);
        answer
    }
}
