//! The task that resolves a flight. Its stages, each named by what it waits for:
//!
//! ```text
//! LookUp ─┬─ fresh entry ───────────────────────────────────▶ Resolved
//!   ▲     ├─ back-off ── the error, or something stale ─────▶ Resolved
//!   │     ├─ held ──────▶ Holder ─┬─ too long ── stale, or error ▶ Resolved
//!   ├─────┼── message, or time ───┘
//!   │     ├─ granted ─┬─▶ Leased ── load, commit ───────────▶ Resolved
//!   ├─────┼── a place ◀ Room ─┬─ none in time ── stale, or error ▶ Resolved
//!   └─────┼── overtaken by a write ───┘
//!         └─ the far tier is away ──▶ Unleased ── load ─────▶ Resolved
//! ```

use std::time::Duration;

use tokio::time::Instant;

use super::{
    answer::{Answer, Resolution},
    core::Core,
    leased::{Leased, LeasedLoad, bypass_of},
    limits::FOREVER,
    load::Place,
    loader::{FlightLoader, LoadBudget},
    refresh::{RefreshPermit, Reload},
    wakeups::{Message, Wakeup},
};
use crate::{
    Bypass, Error, Outcome, Tier,
    backoff::Backoff,
    far::{Attempt, Grant, Token},
    flight::Completer,
};

/// What a flight's stages share.
pub(super) struct FlightTask<'a, V: Send + Sync + 'static, L> {
    core: &'a Core<V>,
    completer: &'a Completer<Answer<V>>,
    load: L,
    wakeup: Wakeup<'a>,
    /// An entry is an answer only if it is fresh for longer than this.
    fresh_for: Duration,
    reload: Option<Reload>,
    /// Whether the load may wait for room: not if no caller waits for it.
    queues: bool,
    /// From the first load on.
    budget: Option<LoadBudget>,
    wait_until: Instant,
    /// From the first queue for a place on.
    queue_until: Option<Instant>,
    /// Of a flight that has become a refresh.
    permit: Option<RefreshPermit>,
    /// The load's place in the bulkhead, once it has one. No lease is kept without: it would be held by a load
    /// that only queues, while another process has room.
    place: Option<Place>,
    /// How an entry that is found has come: of itself, or from another process' load.
    found: Outcome,
}

/// What the task does next.
enum Stage<V> {
    LookUp,
    /// Another process holds the lease.
    Holder {
        remaining: Duration,
        ahead: usize,
        message: Message,
    },
    Leased(Token, Grant),
    /// There is no place for the load yet. With the next message about the name.
    Room(Message),
    Unleased(Bypass),
    Resolved(Resolution<V>),
}

impl<'a, V: Send + Sync + 'static, L: FlightLoader<V>> FlightTask<'a, V, L> {
    pub(super) fn new(
        core: &'a Core<V>,
        completer: &'a Completer<Answer<V>>,
        load: L,
        fresh_for: Duration,
        queues: bool,
    ) -> Self {
        Self {
            core,
            completer,
            load,
            // Registered before the first look-up: see `Wakeup`.
            wakeup: core.wakeups.register(completer.name()),
            fresh_for,
            reload: None,
            queues,
            budget: None,
            wait_until: Instant::now() + core.policy.wait_timeout.min(FOREVER),
            queue_until: None,
            permit: None,
            place: None,
            found: Outcome::Hit(Tier::Far),
        }
    }

    pub(super) fn reloading(self, reload: Reload) -> Self {
        Self { reload: Some(reload), ..self }
    }

    pub(super) async fn run(mut self) -> Resolution<V> {
        if self.core.tasks.closing() {
            return self.core.without_a_load(self.completer).await;
        }
        if let Err(full) = self.find_room() {
            return self.core.leave_as_served(self.completer, full).await;
        }
        let mut stage = Stage::LookUp;
        loop {
            stage = match stage {
                Stage::LookUp => self.look_up().await,
                Stage::Holder { remaining, ahead, message } => {
                    self.holder(remaining, ahead, message).await
                }
                Stage::Leased(token, grant) => self.leased(token, grant).await,
                Stage::Room(message) => self.room(message).await,
                Stage::Unleased(bypass) => self.unleased(bypass).await,
                Stage::Resolved(resolution) => return resolution,
            }
        }
    }

    /// Without room for its load a flight asks the far tier for nothing: what fails anyway must not cost the
    /// others more. No caller waits for a refresh, so that it needs a place now.
    fn find_room(&mut self) -> Result<(), Error> {
        let depth = self.completer.depth();
        match (self.load.has_own_place(), self.queues) {
            (true, _) => Ok(()),
            (false, true) => self.core.check_room(depth),
            (false, false) => {
                self.place = Some(self.core.free_place(depth)?);
                Ok(())
            }
        }
    }

    async fn look_up(&mut self) -> Stage<V> {
        let core = self.core;
        let message = self.wakeup.next();
        let epoch = self.completer.begin_epoch();
        let (name, token) = (self.completer.name(), Token::random());
        let is_sent = core.breaker.is_closed() && core.may_ask_about(name).is_ok();
        match core.look_up_or_lease(name, token, self.fresh_for).await {
            Ok(Attempt::Hit(entry)) => Stage::Resolved(Resolution::read(epoch, entry, self.found)),
            Ok(Attempt::Granted(grant)) => Stage::Leased(token, grant),
            Ok(Attempt::BackOff { remaining }) => {
                self.load.stand_by();
                Stage::Resolved(core.failed_elsewhere(self.completer, remaining).await)
            }
            Ok(Attempt::Held { remaining, ahead }) => Stage::Holder { remaining, ahead, message },
            Err(fault) => {
                // It may have been granted all the same. Never committed under: the grant may
                // have come after an invalidation that comes after this load's reading.
                if is_sent {
                    core.release_later(name, token);
                }
                Stage::Unleased(bypass_of(&fault))
            }
        }
    }

    async fn holder(&mut self, remaining: Duration, ahead: usize, message: Message) -> Stage<V> {
        let now = Instant::now();
        if now >= self.wait_until {
            let timeout = Error::WaitTimeout { after: self.core.policy.wait_timeout };
            return Stage::Resolved(self.core.stale_instead(self.completer, timeout).await);
        }
        self.found = Outcome::Awaited;
        self.place = None;
        self.load.stand_by();
        let guard = self.core.observer.guard();
        tracing::trace!(guard, ?remaining, "another process holds the lease");
        // The jitter keeps the waiters of many processes from looking at one moment when a holder died
        // without a word.
        let look_again = now + remaining.min(FOREVER) + look_jitter();
        let message = async {
            message.await;
            if ahead >= CROWD {
                tokio::time::sleep(CROWD_LOOKS_WITHIN.mul_f64(fastrand::f64())).await;
            }
        };
        tokio::select! {
            biased;
            () = message => self.look_up_unless_reloaded().await,
            () = tokio::time::sleep_until(look_again.min(self.wait_until)) => Stage::LookUp,
            () = self.core.tasks.closed() => Stage::Resolved(Resolution::failed(Error::ShutDown)),
        }
    }

    /// No look-up finds an entry that is fresh for as long as a reload asks for. But what the other process has
    /// loaded meanwhile is what it is to load.
    async fn look_up_unless_reloaded(&mut self) -> Stage<V> {
        if let Some(Reload { replaces, .. }) = self.reload {
            let epoch = self.completer.begin_epoch();
            let found = self.core.found_in_far(self.completer.name()).await;
            if let Some(entry) = found
                && Some(entry.fresh_until()) != replaces
                && entry.is_fresh_at(self.core.now())
            {
                return Stage::Resolved(Resolution::read(epoch, entry, self.found));
            }
        }
        Stage::LookUp
    }

    async fn leased(&mut self, token: Token, grant: Grant) -> Stage<V> {
        let Self { core, completer, .. } = *self;
        if self.queues && self.reload.is_none() && self.has_become_a_refresh().await {
            self.permit = core.refresh_permit(completer.name(), &mut None);
            if self.permit.is_none() {
                core.release(completer.name(), token).await;
                return Stage::Resolved(core.leave_as_served(completer, NO_ROOM).await);
            }
        }
        let Some(place) = self.place_now() else {
            // Before the release: whoever is granted then may commit at once.
            let message = self.wakeup.next();
            core.release(completer.name(), token).await;
            if !self.queues || self.permit.is_some() {
                return Stage::Resolved(core.leave_as_served(completer, NO_ROOM).await);
            }
            return Stage::Room(message);
        };
        let budget = self.budget.get_or_insert_with(|| core.load_budget(completer, self.queues));
        let lease = LeasedLoad { core, completer, wakeup: &self.wakeup, token, grant };
        match lease.run(&mut self.load, budget, place).await {
            Leased::Resolved(resolution) => Stage::Resolved(resolution),
            Leased::LookAgain => {
                self.load.stand_by();
                Stage::LookUp
            }
        }
    }

    /// The load's place, if it has one or there is one free.
    fn place_now(&mut self) -> Option<Place> {
        match self.place.take() {
            Some(place) => Some(place),
            None if self.load.has_own_place() => Some(None),
            None => self.core.free_place(self.completer.depth()).ok(),
        }
    }

    /// Whether the solo reader beside this flight has found something to serve, so that no caller waits. Its read
    /// was sent before this flight's look-up, and answered before: it needs only to be polled.
    async fn has_become_a_refresh(&mut self) -> bool {
        for _ in 0..4 {
            if self.completer.is_solo_reader_done() {
                break;
            }
            tokio::task::yield_now().await;
        }
        self.permit.is_none() && self.completer.provisional(|| self.core.now()).is_some()
    }

    /// Queues for a place. What another process commits meanwhile is the answer; that it released its lease
    /// changes nothing.
    async fn room(&mut self, mut message: Message) -> Stage<V> {
        let Self { core, completer, fresh_for, .. } = *self;
        let begun = Instant::now();
        let limit = core.policy.load_timeout.min(FOREVER);
        let queue_until = *self.queue_until.get_or_insert(begun + limit);
        let depths = std::slice::from_ref(completer.depth());
        let entering = core.place_by(queue_until, true, depths);
        tokio::pin!(entering);
        let mut looks = LOOKS_IN_QUEUE;
        loop {
            let look = async {
                // No holder of a lease knows of this wait.
                let _ = tokio::time::timeout(looks.next(), &mut message).await;
                // Made before the look: it hears of what comes after it.
                message = self.wakeup.next();
                let epoch = completer.begin_epoch();
                (epoch, core.found_in_far(completer.name()).await)
            };
            tokio::select! {
                biased;
                entered = &mut entering => {
                    // Time in the queue is none of the wait for another process, and none of the load.
                    self.wait_until += begun.elapsed();
                    return match entered {
                        Ok(place) => {
                            self.place = Some(place);
                            Stage::LookUp
                        }
                        Err(error) => Stage::Resolved(core.stale_instead(completer, error).await),
                    };
                }
                (epoch, found) = look => {
                    let fresh_at = core.now().after(fresh_for);
                    if let Some(entry) = found.filter(|entry| entry.is_fresh_at(fresh_at)) {
                        return Stage::Resolved(Resolution::read(epoch, entry, Outcome::Awaited));
                    }
                }
            }
        }
    }

    async fn unleased(&mut self, bypass: Bypass) -> Stage<V> {
        let Self { core, completer, .. } = *self;
        let budget = self.budget.get_or_insert_with(|| core.load_budget(completer, self.queues));
        let place = self.place.take();
        let loading = core.load_unleased(completer, &mut self.load, budget, place, bypass);
        Stage::Resolved(loading.await)
    }
}

/// From so many waiting processes on, not all look at the moment of the message.
const CROWD: usize = 64;
const CROWD_LOOKS_WITHIN: Duration = Duration::from_millis(25);

fn look_jitter() -> Duration {
    Duration::from_micros(fastrand::u64(1_000..10_000))
}

/// How often a load that waits for a place looks whether another process has loaded meanwhile.
const LOOKS_IN_QUEUE: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(1));

/// For a refresh that found enough others in progress, if it has nothing to serve.
const NO_ROOM: Error = Error::Overloaded { retry_after: Duration::from_millis(50) };
