use std::{error, future::Future, sync::Arc};

use tokio::time::Instant;

use super::{
    answer::Answer,
    core::{Core, Guard},
    loader::{FlightLoader, Once, WithTtl},
    options::FetchOptions,
    refresh::Due,
};
use crate::{
    Error, Fetched, Key, Loaded, Outcome, Tier, freshness::Found, key::name_of, observe::Stopwatch,
};

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
    pub async fn fetch<F, Fut, L, E>(&self, key: &K, load: F) -> Result<Fetched<V>, Error>
    where
        F: FnMut() -> Fut + Send + 'static,
        Fut: Future<Output = Result<L, E>> + Send + 'static,
        L: Into<Loaded<V>> + 'static,
        E: Into<Box<dyn error::Error + Send + Sync>> + 'static,
    {
        self.answer(key, &FetchOptions::NONE, || load).await
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
    pub async fn fetch_by<F, Fut, L, E>(
        &self,
        key: &K,
        deadline: Instant,
        load: F,
    ) -> Result<Fetched<V>, Error>
    where
        F: FnMut() -> Fut + Send + 'static,
        Fut: Future<Output = Result<L, E>> + Send + 'static,
        L: Into<Loaded<V>> + 'static,
        E: Into<Box<dyn error::Error + Send + Sync>> + 'static,
    {
        self.fetch_with(key, FetchOptions::new().deadline(deadline), load).await
    }

    /// Like [`fetch`](Self::fetch), with what is different for this call.
    ///
    /// # Cancel safety
    ///
    /// As for [`fetch`](Self::fetch).
    ///
    /// # Errors
    ///
    /// As for [`fetch_by`](Self::fetch_by).
    pub async fn fetch_with<F, Fut, L, E>(
        &self,
        key: &K,
        options: FetchOptions,
        load: F,
    ) -> Result<Fetched<V>, Error>
    where
        F: FnMut() -> Fut + Send + 'static,
        Fut: Future<Output = Result<L, E>> + Send + 'static,
        L: Into<Loaded<V>> + 'static,
        E: Into<Box<dyn error::Error + Send + Sync>> + 'static,
    {
        self.answer(key, &options, || load).await
    }

    /// Like [`fetch`](Self::fetch), with a load that can be made only once: a future instead of a function. It is
    /// not asked again: if it brings a version older than an acknowledged write, as from a lagging replica, the
    /// answer is [`Outdated`](Error::Outdated). It is dropped unpolled if there is another answer.
    ///
    /// # Cancel safety
    ///
    /// As for [`fetch`](Self::fetch).
    ///
    /// # Errors
    ///
    /// As for [`fetch`](Self::fetch).
    pub async fn fetch_once<Fut, L, E>(&self, key: &K, load: Fut) -> Result<Fetched<V>, Error>
    where
        Fut: Future<Output = Result<L, E>> + Send + 'static,
        L: Into<Loaded<V>> + 'static,
        E: Into<Box<dyn error::Error + Send + Sync>> + 'static,
    {
        self.answer(key, &FetchOptions::NONE, || Once::of(load)).await
    }

    /// The value of `key`, if there is a fresh one in a tier. It asks the far tier if there is none near, and never
    /// loads. `None` if there is none, or the far tier does not answer.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn find(&self, key: &K) -> Option<Fetched<V>> {
        self.find_servable(key).await.filter(Fetched::is_hit)
    }

    /// What all ways to fetch a key have in common.
    pub(super) async fn answer<L: FlightLoader<V>>(
        &self,
        key: &K,
        options: &FetchOptions,
        load: impl FnOnce() -> L,
    ) -> Answer<V> {
        let missed = {
            let name = name_of(key);
            let found = match options.skip_near {
                true => Found::Nothing,
                false => self.core.look_near(&name),
            };
            match found {
                Found::Fresh(entry) => return Ok(Fetched::new(entry, Outcome::Hit(Tier::Near))),
                // Boxed, so that a hit does not carry the size of a miss.
                found => {
                    let load = WithTtl { load: load(), ttl: options.ttl };
                    Box::pin(self.resolve_miss(found, (*name).into(), options.deadline, load))
                }
            }
        };
        missed.await
    }

    /// The fresh entry of `key` in this process, without waiting for anything.
    pub fn peek(&self, key: &K) -> Option<Fetched<V>> {
        let found = self.core.found_near(&name_of(key));
        Some(Fetched::new(found.fresh()?, Outcome::Hit(Tier::Near)))
    }

    /// Looks near, and counts what is a hit and nothing more. [`resolve_miss`](Self::resolve_miss) takes the
    /// rest further.
    pub(crate) fn look_near(&self, name: &str) -> Found<V> {
        self.core.look_near(name)
    }

    /// Everything but a plain near hit.
    pub(crate) fn resolve_miss<L: FlightLoader<V>>(
        &self,
        found: Found<V>,
        name: Arc<str>,
        deadline: Option<Instant>,
        load: L,
    ) -> impl Future<Output = Answer<V>> + Send + use<K, V, L> {
        Core::resolve_miss(self.core.clone(), found, name, deadline, load)
    }

    /// Loads `key` anew with `load`, although it may be fresh: as [`LoadingGuard::refresh`](crate::LoadingGuard::refresh).
    ///
    /// # Cancel safety
    ///
    /// As for [`fetch`](Self::fetch).
    ///
    /// # Errors
    ///
    /// As for [`fetch`](Self::fetch).
    pub async fn refresh_with<F, Fut, L, E>(&self, key: &K, load: F) -> Result<Fetched<V>, Error>
    where
        F: FnMut() -> Fut + Send + 'static,
        Fut: Future<Output = Result<L, E>> + Send + 'static,
        L: Into<Loaded<V>> + 'static,
        E: Into<Box<dyn error::Error + Send + Sync>> + 'static,
    {
        self.refresh_by(key, load).await
    }

    pub(super) async fn refresh_by(&self, key: &K, load: impl FlightLoader<V>) -> Answer<V> {
        let fetching = self.core.observer.fetching(Stopwatch::start());
        let name: Arc<str> = (*name_of(key)).into();
        let refreshing = Box::pin(async {
            let previous = self.find_servable(key).await.map(|found| found.entry().clone());
            self.core.reload(&name, previous, load).await
        });
        let answer = fetching.within(refreshing).await;
        fetching.answered(Some(&name), &answer);
        answer
    }

    /// Loads `name` anew. What there is of it stays until there is another.
    #[cfg(feature = "http")]
    pub(crate) async fn reload(
        &self,
        name: Arc<str>,
        previous: Option<Arc<crate::Entry<V>>>,
        load: impl FlightLoader<V>,
    ) -> Answer<V> {
        self.core.reload(&name, previous, load).await
    }

    /// Looks near for what is a part of a request. It counts nothing.
    pub(crate) fn look(&self, name: &str) -> Found<V> {
        self.core.found_near(name)
    }

    /// Counts a request that a plain near hit has answered.
    #[cfg(feature = "http")]
    pub(crate) fn count_near_hit(&self) {
        self.core.observer.near_hit();
    }

    /// Counts a request that was answered from what is stored under `name`.
    #[cfg(feature = "http")]
    pub(crate) fn count_hit(&self, name: &str, fetched: &Fetched<V>) {
        self.core.observer.hit(name, fetched);
    }

    /// As [`resolve_miss`](Self::resolve_miss), for what is a part of a request that is counted already.
    #[cfg(feature = "http")]
    pub(crate) fn resolve_part<L: FlightLoader<V>>(
        &self,
        found: Found<V>,
        name: Arc<str>,
        deadline: Option<Instant>,
        load: L,
    ) -> impl Future<Output = Answer<V>> + Send + use<K, V, L> {
        Core::resolve_part(self.core.clone(), found, name, deadline, load)
    }

    /// What there is of `key`, near or far, to be served, stale or not, without a load. It counts nothing.
    pub(crate) async fn find_servable(&self, key: &K) -> Option<Fetched<V>> {
        self.find_with(key, |_| None).await
    }

    /// As [`find_servable`](Self::find_servable), also what is served otherwise only if its load fails.
    #[cfg(feature = "http")]
    pub(crate) async fn find_stale(&self, key: &K) -> Option<Fetched<V>> {
        self.find_with(key, |expired| Some(Fetched::new(expired, Outcome::Stale(Tier::Far)))).await
    }

    async fn find_with(
        &self,
        key: &K,
        expired: impl FnOnce(Arc<crate::Entry<V>>) -> Option<Fetched<V>>,
    ) -> Option<Fetched<V>> {
        let (core, name) = (&self.core, name_of(key));
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
        let found = self.found_near(name);
        if let Found::Fresh(_) = found {
            self.observer.near_hit();
        }
        found
    }

    /// What the near tier has, if it was not purged.
    pub(super) fn found_near(&self, name: &str) -> Found<V> {
        match self.near.look(name, &self.freshness) {
            Found::Fresh(entry) | Found::Early(entry) | Found::Stale(entry)
                if !self.is_current(&entry) =>
            {
                Found::Nothing
            }
            found => found,
        }
    }

    /// Everything but a plain near hit.
    async fn resolve_miss(
        core: Arc<Self>,
        found: Found<V>,
        name: Arc<str>,
        deadline: Option<Instant>,
        load: impl FlightLoader<V>,
    ) -> Answer<V> {
        let fetching = core.observer.fetching(Stopwatch::start());
        let answer = match core.due(found) {
            Some(due) => {
                let _within = fetching.span().enter();
                core.serve_due(&name, due, load)
            }
            None => fetching.within(core.await_answer(&name, deadline, load)).await,
        };
        fetching.answered(Some(&name), &answer);
        answer
    }

    #[cfg(feature = "http")]
    async fn resolve_part(
        core: Arc<Self>,
        found: Found<V>,
        name: Arc<str>,
        deadline: Option<Instant>,
        load: impl FlightLoader<V>,
    ) -> Answer<V> {
        match core.due(found) {
            Some(due) => core.serve_due(&name, due, load),
            None => core.await_answer(&name, deadline, load).await,
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
        load: impl FlightLoader<V>,
    ) -> Answer<V> {
        if let Some(departure) = self.refresh_near(name, &due, &mut None) {
            self.launch(*departure, load);
        }
        Ok(due.served)
    }
}
