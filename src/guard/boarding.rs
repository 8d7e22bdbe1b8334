//! How a caller that found nothing fresh near gets its answer: the one boarding of single fetches and
//! batches.
//!
//! 1. [`board`](Core::board): a back-off answers it, a flight takes it, or it reads the far tier.
//! 2. [`decide`](Core::decide): what the far tier said is its answer, or a flight loads.
//! 3. It waits for the flight, and boards again if the flight's answer is not for it.
//!
//! A single fetch reads its name by itself, a batch reads all of its names at once.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    answer::{Answer, NearTtl, Resolution, abandoned},
    core::Core,
    departure::{Departure, Plan},
    leased::bypass_of,
    limits::FOREVER,
    loader::FlightLoader,
    nesting::Loading,
    refresh::{Due, RefreshPermit},
    waiting::{Waiting, by},
};
use crate::{
    Entry, Error, Fault, Fetched, Outcome, StaleReason, Tier, Version,
    flight::{Boarded, Boarding, Completer, Epoch, SoloReader},
    freshness::Found,
};

/// What a caller does next. Small: each caller that waits has room for one. A departure is boxed, as few have one.
pub(super) enum Step<V> {
    /// Reads the far tier, and decides.
    Read(Reader<V>),
    /// Waits for a flight that its miss has started.
    Lead(Box<Departure<V>>, Waiting<V>),
    /// Waits for a flight of another caller.
    Follow(Waiting<V>),
    /// Loads for itself: what was loaded last may not be kept. Nothing below this version.
    Pass(Version),
    /// Has its answer; perhaps there is a refresh to launch.
    Done(Answer<V>, Option<Box<Departure<V>>>),
}

/// A caller that reads the far tier.
pub(super) enum Reader<V> {
    /// By itself, without a flight.
    Solo(SoloReader<Answer<V>>),
    /// With others of its batch, in a flight that other callers may board meanwhile.
    InFlight { completer: Completer<Answer<V>>, epoch: Epoch, waiting: Waiting<V> },
}

impl<V: Send + Sync + 'static> Core<V> {
    /// Boards for a single fetch.
    pub(super) fn board(&self, name: &Arc<str>) -> Step<V> {
        self.board_with(name, || {
            // Without messages nothing tells that a pass has ended.
            let pass = || self.passes.minimum(name, || self.now());
            if let Some(minimum) = self.is_connected().then(pass).flatten() {
                return Step::Pass(minimum);
            }
            match self.flights.board(name, self.oldest_to_board(), abandoned) {
                Boarding::Solo(solo) => Step::Read(Reader::Solo(solo)),
                Boarding::Aboard(boarded) => Step::aboard(boarded, Plan::Lease, None, None),
            }
        })
    }

    /// Boards for one key of a batch, whose read takes longer.
    pub(super) fn board_in_batch(&self, name: &Arc<str>) -> Step<V> {
        self.board_with(name, || match self.fly(name) {
            Boarded::Leader(completer, waiter) => {
                // Before the read, whose answer is for callers only that are aboard by then.
                let epoch = completer.begin_epoch();
                let waiting = Waiting { waiter, expired: None };
                Step::Read(Reader::InFlight { completer, epoch, waiting })
            }
            Boarded::Follower(waiter) => Step::Follow(Waiting { waiter, expired: None }),
        })
    }

    pub(super) fn fly(&self, name: &Arc<str>) -> Boarded<Answer<V>> {
        self.flights.fly(name, self.oldest_to_board(), abandoned)
    }

    /// While messages do not arrive, an invalidation by another process closes no flight here: a flight takes
    /// newcomers for as long as a near entry would live, and then another one begins.
    fn oldest_to_board(&self) -> Option<Instant> {
        match self.is_connected() {
            true => None,
            false => Instant::now().checked_sub(self.policy.near_outage_ttl.max(SHORTEST_SHARE)),
        }
    }

    fn board_with(&self, name: &Arc<str>, board: impl FnOnce() -> Step<V>) -> Step<V> {
        if Loading::is_current(self.id(), name) {
            return Step::Done(Err(Error::Nested), None);
        }
        match self.during_backoff(name) {
            Some(answer) => Step::Done(answer, None),
            None => board(),
        }
    }

    /// What follows from the far tier's answer. `permit` is that of the reader's batch.
    pub(super) fn decide(
        &self,
        reader: Reader<V>,
        found: Result<Option<Arc<Entry<V>>>, Fault>,
        permit: &mut Option<RefreshPermit>,
    ) -> Step<V> {
        let found = match found {
            Ok(found) => found,
            Err(fault) => {
                // The origin is not asked during a back-off because the far tier cannot say more.
                let backoff = self.failures.current(reader.name(), || self.now());
                return match backoff {
                    Some(backoff) => reader.fail(self, backoff.error(self.now())),
                    None => reader.fly(self, Plan::Unleased(bypass_of(&fault)), None),
                };
            }
        };
        match self.judge(found) {
            Found::Fresh(entry) => reader.complete(self, entry),
            Found::Early(entry) => reader.serve(self, self.early(entry, Tier::Far), permit),
            Found::Stale(entry) => reader.serve(self, self.stale(entry, Tier::Far), permit),
            Found::Expired(entry) | Found::Dead(entry) => {
                reader.fly(self, Plan::Lease, Some(entry))
            }
            Found::Nothing => reader.fly(self, Plan::Lease, None),
        }
    }

    /// A refresh of a near entry, unless a flight is open, one has failed a moment ago, or enough are refreshed.
    pub(super) fn refresh_near(
        &self,
        name: &Arc<str>,
        Due { served, refresh }: &Due<V>,
        permit: &mut Option<RefreshPermit>,
    ) -> Option<Box<Departure<V>>> {
        let permit = self.refresh_permit(name, permit)?;
        let valid = || self.near.contains(name, served.entry()) && self.is_current(served.entry());
        let meanwhile = || self.serve_meanwhile(served, refresh.until);
        let completer = self.flights.refresh(name, meanwhile, abandoned, valid)?;
        Some(Departure::of(
            completer,
            Plan::Refresh(permit, *refresh),
            Some(served.entry().clone()),
        ))
    }

    /// Boards flights of `name` until there is an answer for this caller.
    pub(super) async fn await_answer(
        self: &Arc<Self>,
        name: &Arc<str>,
        deadline: Option<Instant>,
        mut load: impl FlightLoader<V>,
    ) -> Answer<V> {
        // A flight ends by itself within wait and load timeout, so a caller needs no timer of its
        // own, only an end to going round when every flight is overtaken by an invalidation.
        let longest = self.policy.wait_timeout.saturating_add(self.policy.load_timeout);
        let mut last_round = None;
        loop {
            let step = match self.board(name) {
                Step::Read(reader) => match by(deadline, self.read_far(name)).await {
                    Some(found) => self.decide(reader, found, &mut None),
                    None => return self.leave_to_a_flight(name, load),
                },
                step => step,
            };
            match step {
                // `decide` reads no more.
                Step::Read(_) => continue,
                Step::Pass(minimum) => {
                    // Boxed: it is large, and every caller has room for it otherwise.
                    let passing = Box::pin(self.pass(name, minimum, &mut load));
                    let passed = by(deadline, passing).await;
                    if let Some(answer) = passed.unwrap_or(Some(Err(Error::DeadlineExceeded))) {
                        return answer;
                    }
                }
                Step::Done(answer, departure) => {
                    if let Some(departure) = departure {
                        self.launch(*departure, load);
                    }
                    return answer;
                }
                Step::Lead(departure, waiting) => {
                    self.launch(*departure, load);
                    return waiting.lead(self, deadline).await;
                }
                Step::Follow(waiting) => {
                    if let Some(answer) = waiting.follow(self, deadline).await {
                        return answer;
                    }
                }
            }
            let now = Instant::now();
            if now >= *last_round.get_or_insert(now + longest.min(FOREVER)) {
                return Err(Error::WaitTimeout { after: longest });
            }
            if let Some(entry) = self.found_near(name).fresh() {
                return Ok(Fetched::new(entry, Outcome::Followed));
            }
        }
    }

    /// The deadline has passed while this caller read by itself: without a flight no load would follow.
    fn leave_to_a_flight(
        self: &Arc<Self>,
        name: &Arc<str>,
        load: impl FlightLoader<V>,
    ) -> Answer<V> {
        if let Boarded::Leader(completer, _) = self.fly(name) {
            self.launch(*Departure::of(completer, Plan::Lease, None), load);
        }
        Err(Error::DeadlineExceeded)
    }
}

impl<V: Send + Sync + 'static> Reader<V> {
    pub(super) fn name(&self) -> &Arc<str> {
        match self {
            Self::Solo(solo) => solo.name(),
            Self::InFlight { completer, .. } => completer.name(),
        }
    }

    /// A fresh entry answers everyone.
    fn complete(self, core: &Core<V>, entry: Arc<Entry<V>>) -> Step<V> {
        let hit = Outcome::Hit(Tier::Far);
        match self {
            Self::Solo(solo) => {
                let name = solo.name().clone();
                solo.complete(|floor| {
                    core.insert_near(&name, &entry, floor, NearTtl::Shared, Duration::ZERO)
                });
            }
            Self::InFlight { completer, epoch, .. } => {
                core.complete(completer, Resolution::read(epoch, entry.clone(), hit));
            }
        }
        Step::Done(Ok(Fetched::new(entry, hit)), None)
    }

    /// An entry that is due answers everyone, and is refreshed if that is permitted.
    fn serve(
        self,
        core: &Core<V>,
        Due { served, refresh }: Due<V>,
        permit: &mut Option<RefreshPermit>,
    ) -> Step<V> {
        let permit = core.refresh_permit(self.name(), permit);
        let meanwhile = || core.serve_meanwhile(&served, refresh.until);
        let (completer, permit) = match (self, permit) {
            (Self::Solo(solo), Some(permit)) => (solo.refresh(meanwhile, abandoned), permit),
            (Self::InFlight { completer, .. }, Some(permit)) => {
                completer.provide(meanwhile);
                (Some(completer), permit)
            }
            (Self::Solo(solo), None) => {
                solo.share(meanwhile);
                return Step::Done(Ok(served), None);
            }
            (Self::InFlight { completer, epoch, .. }, None) => {
                core.complete(completer, Resolution::visible_before(epoch, served.clone()));
                return Step::Done(Ok(served), None);
            }
        };
        let plan = Plan::Refresh(permit, refresh);
        let previous = Some(served.entry().clone());
        let departure = completer.map(|completer| Departure::of(completer, plan, previous));
        Step::Done(Ok(served), departure)
    }

    /// Nothing to serve: a flight loads. What has expired is for callers whose deadline passes.
    fn fly(self, core: &Core<V>, plan: Plan, previous: Option<Arc<Entry<V>>>) -> Step<V> {
        let expired =
            previous.as_ref().and_then(|entry| core.stale_fallback(entry, StaleReason::Slow));
        match (self, expired) {
            (Self::Solo(solo), None) => Step::aboard(core.fly(solo.name()), plan, None, previous),
            (Self::Solo(solo), Some(expired)) => {
                let name = solo.name().clone();
                let boarded = solo.fly(|| core.serve_at_deadline(&expired), abandoned);
                let boarded = boarded.unwrap_or_else(|| core.fly(&name));
                Step::aboard(boarded, plan, Some(expired), previous)
            }
            (Self::InFlight { completer, waiting, .. }, expired) => {
                if let Some(expired) = &expired {
                    completer.provide(|| core.serve_at_deadline(expired));
                }
                Step::Lead(Departure::of(completer, plan, previous), waiting)
            }
        }
    }

    fn fail(self, core: &Core<V>, error: Error) -> Step<V> {
        if let Self::InFlight { completer, .. } = self {
            core.complete(completer, Resolution::failed(error.clone()));
        }
        Step::Done(Err(error), None)
    }
}

impl<V> Step<V> {
    fn aboard(
        boarded: Boarded<Answer<V>>,
        plan: Plan,
        expired: Option<Fetched<V>>,
        previous: Option<Arc<Entry<V>>>,
    ) -> Self {
        match boarded {
            Boarded::Leader(completer, waiter) => {
                let departure = Departure::of(completer, plan, previous);
                Self::Lead(departure, Waiting { waiter, expired })
            }
            Boarded::Follower(waiter) => Self::Follow(Waiting { waiter, expired }),
        }
    }
}

/// How long callers share a flight at least while messages do not arrive: also where near entries do not live then.
const SHORTEST_SHARE: Duration = Duration::from_millis(500);
