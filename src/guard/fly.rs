//! One flight, from the look-up to its landing.

use std::{convert::Infallible, sync::Arc, time::Duration};

use tokio::time::Instant;
use tracing::Instrument;

use super::{
    Core,
    fetch::{Answer, FOREVER, Found},
    loader::Loader,
    nesting::Loading,
    pauses::Pause,
    refresh::{Refresh, RefreshPermit},
};
use crate::{
    Entry, Error, Fetched, Moment, Outcome, StaleReason, Tier, Version,
    far::{Attempt, Token},
    flight::{Depth, Landing, Mark, Ticket},
};

/// A flight's answer, and what this process keeps of it.
pub(super) struct Arrival<V> {
    pub(super) landing: Landing<Answer<V>>,
    /// What the near tier may keep, and for how long.
    pub(super) keep: Option<(Arc<Entry<V>>, Duration)>,
    /// The pause after a failure.
    pub(super) pause: Option<Arc<Pause<V>>>,
}

impl<V> Arrival<V> {
    pub(super) fn of(landing: Landing<Answer<V>>) -> Self {
        Self { landing, keep: None, pause: None }
    }

    /// A loaded value that may not be kept and is right only for those who boarded before it was
    /// read.
    pub(super) fn of_those_before(mark: Mark, entry: Arc<Entry<V>>) -> Self {
        let answer = Ok(Fetched::new(entry, Outcome::Loaded));
        Self::of(Landing::for_those_before(mark, answer))
    }

    pub(super) fn failed(error: Error) -> Self {
        Self::of(Landing::for_all(Err(error)))
    }

    pub(super) fn keeping(self, entry: Arc<Entry<V>>, ttl: Duration) -> Self {
        Self { keep: Some((entry, ttl)), ..self }
    }
}

/// How a flight comes by its answer.
pub(super) enum Route {
    Leased,
    /// Leased too, and nobody waits for it.
    Refresh(RefreshPermit, Refresh),
    /// Without a lease: the far tier has just failed to answer.
    Unleased,
}

/// What a load may cost.
#[derive(Clone)]
pub(crate) struct Patience {
    pub(super) deadline: Instant,
    /// Whether it may wait for room in the bulkhead: not if nobody waits for it.
    pub(super) queues: bool,
    /// Of those who wait for it.
    pub(super) depth: Arc<Depth>,
}

impl<V: Send + Sync + 'static> Core<V> {
    /// Flies on a task of its own, so that no caller's end ends it.
    pub(super) fn take_off(
        self: Arc<Self>,
        ticket: Ticket<Answer<V>>,
        load: impl Loader<V>,
        route: Route,
    ) {
        let span = tracing::debug_span!("flight", outcome = tracing::field::Empty);
        let (task, counted) = (self.tasks.begin(), self.observer.gauges.flights.up());
        let flight = async move {
            let _held = (task, counted);
            let arrival = match route {
                Route::Leased => self.fly_with_soft_timeout(&ticket, load).await,
                Route::Refresh(_permit, refresh) => {
                    self.fly_as_a_refresh(&ticket, load, refresh).await
                }
                Route::Unleased => {
                    let patience = self.patience(&ticket, true);
                    self.load_alone(&ticket, load, &patience).await
                }
            };
            match arrival.landing.answer() {
                Ok(fetched) => {
                    tracing::Span::current().record("outcome", fetched.outcome().as_str());
                }
                Err(error) => {
                    tracing::Span::current().record("outcome", error.as_str());
                    tracing::debug!(%error, "flight failed");
                }
            }
            self.land(ticket, arrival);
        };
        tokio::spawn(Loading::scope(Loading::current(), flight).instrument(span));
    }

    pub(super) fn land(&self, ticket: Ticket<Answer<V>>, arrival: Arrival<V>) {
        let name = ticket.name().clone();
        // What this returns is the user's, and dropped without the lock.
        ticket.land(arrival.landing, |floor| {
            let over = match (arrival.pause, &arrival.keep) {
                // Somebody has written meanwhile: that is what there is to be had.
                (Some(_), _) if floor > Version::ZERO => None,
                (Some(pause), _) => {
                    let over = self.pauses.end(&name);
                    self.pauses.begin(&name, pause, self.now().after(self.meanwhile_ttl()));
                    over
                }
                (None, Some(_)) => self.pauses.end(&name),
                (None, None) => None,
            };
            let evicted = arrival.keep.map(|(entry, ttl)| self.keep(&name, &entry, floor, ttl));
            (over, evicted)
        });
    }

    /// Answers those aboard, and those who board from then on, with something stale if it takes too
    /// long; and goes on.
    async fn fly_with_soft_timeout(
        &self,
        ticket: &Ticket<Answer<V>>,
        load: impl Loader<V>,
    ) -> Arrival<V> {
        let flying = self.fly(ticket, load, Duration::ZERO, true);
        if self.policy.soft_timeout >= FOREVER {
            return flying.await;
        }
        let served = |found: &_| {
            let stale = self.resort_to(found, StaleReason::Slow)?;
            Some((stale, Moment::FAR_FUTURE))
        };
        let answering = self.keep_answering(ticket, self.policy.soft_timeout, served);
        tokio::select! {
            biased;
            arrival = flying => arrival,
            never = answering => match never {},
        }
    }

    /// Has those aboard, and those who board, served with what is refreshed.
    async fn fly_as_a_refresh(
        &self,
        ticket: &Ticket<Answer<V>>,
        load: impl Loader<V>,
        refresh: Refresh,
    ) -> Arrival<V> {
        // An answer has been given already.
        let first = refresh.until.since(self.now()).min(self.meanwhile_ttl());
        tokio::select! {
            biased;
            arrival = self.fly(ticket, load, refresh.fresh_for, false) => arrival,
            never = self.keep_answering(ticket, first, |found| self.served(found)) => match never {},
        }
    }

    /// Looks, each time that the answer which is given meanwhile comes to its end, whether there is still
    /// something to be served: an invalidation of which no message came is found out here.
    async fn keep_answering(
        &self,
        ticket: &Ticket<Answer<V>>,
        first: Duration,
        served: impl Fn(&Arc<Entry<V>>) -> Option<(Fetched<V>, Moment)>,
    ) -> Infallible {
        let mut pause = first;
        loop {
            tokio::time::sleep(pause).await;
            let found = self.found_in_far(ticket.name()).await;
            if let Some((fetched, until)) = found.and_then(|entry| served(&entry)) {
                ticket.answer(|| self.meanwhile(&fetched, until));
            }
            pause = self.meanwhile_ttl().max(SHORTEST_LOOK);
        }
    }

    async fn fly(
        &self,
        ticket: &Ticket<Answer<V>>,
        mut load: impl Loader<V>,
        fresh_for: Duration,
        queues: bool,
    ) -> Arrival<V> {
        if self.tasks.closing() {
            return self.without_a_load(ticket).await;
        }
        let name = ticket.name();
        // Registered before the look-up: see `Waiter`.
        let waiter = self.waiters.register(name);
        let wait_until = Instant::now() + self.policy.wait_timeout.min(FOREVER);
        let mut patience = None;
        let mut found = Outcome::Hit(Tier::Far);
        loop {
            let woken = waiter.notify.notified();
            tokio::pin!(woken);
            woken.as_mut().enable();
            let mark = ticket.mark();
            let token = Token::random();
            let may_ask = self.breaker.is_closed();
            let looking = self.far.look_up_or_lease(name, token, self.policy.lease_ttl, fresh_for);
            match self.ask(looking).await {
                Ok(Attempt::Hit(entry)) => return self.arrive(mark, entry, found),
                Ok(Attempt::Granted(grant)) => {
                    let patience = patience.get_or_insert_with(|| self.patience(ticket, queues));
                    let load = &mut load;
                    let loaded =
                        self.load_leased(ticket, &waiter, token, grant, load, patience).await;
                    if let Some(arrival) = loaded {
                        return arrival;
                    }
                }
                Ok(Attempt::BackOff { remaining }) => {
                    load.stand_by();
                    return self.failed_elsewhere(ticket, remaining).await;
                }
                Ok(Attempt::Held { remaining }) => {
                    let now = Instant::now();
                    if now >= wait_until {
                        let after = self.policy.wait_timeout;
                        return self.instead(ticket, Error::WaitTimeout { after }).await;
                    }
                    found = Outcome::Awaited;
                    load.stand_by();
                    tracing::trace!(?remaining, "another process holds the lease");
                    // The jitter keeps the waiters of many processes from looking at one moment
                    // when a holder died without a word.
                    let look_again = now + remaining.min(FOREVER) + look_jitter();
                    tokio::select! {
                        () = woken => {}
                        () = tokio::time::sleep_until(look_again.min(wait_until)) => {}
                        () = self.tasks.closed() => return Arrival::failed(Error::ShutDown),
                    }
                }
                Err(_) => {
                    // It may have been granted all the same. Never committed under: the grant may
                    // have come after an invalidation that comes after this load's reading.
                    if may_ask {
                        self.release_later(name, token);
                    }
                    let patience = patience.unwrap_or_else(|| self.patience(ticket, queues));
                    return self.load_alone(ticket, load, &patience).await;
                }
            }
        }
    }

    /// What there is when no more loads are begun.
    async fn without_a_load(&self, ticket: &Ticket<Answer<V>>) -> Arrival<V> {
        let mark = ticket.mark();
        match self.found_in_far(ticket.name()).await.map(|entry| self.look_at(Some(entry))) {
            Some(Found::Fresh(entry)) => self.arrive(mark, entry, Outcome::Hit(Tier::Far)),
            Some(Found::Due(served, _) | Found::Expired(served)) => {
                Arrival::of(Landing::for_those_before(mark, Ok(served)))
            }
            Some(Found::Nothing) | None => Arrival::failed(Error::ShutDown),
        }
    }

    /// An entry of the far tier, for those who boarded before it was read.
    pub(super) fn arrive(&self, mark: Mark, entry: Arc<Entry<V>>, outcome: Outcome) -> Arrival<V> {
        let answer = Ok(Fetched::new(entry.clone(), outcome));
        let landing = Landing::for_those_before(mark, answer);
        Arrival::of(landing).keeping(entry, self.policy.near_ttl)
    }

    fn patience(&self, ticket: &Ticket<Answer<V>>, queues: bool) -> Patience {
        let deadline = Instant::now() + self.policy.load_timeout.min(FOREVER);
        Patience { deadline, queues, depth: ticket.depth().clone() }
    }
}

/// How often a flight looks, at most, for something to be served meanwhile.
const SHORTEST_LOOK: Duration = Duration::from_millis(50);

fn look_jitter() -> Duration {
    Duration::from_micros(fastrand::u64(1_000..10_000))
}
