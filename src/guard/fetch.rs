use std::{error, future::Future, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{Core, Guard, fly::Route, loader::Loader, nesting::Loading, refresh::Refresh};
use crate::{
    Entry, Error, Fetched, Key, Loaded, Moment, Outcome, StaleReason, Tier, Version,
    entry::Age,
    flight::Boarding,
    near::{Evicted, Look},
    observe::Stopwatch,
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
                look => Box::pin(self.go_on(look, (*name).into(), None, load)),
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
                look => Box::pin(self.go_on(look, (*name).into(), Some(deadline), load)),
            }
        };
        fetching.await
    }

    /// The fresh entry of `key` in this process, without waiting for anything.
    pub fn peek(&self, key: &K) -> Option<Fetched<V>> {
        match self.core.near.look(&key.name(), |_| Duration::ZERO) {
            Look::Fresh(entry) | Look::Early(entry) => {
                Some(Fetched::new(entry, Outcome::Hit(Tier::Near)))
            }
            Look::Stale(_) | Look::Miss => None,
        }
    }

    /// Looks near. What is not fresh [`go_on`](Self::go_on) takes further.
    pub(crate) fn look_near(&self, name: &str) -> Look<V> {
        self.core.look_near(name)
    }

    /// Everything but a plain near hit.
    pub(crate) fn go_on<F, Fut, E>(
        &self,
        look: Look<V>,
        name: Arc<str>,
        deadline: Option<Instant>,
        load: F,
    ) -> impl Future<Output = Result<Fetched<V>, Error>> + Send + use<K, V, F, Fut, E>
    where
        F: FnMut() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Loaded<V>, E>> + Send + 'static,
        E: Into<Box<dyn error::Error + Send + Sync>> + 'static,
    {
        self.go_on_by(look, name, deadline, load)
    }

    /// As `go_on`, with a loader that is no closure.
    pub(crate) fn go_on_by<L: Loader<V>>(
        &self,
        look: Look<V>,
        name: Arc<str>,
        deadline: Option<Instant>,
        load: L,
    ) -> impl Future<Output = Result<Fetched<V>, Error>> + Send + use<K, V, L> {
        Core::miss(self.core.clone(), look, name, deadline, load)
    }

    /// What there is of `key`, near or far, without a load.
    #[cfg(feature = "http")]
    pub(crate) async fn find(&self, key: &K) -> Option<Fetched<V>> {
        let name = key.name();
        if let Look::Fresh(entry) | Look::Early(entry) = self.core.look_near(&name) {
            return Some(Fetched::new(entry, Outcome::Hit(Tier::Near)));
        }
        match self.core.look_at(self.core.found_in_far(&name).await) {
            Found::Fresh(entry) => Some(Fetched::new(entry, Outcome::Hit(Tier::Far))),
            Found::Due(served, _) => Some(served),
            Found::Expired(_) | Found::Nothing => None,
        }
    }
}

impl<V: Send + Sync + 'static> Core<V> {
    /// Looks near, and counts what is a hit and nothing more.
    pub(super) fn look_near(&self, name: &str) -> Look<V> {
        let look = self.near.look(name, |entry| self.grace(entry));
        if let Look::Fresh(_) = look {
            self.observer.near_hit();
        }
        look
    }

    /// Everything but a plain near hit.
    async fn miss(
        core: Arc<Self>,
        look: Look<V>,
        name: Arc<str>,
        deadline: Option<Instant>,
        load: impl Loader<V>,
    ) -> Answer<V> {
        let fetching = core.observer.fetching(Stopwatch::start());
        let answer = match look {
            Look::Early(entry) => {
                let (hit, refresh) = core.early(entry, Tier::Near);
                fetching.span().in_scope(|| core.refresh_near(&name, &hit, refresh, load));
                Ok(hit)
            }
            Look::Stale(entry) => {
                let (stale, refresh) = core.stale(entry, Tier::Near);
                fetching.span().in_scope(|| core.refresh_near(&name, &stale, refresh, load));
                Ok(stale)
            }
            _ => fetching.within(Self::fly_along(&core, name, deadline, load)).await,
        };
        fetching.answered(&answer);
        answer
    }

    /// Goes alone or boards flights of `name` until there is an answer for this caller.
    pub(super) async fn fly_along(
        core: &Arc<Self>,
        name: Arc<str>,
        deadline: Option<Instant>,
        mut load: impl Loader<V>,
    ) -> Answer<V> {
        if Loading::is_current(core.id(), &name) {
            return Err(Error::Nested);
        }
        // A flight ends by itself within wait and load timeout, so a caller needs no timer of its
        // own, only an end to going round when every flight is overtaken by an invalidation.
        let patience = core.policy.wait_timeout.saturating_add(core.policy.load_timeout);
        let mut give_up = None;
        let now = || core.now();
        loop {
            if let Some(answer) = core.paused(&name) {
                return answer;
            }
            let mut route = Route::Leased;
            let mut expired = None;
            let boarding = match core.flights.board(&name, abandoned) {
                Boarding::Alone(alone) => {
                    match by(deadline, core.ask(core.far.read(&name))).await {
                        Some(Ok(found)) => match core.look_at(found) {
                            Found::Fresh(entry) => {
                                alone.landed(|floor| {
                                    core.keep(&name, &entry, floor, core.policy.near_ttl)
                                });
                                return Ok(Fetched::new(entry, Outcome::Hit(Tier::Far)));
                            }
                            Found::Due(served, refresh) => {
                                let meanwhile = || core.meanwhile(&served, refresh.until);
                                if let Some(permit) = core.refresh_permit(&name, &mut None)
                                    && let Some(ticket) = alone.refresh(meanwhile, abandoned)
                                {
                                    load.previous(served.entry());
                                    let route = Route::Refresh(permit, refresh);
                                    core.clone().take_off(ticket, load, route);
                                }
                                return Ok(served);
                            }
                            Found::Expired(fetched) => {
                                let spare = || core.meanwhile(&fetched, Moment::FAR_FUTURE);
                                let boarding = alone.fly(spare, abandoned);
                                load.previous(fetched.entry());
                                expired = Some(fetched);
                                boarding.unwrap_or_else(|| core.flights.fly(&name, abandoned))
                            }
                            Found::Nothing => core.flights.fly(&name, abandoned),
                        },
                        Some(Err(_)) => {
                            // The origin is not asked because the far tier cannot say more.
                            if let Some(pause) = core.pauses.now(&name, now) {
                                return Err(pause.error(now()));
                            }
                            route = Route::Unleased;
                            core.flights.fly(&name, abandoned)
                        }
                        None => {
                            // Nobody else sees to it that the load goes on.
                            if let Boarding::Leader(ticket, _) = core.flights.fly(&name, abandoned)
                            {
                                core.clone().take_off(ticket, load, route);
                            }
                            return Err(Error::DeadlineExceeded);
                        }
                    }
                }
                boarding => boarding,
            };
            let (leader, seat) = match boarding {
                Boarding::Leader(ticket, seat) => (Some(ticket), seat),
                Boarding::Follower(seat) => (None, seat),
                // `fly` does not go alone.
                Boarding::Alone(_) => continue,
            };
            let instead = || {
                let spare = seat.spare(now);
                spare.or(expired.map(Ok)).unwrap_or(Err(Error::DeadlineExceeded))
            };
            if let Some(ticket) = leader {
                core.clone().take_off(ticket, load, route);
                // A leader boards before its flight's first mark, so every answer is for it.
                return match by(deadline, seat.landed(now)).await {
                    Some(answer) => answer.unwrap_or_else(abandoned),
                    None => instead(),
                };
            }
            seat.waits_at(Loading::depth(core.id()));
            match by(deadline, seat.landed(now)).await {
                Some(Some(answer)) => {
                    return answer.map(|fetched| fetched.with(fetched.outcome().followed()));
                }
                Some(None) => {}
                None => return instead(),
            }
            let now = Instant::now();
            if now >= *give_up.get_or_insert(now + patience.min(FOREVER)) {
                return Err(Error::WaitTimeout { after: patience });
            }
            if let Look::Fresh(entry) | Look::Early(entry) =
                core.near.look(&name, |_| Duration::ZERO)
            {
                return Ok(Fetched::new(entry, Outcome::Followed));
            }
        }
    }

    /// What a far entry is worth now.
    pub(super) fn look_at(&self, found: Option<Arc<Entry<V>>>) -> Found<V> {
        let Some(entry) = found else { return Found::Nothing };
        let (now, beta) = (self.now(), self.policy.early_refresh);
        let due = |(served, refresh)| Found::Due(served, refresh);
        match entry.age(now, self.grace(&entry)) {
            Age::Fresh if now >= entry.early_from(beta) && entry.is_early(now, beta) => {
                due(self.early(entry, Tier::Far))
            }
            Age::Fresh => Found::Fresh(entry),
            Age::Stale => due(self.stale(entry, Tier::Far)),
            Age::Dead => match self.resort_to(&entry, StaleReason::Slow) {
                Some(fetched) => Found::Expired(fetched),
                None => Found::Nothing,
            },
        }
    }

    /// Keeps an entry near, unless a newer version was heard of. Called under the name's lock.
    #[must_use = "dropped by the caller, without the name's lock"]
    pub(super) fn keep(
        &self,
        name: &Arc<str>,
        entry: &Arc<Entry<V>>,
        floor: Version,
        ttl: Duration,
    ) -> Option<Evicted<V>> {
        let keep = || self.near.keep(name, entry, ttl.min(self.near_ttl()));
        (entry.version() >= floor).then(keep)
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

/// What a read of the far tier has brought.
pub(super) enum Found<V> {
    Fresh(Arc<Entry<V>>),
    /// To be served, and refreshed.
    Due(Fetched<V>, Refresh),
    /// Better than an error.
    Expired(Fetched<V>),
    Nothing,
}

/// `None` if it takes beyond the deadline.
async fn by<T>(deadline: Option<Instant>, work: impl Future<Output = T>) -> Option<T> {
    match deadline {
        Some(deadline) => tokio::time::timeout_at(deadline, work).await.ok(),
        None => Some(work.await),
    }
}
