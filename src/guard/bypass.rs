use std::{future::Future, sync::Arc};

use tokio::time::Instant;

use super::{
    answer::Answer,
    core::{Core, Guard},
    limits::FOREVER,
    loader::{FlightLoader, LoadBudget},
};
use crate::{Bypass, Error, Fetched, Loaded, Outcome, Version, observe::Stopwatch};

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

#[cfg(feature = "http")]
impl<K: ?Sized, V: Send + Sync + 'static> Guard<K, V> {
    /// A place in the bulkhead for a call to the origin past every tier. Waits for it until the deadline, and no
    /// longer than for the load timeout.
    pub(crate) async fn place(
        &self,
        deadline: Option<Instant>,
    ) -> Result<super::load::Place, Error> {
        let longest = Instant::now() + self.core.policy.load_timeout.min(FOREVER);
        let deadline = deadline.map_or(longest, |deadline| deadline.min(longest));
        self.core.place_by(deadline, true, &[Arc::default()]).await
    }
}

impl<V: Send + Sync + 'static> Core<V> {
    /// This caller's own load, of a name whose values may not be kept. `None` if it turns out to be older than
    /// what is on record, and can be repeated: that is for a flight, which asks a lagging origin again.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the load: no other caller waits for it.
    pub(super) async fn pass(
        &self,
        name: &Arc<str>,
        minimum: Version,
        load: &mut impl FlightLoader<V>,
    ) -> Option<Answer<V>> {
        let _task = self.tasks.begin();
        let deadline = Instant::now() + self.policy.load_timeout.min(FOREVER);
        let budget = LoadBudget { deadline, queues: true, depth: Arc::default() };
        let loading = async {
            let place = self.place_for(load, &budget).await?;
            self.load_once(name, load, &budget, place, true).await
        };
        let loaded = match loading.await {
            Ok(loaded) => loaded,
            Err(error) => {
                // The next load is a flight's, whose failure makes everyone back off.
                if self.counts(&error) {
                    self.passes.end(name);
                }
                return Some(Err(error));
            }
        };
        if loaded.cacheable {
            self.passes.end(name);
        }
        let record = self.freshness.record(loaded, self.now());
        if record.version.is_some_and(|version| version < minimum) {
            self.passes.end(name);
            let loaded = record.entry.version();
            return (!load.can_repeat()).then_some(Err(Error::Outdated { loaded, minimum }));
        }
        Some(Ok(Fetched::new(record.entry, Outcome::Bypassed(Bypass::Uncacheable))))
    }

    async fn bypass(
        core: Arc<Self>,
        loading: impl Future<Output = Result<Loaded<V>, Error>>,
    ) -> Answer<V> {
        let fetching = core.observer.fetching(Stopwatch::start());
        let answer = fetching.within(loading).await.and_then(Loaded::into_result).map(|loaded| {
            let record = core.freshness.record(loaded, core.now());
            Fetched::new(record.entry, Outcome::Bypassed(Bypass::NoKey))
        });
        fetching.answered(None, &answer);
        answer
    }
}
