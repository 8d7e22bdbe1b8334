use std::{error, future::Future, sync::Arc, time::Duration};

use tokio::{sync::OwnedSemaphorePermit, time::Instant};
use tracing::Instrument;

use super::{Core, Guard};
use crate::{
    Entry, Error, Fetched, Key, Loaded, Moment, Outcome, Tier, Version,
    entry::Age,
    far::{Attempt, Token},
    flight::{Boarding, Landing, Mark, Ticket},
    near::Look,
};

pub(super) type Answer<V> = Result<Fetched<V>, Error>;

/// A loader as [`Guard::fetch`] takes it.
pub(super) trait Loader<V>: Send + 'static {
    type Error: Into<Box<dyn error::Error + Send + Sync>> + 'static;
    type Future: Future<Output = Result<Loaded<V>, Self::Error>> + Send + 'static;

    fn load(&mut self) -> Self::Future;
}

impl<V, F, Fut, E> Loader<V> for F
where
    F: FnMut() -> Fut + Send + 'static,
    Fut: Future<Output = Result<Loaded<V>, E>> + Send + 'static,
    E: Into<Box<dyn error::Error + Send + Sync>> + 'static,
{
    type Error = E;
    type Future = Fut;

    fn load(&mut self) -> Fut {
        self()
    }
}

/// A flight's answer, and the entry that the near tier may keep, and for how long.
pub(super) struct Arrival<V> {
    pub(super) landing: Landing<Answer<V>>,
    pub(super) keep: Option<(Arc<Entry<V>>, Duration)>,
}

impl<V> Arrival<V> {
    /// A loaded value that may not be kept and is right only for those who boarded before it was
    /// read.
    pub(super) fn of_those_before(mark: Mark, entry: Arc<Entry<V>>) -> Self {
        let answer = Ok(Fetched::new(entry, Outcome::Loaded));
        Self { landing: Landing::for_those_before(mark, answer), keep: None }
    }

    pub(super) fn failed(error: Error) -> Self {
        Self { landing: Landing::for_all(Err(error)), keep: None }
    }
}

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
    /// The load's error, [`LoadTimeout`](Error::LoadTimeout), [`LoadPanicked`](Error::LoadPanicked),
    /// [`Outdated`](Error::Outdated), [`WaitTimeout`](Error::WaitTimeout), or
    /// [`Abandoned`](Error::Abandoned) when the runtime shuts down or has no timer. A far tier that fails is not an
    /// error: the load then runs once per process.
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
            match self.core.near.look(&name, self.core.policy.grace) {
                Look::Fresh(entry) => return Ok(Fetched::new(entry, Outcome::Hit(Tier::Near))),
                Look::Stale(entry) => {
                    let stale = Fetched::new(entry, Outcome::Stale(Tier::Near));
                    self.core.refresh_near(&(*name).into(), &stale, load);
                    return Ok(stale);
                }
                // Boxed, so that a hit does not carry the size of a miss.
                Look::Miss => Box::pin(Core::fly_along(self.core.clone(), (*name).into(), load)),
            }
        };
        missed.await
    }

    /// The fresh entry of `key` in this process, without waiting for anything.
    pub fn peek(&self, key: &K) -> Option<Fetched<V>> {
        match self.core.near.look(&key.name(), Duration::ZERO) {
            Look::Fresh(entry) => Some(Fetched::new(entry, Outcome::Hit(Tier::Near))),
            Look::Stale(_) | Look::Miss => None,
        }
    }
}

impl<V: Send + Sync + 'static> Core<V> {
    /// Starts a flight to refresh a near entry, unless one is open.
    fn refresh_near(self: &Arc<Self>, name: &Arc<str>, stale: &Fetched<V>, load: impl Loader<V>) {
        let Some(permit) = self.refresh_permit() else { return };
        let valid = || self.near.holds(name, stale.entry());
        if let Some(ticket) = self.flights.refresh(name, Ok(stale.clone()), abandoned, valid) {
            self.clone().take_off(ticket, load, Route::Refresh(permit));
        }
    }

    /// Goes alone or boards flights of `name` until there is an answer for this caller.
    async fn fly_along(core: Arc<Self>, name: Arc<str>, load: impl Loader<V>) -> Answer<V> {
        // A flight ends by itself within wait and load timeout, so a caller needs no timer, only an
        // end to going round when every flight is overtaken by an invalidation.
        let patience = core.policy.wait_timeout.saturating_add(core.policy.load_timeout);
        let mut give_up = None;
        loop {
            let mut route = Route::Leased;
            let boarding = match core.flights.board(&name, abandoned) {
                Boarding::Alone(alone) => match core.far.read(&name).await {
                    Ok(found) => match core.look_at(found) {
                        Look::Fresh(entry) => {
                            alone.landed(|floor| {
                                core.keep(&name, &entry, floor, core.policy.near_ttl);
                            });
                            return Ok(Fetched::new(entry, Outcome::Hit(Tier::Far)));
                        }
                        Look::Stale(entry) => {
                            let stale = Fetched::new(entry, Outcome::Stale(Tier::Far));
                            if let Some(permit) = core.refresh_permit()
                                && let Some(ticket) = alone.refresh(Ok(stale.clone()), abandoned)
                            {
                                core.take_off(ticket, load, Route::Refresh(permit));
                            }
                            return Ok(stale);
                        }
                        Look::Miss => core.flights.fly(&name, abandoned),
                    },
                    Err(error) => {
                        tracing::warn!(%error, "far read failed; loading without a lease");
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

    /// What a far entry is worth now.
    fn look_at(&self, found: Option<Arc<Entry<V>>>) -> Look<V> {
        let Some(entry) = found else { return Look::Miss };
        match entry.age(self.now(), self.policy.grace) {
            Age::Fresh => Look::Fresh(entry),
            Age::Stale => Look::Stale(entry),
            Age::Dead => Look::Miss,
        }
    }

    /// Keeps an entry near, unless a newer version was heard of. Called under the name's lock.
    fn keep(&self, name: &Arc<str>, entry: &Arc<Entry<V>>, floor: Version, ttl: Duration) {
        if entry.version() >= floor {
            self.near.keep(name, entry, ttl.min(self.near_ttl()));
        }
    }

    fn refresh_permit(&self) -> Option<OwnedSemaphorePermit> {
        self.refreshes.clone().try_acquire_owned().ok()
    }

    pub(super) fn now(&self) -> Moment {
        self.far.clock().now()
    }

    /// Flies on a task of its own, so that no caller's end ends it.
    fn take_off(self: Arc<Self>, ticket: Ticket<Answer<V>>, load: impl Loader<V>, route: Route) {
        let span = tracing::debug_span!("flight", outcome = tracing::field::Empty);
        let flight = async move {
            let arrival = match route {
                Route::Leased => self.fly(&ticket, load).await,
                Route::Refresh(_permit) => self.fly(&ticket, load).await,
                Route::Unleased => self.load_alone(load, self.load_deadline()).await,
            };
            match arrival.landing.answer() {
                Ok(fetched) => {
                    tracing::Span::current().record("outcome", fetched.outcome().as_str());
                }
                Err(error) => {
                    tracing::Span::current().record("outcome", "error");
                    tracing::debug!(%error, "flight failed");
                }
            }
            let name = ticket.name().clone();
            ticket.land(arrival.landing, |floor| {
                if let Some((entry, ttl)) = arrival.keep {
                    self.keep(&name, &entry, floor, ttl);
                }
            });
        };
        tokio::spawn(flight.instrument(span));
    }

    /// One flight, from the look-up to its arrival.
    async fn fly(&self, ticket: &Ticket<Answer<V>>, mut load: impl Loader<V>) -> Arrival<V> {
        let name = ticket.name();
        // Registered before the look-up: see `Waiter`.
        let waiter = self.waiters.register(name);
        let wait_until = Instant::now() + self.policy.wait_timeout.min(FOREVER);
        let mut load_until = None;
        let mut found = Outcome::Hit(Tier::Far);
        loop {
            let woken = waiter.notify.notified();
            tokio::pin!(woken);
            woken.as_mut().enable();
            let mark = ticket.mark();
            let token = Token::random();
            match self
                .far
                .look_up_or_lease(name, token, self.policy.lease_ttl, Duration::ZERO)
                .await
            {
                Ok(Attempt::Hit(entry)) => return self.arrive(mark, entry, found),
                Ok(Attempt::Granted(grant)) => {
                    let deadline = *load_until.get_or_insert_with(|| self.load_deadline());
                    let load = &mut load;
                    let loaded =
                        self.load_leased(ticket, &waiter, token, grant, load, deadline).await;
                    if let Some(arrival) = loaded {
                        return arrival;
                    }
                }
                Ok(Attempt::Held { remaining } | Attempt::Paused { remaining }) => {
                    let now = Instant::now();
                    if now >= wait_until {
                        return Arrival::failed(Error::WaitTimeout {
                            after: self.policy.wait_timeout,
                        });
                    }
                    found = Outcome::Awaited;
                    tracing::trace!(?remaining, "another process holds the lease");
                    // The jitter keeps the waiters of many processes from looking at one moment
                    // when a holder died without a word.
                    let look_again = now + remaining.min(FOREVER) + look_jitter();
                    tokio::select! {
                        () = woken => {}
                        () = tokio::time::sleep_until(look_again.min(wait_until)) => {}
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "far look-up failed; loading without a lease");
                    // It may have been granted all the same. Never committed under: the grant may
                    // have come after an invalidation that comes after this load's reading.
                    self.release_later(name, token);
                    let deadline = load_until.unwrap_or_else(|| self.load_deadline());
                    return self.load_alone(load, deadline).await;
                }
            }
        }
    }

    /// An entry of the far tier, for those who boarded before it was read.
    pub(super) fn arrive(&self, mark: Mark, entry: Arc<Entry<V>>, outcome: Outcome) -> Arrival<V> {
        let answer = Ok(Fetched::new(entry.clone(), outcome));
        Arrival {
            landing: Landing::for_those_before(mark, answer),
            keep: Some((entry, self.policy.near_ttl)),
        }
    }
}

/// How a flight comes by its answer.
enum Route {
    Leased,
    /// Leased too, and nobody waits for it.
    Refresh(OwnedSemaphorePermit),
    /// Without a lease: the far tier has just failed to answer.
    Unleased,
}

fn abandoned<V>() -> Answer<V> {
    Err(Error::Abandoned)
}

/// Longer than any wait, and short enough to add to an `Instant`.
pub(super) const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

fn look_jitter() -> Duration {
    Duration::from_micros(fastrand::u64(1_000..10_000))
}
