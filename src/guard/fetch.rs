use std::{error, future::Future, sync::Arc, time::Duration};

use tokio::{sync::OwnedSemaphorePermit, time::Instant};
use tracing::Instrument;

use super::{Core, Guard, fly::Route, loader::Loader, nesting::Loading};
use crate::{
    Entry, Error, Fetched, Key, Loaded, Moment, Outcome, Tier, Trouble, Version, entry::Age,
    flight::Boarding, near::Look,
};

pub(super) type Answer<V> = Result<Fetched<V>, Error>;

impl<K: Key + ?Sized, V: Send + Sync + 'static> Guard<K, V> {
    /// The value of `key`: from this process, from the far tier, or from `load`, which runs once for
    /// all who ask at the same time, in this process and in the others.
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
    /// If there is nothing stale to be had instead: the load's error (also for a failure pause after
    /// it), [`FailedElsewhere`](Error::FailedElsewhere), [`LoadTimeout`](Error::LoadTimeout),
    /// [`LoadPanicked`](Error::LoadPanicked), [`Outdated`](Error::Outdated),
    /// [`WaitTimeout`](Error::WaitTimeout) or [`Overloaded`](Error::Overloaded). In any case
    /// [`Nested`](Error::Nested), [`ShutDown`](Error::ShutDown), and [`Abandoned`](Error::Abandoned) when
    /// the runtime shuts down or has no timer. A far tier that fails is not an error: the load then
    /// runs once per process.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime, if there is no fresh value in the near tier.
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
                Look::Fresh(entry) => return Ok(Fetched::new(entry, Outcome::Hit(Tier::Near))),
                // Boxed, so that a hit does not carry the size of a miss.
                look => Box::pin(Core::miss(self.core.clone(), look, (*name).into(), load)),
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
                Look::Fresh(entry) => return Ok(Fetched::new(entry, Outcome::Hit(Tier::Near))),
                look => {
                    let name: Arc<str> = (*name).into();
                    let missed = Core::miss(self.core.clone(), look, name.clone(), load);
                    Box::pin(self.core.clone().by_deadline(name, deadline, missed))
                }
            }
        };
        fetching.await
    }

    /// The fresh entry of `key` in this process, without waiting for anything.
    pub fn peek(&self, key: &K) -> Option<Fetched<V>> {
        match self.core.near.look(&key.name(), Duration::ZERO) {
            Look::Fresh(entry) | Look::Early(entry) => {
                Some(Fetched::new(entry, Outcome::Hit(Tier::Near)))
            }
            Look::Stale(_) | Look::Miss => None,
        }
    }

    /// A near hit that [`fetch`](Self::fetch) would have nothing to do for.
    pub(crate) fn hit(&self, key: &K) -> Option<Fetched<V>> {
        match self.core.look_near(&key.name()) {
            Look::Fresh(entry) => Some(Fetched::new(entry, Outcome::Hit(Tier::Near))),
            _ => None,
        }
    }
}

impl<V: Send + Sync + 'static> Core<V> {
    /// Looks near, and counts what is a hit and nothing more.
    pub(super) fn look_near(&self, name: &str) -> Look<V> {
        let look = self.near.look(name, self.policy.grace);
        if let Look::Fresh(_) = look {
            self.observer.fetched(Outcome::Hit(Tier::Near));
            tracing::trace!(outcome = Outcome::Hit(Tier::Near).as_str(), "fetch");
        }
        look
    }

    /// Everything but a plain near hit.
    async fn miss(
        core: Arc<Self>,
        look: Look<V>,
        name: Arc<str>,
        load: impl Loader<V>,
    ) -> Answer<V> {
        let begun = Instant::now();
        let span = tracing::debug_span!("fetch", outcome = tracing::field::Empty);
        let observer = core.observer.clone();
        let answer = match look {
            Look::Early(entry) => {
                let hit = Fetched::new(entry, Outcome::Hit(Tier::Near));
                let fresh_for = core.beyond(hit.entry());
                span.in_scope(|| core.refresh_near(&name, &hit, load, fresh_for));
                Ok(hit)
            }
            Look::Stale(entry) => {
                let stale = Fetched::new(entry, Outcome::Stale(Tier::Near));
                span.in_scope(|| core.refresh_near(&name, &stale, load, Duration::ZERO));
                Ok(stale)
            }
            _ => Self::fly_along(core, name, load).instrument(span.clone()).await,
        };
        match &answer {
            Ok(fetched) => {
                span.record("outcome", fetched.outcome().as_str());
                observer.fetched(fetched.outcome());
            }
            Err(error) => {
                span.record("outcome", error.as_str());
                observer.failed(error);
            }
        }
        observer.waited(begun.elapsed());
        answer
    }

    /// Starts a flight to refresh a near entry, unless one is open or has failed a moment ago.
    fn refresh_near(
        self: &Arc<Self>,
        name: &Arc<str>,
        served: &Fetched<V>,
        load: impl Loader<V>,
        fresh_for: Duration,
    ) {
        let Some(permit) = self.refresh_permit(name) else { return };
        let valid = || self.near.holds(name, served.entry());
        if let Some(ticket) = self.flights.refresh(name, Ok(served.clone()), abandoned, valid) {
            self.clone().take_off(ticket, load, Route::Refresh { permit, fresh_for });
        }
    }

    /// Goes alone or boards flights of `name` until there is an answer for this caller.
    pub(super) async fn fly_along(
        core: Arc<Self>,
        name: Arc<str>,
        load: impl Loader<V>,
    ) -> Answer<V> {
        if Loading::is_current(core.id(), &name) {
            return Err(Error::Nested);
        }
        // A flight ends by itself within wait and load timeout, so a caller needs no timer, only an
        // end to going round when every flight is overtaken by an invalidation.
        let patience = core.policy.wait_timeout.saturating_add(core.policy.load_timeout);
        let mut give_up = None;
        loop {
            if let Some(answer) = core.paused(&name) {
                return answer;
            }
            let mut route = Route::Leased;
            let boarding = match core.flights.board(&name, abandoned) {
                Boarding::Alone(alone) => match core.ask(core.far.read(&name)).await {
                    Ok(found) => match core.look_at(found) {
                        Look::Fresh(entry) => {
                            alone.landed(|floor| {
                                core.keep(&name, &entry, floor, core.policy.near_ttl);
                            });
                            return Ok(Fetched::new(entry, Outcome::Hit(Tier::Far)));
                        }
                        Look::Early(entry) => {
                            let fresh_for = core.beyond(&entry);
                            let hit = Fetched::new(entry, Outcome::Hit(Tier::Far));
                            if let Some(permit) = core.refresh_permit(&name)
                                && let Some(ticket) = alone.refresh(Ok(hit.clone()), abandoned)
                            {
                                core.take_off(ticket, load, Route::Refresh { permit, fresh_for });
                            }
                            return Ok(hit);
                        }
                        Look::Stale(entry) => {
                            let stale = Fetched::new(entry, Outcome::Stale(Tier::Far));
                            let fresh_for = Duration::ZERO;
                            if let Some(permit) = core.refresh_permit(&name)
                                && let Some(ticket) = alone.refresh(Ok(stale.clone()), abandoned)
                            {
                                core.take_off(ticket, load, Route::Refresh { permit, fresh_for });
                            }
                            return Ok(stale);
                        }
                        Look::Miss => core.flights.fly(&name, abandoned),
                    },
                    Err(_) => {
                        route = Route::Unleased;
                        core.flights.fly(&name, abandoned)
                    }
                },
                boarding => boarding,
            };
            match boarding {
                Boarding::Leader(ticket, seat) => {
                    core.take_off(ticket, load, route);
                    // A leader boards before its flight's first mark, so every answer is for it.
                    return seat.landed().await.unwrap_or(Err(Error::Abandoned));
                }
                Boarding::Follower(seat) => {
                    if let Some(answer) = seat.landed().await {
                        return answer.map(|fetched| fetched.with(fetched.outcome().followed()));
                    }
                }
                // `fly` does not go alone.
                Boarding::Alone(_) => {}
            }
            let now = Instant::now();
            if now >= *give_up.get_or_insert(now + patience.min(FOREVER)) {
                return Err(Error::WaitTimeout { after: patience });
            }
            if let Look::Fresh(entry) = core.near.look(&name, Duration::ZERO) {
                return Ok(Fetched::new(entry, Outcome::Followed));
            }
        }
    }

    /// The answer of `fetching`, or the next best at the deadline.
    async fn by_deadline(
        self: Arc<Self>,
        name: Arc<str>,
        deadline: Instant,
        fetching: impl Future<Output = Answer<V>>,
    ) -> Answer<V> {
        // Looked for a little before, because it takes a call, and side by side, so that the call
        // takes nothing from the fetch.
        let left = deadline.saturating_duration_since(Instant::now());
        let last_call = deadline - LAST_CALL.min(left / 2);
        let mut next_best = None;
        let looking = async {
            tokio::time::sleep_until(last_call).await;
            next_best = self.last_resort(&name, Trouble::Slow).await;
            std::future::pending::<()>().await;
        };
        let answered = tokio::time::timeout_at(deadline, async {
            tokio::select! {
                biased;
                answer = fetching => Some(answer),
                () = looking => None,
            }
        });
        match answered.await {
            Ok(Some(answer)) => answer,
            _ => next_best.ok_or(Error::DeadlineExceeded),
        }
    }

    /// What a far entry is worth now.
    pub(super) fn look_at(&self, found: Option<Arc<Entry<V>>>) -> Look<V> {
        let Some(entry) = found else { return Look::Miss };
        let now = self.now();
        match entry.age(now, self.policy.grace) {
            Age::Fresh if entry.is_early(now, self.policy.early_refresh) => Look::Early(entry),
            Age::Fresh => Look::Fresh(entry),
            Age::Stale => Look::Stale(entry),
            Age::Dead => Look::Miss,
        }
    }

    /// For how long another entry must be fresh to be a newer one than this.
    pub(super) fn beyond(&self, entry: &Entry<V>) -> Duration {
        // Not every process sees the same clock.
        entry.fresh_until().since(self.now()) + Duration::from_millis(25)
    }

    /// Keeps an entry near, unless a newer version was heard of. Called under the name's lock.
    pub(super) fn keep(
        &self,
        name: &Arc<str>,
        entry: &Arc<Entry<V>>,
        floor: Version,
        ttl: Duration,
    ) {
        if entry.version() >= floor {
            self.near.keep(name, entry, ttl.min(self.near_ttl()));
        }
    }

    pub(super) fn refresh_permit(&self, name: &str) -> Option<OwnedSemaphorePermit> {
        if self.tasks.closing() || self.is_paused(name) {
            return None;
        }
        self.refreshes.clone().try_acquire_owned().ok()
    }

    pub(super) fn now(&self) -> Moment {
        self.far.clock().now()
    }

    /// What tells this guard from others.
    pub(super) fn id(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }
}

pub(super) fn abandoned<V>() -> Answer<V> {
    Err(Error::Abandoned)
}

/// Longer than any wait, and short enough to add to an `Instant`.
pub(super) const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// How long before its deadline a caller looks for something stale: the far timeout's default.
const LAST_CALL: Duration = Duration::from_millis(50);
