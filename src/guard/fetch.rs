use std::{error, future::Future, sync::Arc};

use tokio::time::Instant;

use super::{
    answer::Answer,
    core::{Core, Guard},
    loader::Loader,
    refresh::Due,
};
use crate::{Error, Fetched, Key, Loaded, Outcome, Tier, freshness::Found, observe::Stopwatch};

impl<K: Key + ?Sized, V: Send + Sync + 'static> Guard<K, V> {
    /// The value of `key`: from this process, from the far tier, or from `load`, which runs once for
    /// all callers that ask at the same time, in this process and in the others.
    ///
    /// `load` runs on a task of its own. It is called again if it returns a version older than an
    /// acknowledged write or invalidation, until the load timeout. Task-locals of the caller are not
    /// set in it; the current tracing span is.
    ///
    /// A fresh near hit allocates nothing and awaits nothing.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up this caller's place and nothing else: the load goes on, answers
    /// the others and fills the cache. Nothing is lost but the answer to this caller.
    ///
    /// # Errors
    ///
    /// If there is nothing stale to serve instead: the load's error (also during the failure back-off
    /// after it), [`FailedElsewhere`](Error::FailedElsewhere), [`LoadTimeout`](Error::LoadTimeout),
    /// [`LoadPanicked`](Error::LoadPanicked), [`Outdated`](Error::Outdated),
    /// [`WaitTimeout`](Error::WaitTimeout) or [`Overloaded`](Error::Overloaded). In any case
    /// [`Nested`](Error::Nested), [`ShutDown`](Error::ShutDown), and [`Abandoned`](Error::Abandoned) when
    /// the runtime shuts down, or has no timer. A far tier that fails is not an error: the load then
    /// runs once per process.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime, if there is no fresh value in the near tier. With a far tier whose calls end after a
    /// time, as those over Redis do, also in a runtime without its timer.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[derive(Clone)] struct Database;
    /// # impl Database { async fn user(&self, id: u64) -> std::io::Result<Option<(String, u64)>> { Ok(None) } }
    /// # async fn show(guard: cattleguard::Guard<u64, String>, database: Database) -> Result<(), cattleguard::Error> {
    /// use cattleguard::Loaded;
    ///
    /// let id = 42;
    /// let user = guard
    ///     .fetch(&id, move || {
    ///         let database = database.clone();
    ///         async move {
    ///             Ok::<_, std::io::Error>(match database.user(id).await? {
    ///                 Some((name, version)) => Loaded::found(name, version),
    ///                 None => Loaded::absent(),
    ///             })
    ///         }
    ///     })
    ///     .await?;
    /// # Ok(()) }
    /// ```
    pub async fn fetch<F, Fut, E>(&self, key: &K, load: F) -> Result<Fetched<V>, Error>
    where
        F: FnMut() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Loaded<V>, E>> + Send + 'static,
        E: Into<Box<dyn error::Error + Send + Sync>> + 'static,
    {
        let missed = {
            let name = key.name();
            match self.core.look_near(&name) {
                Found::Fresh(entry) => return Ok(Fetched::new(entry, Outcome::Hit(Tier::Near))),
                // Boxed, so that a hit does not carry the size of a miss.
                found => Box::pin(self.resolve_miss(found, (*name).into(), None, load)),
            }
        };
        missed.await
    }

    /// Like [`fetch`](Self::fetch), but answers by `deadline`: with an expired entry, if there is one
    /// within [`stale_if_error`](crate::Policy::stale_if_error), or with
    /// [`DeadlineExceeded`](Error::DeadlineExceeded). The load goes on in any case. The one deadline
    /// that goes over everything: reading, waiting for another process, and loading.
    ///
    /// # Cancel safety
    ///
    /// As for [`fetch`](Self::fetch).
    ///
    /// # Errors
    ///
    /// As for [`fetch`](Self::fetch), and [`DeadlineExceeded`](Error::DeadlineExceeded).
    pub async fn fetch_by<F, Fut, E>(
        &self,
        key: &K,
        deadline: Instant,
        load: F,
    ) -> Result<Fetched<V>, Error>
    where
        F: FnMut() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Loaded<V>, E>> + Send + 'static,
        E: Into<Box<dyn error::Error + Send + Sync>> + 'static,
    {
        let fetching = {
            let name = key.name();
            match self.core.look_near(&name) {
                Found::Fresh(entry) => return Ok(Fetched::new(entry, Outcome::Hit(Tier::Near))),
                found => Box::pin(self.resolve_miss(found, (*name).into(), Some(deadline), load)),
            }
        };
        fetching.await
    }

    /// The fresh entry of `key` in this process, without waiting for anything.
    pub fn peek(&self, key: &K) -> Option<Fetched<V>> {
        let found = self.core.near.look(&key.name(), &self.core.freshness);
        Some(Fetched::new(found.fresh()?, Outcome::Hit(Tier::Near)))
    }

    /// Looks near, and counts what is a hit and nothing more. [`resolve_miss`](Self::resolve_miss) takes the
    /// rest further.
    pub(crate) fn look_near(&self, name: &str) -> Found<V> {
        self.core.look_near(name)
    }

    /// Everything but a plain near hit.
    pub(crate) fn resolve_miss<L: Loader<V>>(
        &self,
        found: Found<V>,
        name: Arc<str>,
        deadline: Option<Instant>,
        load: L,
    ) -> impl Future<Output = Answer<V>> + Send + use<K, V, L> {
        Core::resolve_miss(self.core.clone(), found, name, deadline, load)
    }

    /// Loads `name` anew. What there is of it stays until there is another.
    #[cfg(feature = "http")]
    pub(crate) async fn reload(
        &self,
        name: Arc<str>,
        previous: Option<Arc<crate::Entry<V>>>,
        load: impl Loader<V>,
    ) -> Answer<V> {
        self.core.reload(&name, previous, load).await
    }

    /// Looks near for what is a part of a request. It counts nothing.
    #[cfg(feature = "http")]
    pub(crate) fn look(&self, name: &str) -> Found<V> {
        self.core.near.look(name, &self.core.freshness)
    }

    /// Counts a request that a plain near hit has answered.
    #[cfg(feature = "http")]
    pub(crate) fn count_near_hit(&self) {
        self.core.observer.near_hit();
    }

    /// Counts a request that was answered from what is stored.
    #[cfg(feature = "http")]
    pub(crate) fn count_hit(&self, outcome: Outcome) {
        self.core.observer.hit(outcome);
    }

    /// As [`resolve_miss`](Self::resolve_miss), for what is a part of a request that is counted already.
    #[cfg(feature = "http")]
    pub(crate) fn resolve_part<L: Loader<V>>(
        &self,
        found: Found<V>,
        name: Arc<str>,
        deadline: Option<Instant>,
        load: L,
    ) -> impl Future<Output = Answer<V>> + Send + use<K, V, L> {
        Core::resolve_part(self.core.clone(), found, name, deadline, load)
    }

    /// What there is of `key`, near or far, without a load. It counts nothing.
    #[cfg(feature = "http")]
    pub(crate) async fn find(&self, key: &K) -> Option<Fetched<V>> {
        self.find_with(key, |_| None).await
    }

    /// As [`find`](Self::find), also what is served otherwise only if its load fails.
    #[cfg(feature = "http")]
    pub(crate) async fn find_stale(&self, key: &K) -> Option<Fetched<V>> {
        self.find_with(key, |expired| Some(Fetched::new(expired, Outcome::Stale(Tier::Far)))).await
    }

    #[cfg(feature = "http")]
    async fn find_with(
        &self,
        key: &K,
        expired: impl FnOnce(Arc<crate::Entry<V>>) -> Option<Fetched<V>>,
    ) -> Option<Fetched<V>> {
        let (core, name) = (&self.core, key.name());
        if let Some(entry) = self.look(&name).fresh() {
            return Some(Fetched::new(entry, Outcome::Hit(Tier::Near)));
        }
        match core.judge(core.found_in_far(&name).await) {
            Found::Fresh(entry) => Some(Fetched::new(entry, Outcome::Hit(Tier::Far))),
            Found::Early(entry) => Some(core.early(entry, Tier::Far).served),
            Found::Stale(entry) => Some(core.stale(entry, Tier::Far).served),
            Found::Expired(entry) => expired(entry),
            Found::Dead(_) | Found::Nothing => None,
        }
    }
}

impl<V: Send + Sync + 'static> Core<V> {
    /// Looks near, and counts what is a hit and nothing more.
    pub(super) fn look_near(&self, name: &str) -> Found<V> {
        let found = self.near.look(name, &self.freshness);
        if let Found::Fresh(_) = found {
            self.observer.near_hit();
        }
        found
    }

    /// Everything but a plain near hit.
    async fn resolve_miss(
        core: Arc<Self>,
        found: Found<V>,
        name: Arc<str>,
        deadline: Option<Instant>,
        load: impl Loader<V>,
    ) -> Answer<V> {
        let fetching = core.observer.fetching(Stopwatch::start());
        let answer = match core.due(found) {
            Some(due) => {
                let _within = fetching.span().enter();
                core.serve_due(&name, due, load)
            }
            None => fetching.within(core.await_answer(name, deadline, load)).await,
        };
        fetching.answered(&answer);
        answer
    }

    #[cfg(feature = "http")]
    async fn resolve_part(
        core: Arc<Self>,
        found: Found<V>,
        name: Arc<str>,
        deadline: Option<Instant>,
        load: impl Loader<V>,
    ) -> Answer<V> {
        match core.due(found) {
            Some(due) => core.serve_due(&name, due, load),
            None => core.await_answer(name, deadline, load).await,
        }
    }

    /// What was found near and is served while it is refreshed.
    fn due(&self, found: Found<V>) -> Option<Due<V>> {
        match found {
            Found::Early(entry) => Some(self.early(entry, Tier::Near)),
            Found::Stale(entry) => Some(self.stale(entry, Tier::Near)),
            Found::Fresh(_) | Found::Expired(_) | Found::Dead(_) | Found::Nothing => None,
        }
    }

    fn serve_due(
        self: &Arc<Self>,
        name: &Arc<str>,
        due: Due<V>,
        load: impl Loader<V>,
    ) -> Answer<V> {
        if let Some(departure) = self.refresh_near(name, &due, &mut None) {
            self.launch(*departure, load);
        }
        Ok(due.served)
    }
}
