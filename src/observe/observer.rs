use std::{sync::Arc, time::Duration};

#[cfg(feature = "metrics")]
use super::recorded::{Counter, Counters, Gauge, Histogram, Meter};
#[cfg(not(feature = "metrics"))]
use super::silent::{Counter, Counters, Gauge, Histogram, Meter};
use super::{
    event::{GuardEventKind, Refusal},
    hook::EventHook,
    near_usage::NearUsage,
};
use crate::{Clock, Error, Fault, FaultKind, Fetched, Outcome, Tier, Write, far::Invalidated};

/// The metrics of one guard, and its hook.
pub(crate) struct Observer {
    guard: Arc<str>,
    /// That of the far tier, by which entries turn stale.
    clock: Clock,
    hook: EventHook,
    /// One of `fetches`, at hand: on the path of a near hit nothing is looked for.
    near_hits: Counter,
    pub(super) fetches: Counters,
    pub(super) fetches_dropped: Counter,
    pub(super) fetch_seconds: Histogram,
    pub(super) loads: Counters,
    pub(super) load_seconds: Histogram,
    served_stale_seconds: Histogram,
    served_outdated_seconds: Histogram,
    far_errors: Counters,
    puts: Counters,
    invalidations: Counters,
    commits_refused: Counters,
    pub(crate) near_usage: NearUsage,
    pub(crate) gauges: Gauges,
}

/// What goes up and down with the life of something. Each is held by what it counts, so that it goes down
/// also when a task is aborted.
#[derive(Clone)]
pub(crate) struct Gauges {
    pub(crate) loads_in_progress: Gauge,
    pub(crate) loads_queued: Gauge,
    pub(crate) flights: Gauge,
    pub(crate) pending_invalidations: Gauge,
    pub(crate) breaker: Gauge,
}

/// Counted in a gauge for as long as it lives.
#[must_use = "goes down when it is dropped"]
pub(crate) struct Up(Gauge);

impl Gauge {
    pub(crate) fn up(&self) -> Up {
        self.add(1.0);
        Up(self.clone())
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        self.0.add(-1.0);
    }
}

impl Observer {
    pub(crate) fn new(guard: &str, clock: Clock, hook: EventHook) -> Self {
        let (of, guard) = (Meter::of(guard), Arc::from(guard));
        let outcomes = Outcome::ALL.iter().map(|outcome| outcome.as_str());
        let fetches = of
            .counters("cattleguard_fetches_total", "Requests that were answered, by how.")
            .by("outcome", outcomes.chain(Error::WORDS));
        let writes = || {
            of.counters(
                "cattleguard_writes_total",
                "Puts and invalidations, by what became of them.",
            )
        };
        Self {
            near_hits: fetches.of(Outcome::Hit(Tier::Near).as_str()),
            fetches,
            fetches_dropped: of.counter(
                "cattleguard_fetches_dropped_total",
                "Callers that went away before they were answered.",
            ),
            fetch_seconds: of.seconds(
                "cattleguard_fetch_seconds",
                "How long answers took that were no plain near hits.",
            ),
            loads: of
                .counters("cattleguard_loads_total", "Calls to the origin that have ended, by how.")
                .by("result", LOAD_RESULTS),
            load_seconds: of
                .seconds("cattleguard_load_seconds", "How long calls to the origin took."),
            served_stale_seconds: of.seconds(
                "cattleguard_served_stale_seconds",
                "How long the ttl of a stale answer was over.",
            ),
            served_outdated_seconds: of.seconds(
                "cattleguard_served_outdated_seconds",
                "How long after news of a write or an invalidation an answer from before was given.",
            ),
            far_errors: of
                .counters(
                    "cattleguard_far_errors_total",
                    "Calls to the far tier that failed, by why.",
                )
                .by("kind", FaultKind::OF_FAR.map(FaultKind::as_str)),
            puts: writes().with("what", "put").by("result", ["stored", "older", "failed"]),
            invalidations: writes()
                .with("what", "invalidate")
                .by("result", ["everywhere", "unconfirmed", "unreplicated", "failed"]),
            commits_refused: of
                .counters(
                    "cattleguard_commits_refused_total",
                    "Loads whose value was not written because something newer is known, by why.",
                )
                .by("why", Refusal::ALL.map(Refusal::as_str)),
            near_usage: NearUsage::new(&guard, &of),
            gauges: Gauges::new(&of),
            guard,
            clock,
            hook,
        }
    }

    /// The name of the guard, for logs.
    pub(crate) fn guard(&self) -> &str {
        &self.guard
    }

    pub(super) fn tell(&self, name: Option<&str>, kind: GuardEventKind) {
        self.hook.tell(&self.guard, name, kind);
    }

    /// A request was answered by the near tier, and nothing else is to be done.
    pub(crate) fn near_hit(&self) {
        self.near_hits.increment();
        let outcome = Outcome::Hit(Tier::Near).as_str();
        tracing::trace!(guard = self.guard(), outcome, "fetch");
    }

    /// A request was answered from what is stored, and nothing else is to be done.
    #[cfg(feature = "http")]
    pub(crate) fn hit<V>(&self, name: &str, fetched: &Fetched<V>) {
        let outcome = fetched.outcome().as_str();
        self.fetches.count(outcome);
        tracing::trace!(guard = self.guard(), outcome, "fetch");
        self.served(Some(name), fetched);
    }

    /// A request got this answer.
    pub(super) fn served<V>(&self, name: Option<&str>, fetched: &Fetched<V>) {
        let outcome = fetched.outcome();
        if let Outcome::Stale(_) | Outcome::StaleIfError(_) = outcome {
            let beyond = self.clock.now().since(fetched.entry().fresh_until());
            self.served_stale_seconds.record(beyond);
            self.tell(name, GuardEventKind::ServedStale { outcome, beyond });
        }
    }

    /// A caller got an answer from before a write or an invalidation that this process has heard of so long ago.
    pub(crate) fn served_outdated(&self, by: Duration) {
        self.served_outdated_seconds.record(by);
    }

    /// A call to the far tier failed.
    pub(crate) fn far_failed(&self, fault: &Fault) {
        self.far_errors.count(fault.kind().as_str());
    }

    /// The breaker has opened.
    pub(crate) fn far_away(&self, fault: &Fault) {
        self.tell(None, GuardEventKind::FarAway { why: fault.kind() });
    }

    /// The breaker has closed.
    pub(crate) fn far_back(&self) {
        self.tell(None, GuardEventKind::FarBack);
    }

    /// This became of a put.
    pub(crate) fn put(&self, name: &str, result: Result<Write, FaultKind>) {
        self.puts.count(match result {
            Ok(Write::Stored) => "stored",
            Ok(Write::Older { .. }) => "older",
            Err(_) => "failed",
        });
        self.tell(Some(name), GuardEventKind::Put { result });
    }

    /// This became of an invalidation of a key, a tag, or all.
    pub(crate) fn invalidated(&self, name: &str, result: Result<Invalidated, FaultKind>) {
        self.invalidations.count(match result {
            Ok(Invalidated::Everywhere) => "everywhere",
            Ok(Invalidated::Unconfirmed) => "unconfirmed",
            Ok(Invalidated::Unreplicated { .. }) => "unreplicated",
            Err(_) => "failed",
        });
        self.tell(Some(name), GuardEventKind::Invalidated { result });
    }

    /// An invalidation has become pending.
    pub(crate) fn invalidation_pending(&self, name: &str, why: FaultKind) {
        self.tell(Some(name), GuardEventKind::InvalidationPending { why });
    }

    /// A pending invalidation has gone through.
    pub(crate) fn invalidation_sent(&self, name: &str) {
        self.tell(Some(name), GuardEventKind::InvalidationSent);
    }

    /// An invalidation is not repeated.
    pub(crate) fn invalidation_lost(&self, name: &str, why: FaultKind) {
        self.tell(Some(name), GuardEventKind::InvalidationLost { why });
    }

    /// What was loaded was not written, because of this.
    pub(crate) fn load_refused(&self, name: &str, why: Refusal) {
        self.commits_refused.count(why.as_str());
        self.tell(Some(name), GuardEventKind::LoadRefused { why });
    }

    /// A lease is lost, and its load goes on.
    pub(crate) fn lease_lost(&self, name: &str) {
        tracing::debug!(guard = self.guard(), "lease lost while loading");
        self.tell(Some(name), GuardEventKind::LeaseLost);
    }
}

impl Gauges {
    fn new(of: &Meter) -> Self {
        Self {
            loads_in_progress: of.gauge(
                "cattleguard_loads_in_progress",
                "Loads that run now, those beside the places of the bulkhead among them.",
            ),
            loads_queued: of
                .gauge("cattleguard_loads_queued", "Loads that wait for a place in the bulkhead."),
            flights: of.gauge("cattleguard_flights_open", "Flights in the air."),
            pending_invalidations: of.gauge(
                "cattleguard_pending_invalidations",
                "Invalidations that wait for the far tier to come back.",
            ),
            breaker: of.gauge(
                "cattleguard_breaker_state",
                "The breaker before the far tier: 0 closed, 1 half open, 2 open.",
            ),
        }
    }
}

pub(super) const OK: &str = "ok";

/// How loads end.
const LOAD_RESULTS: [&str; 6] = [
    OK,
    "error_origin",
    Error::LoadTimeout { after: std::time::Duration::ZERO }.as_str(),
    Error::LoadPanicked.as_str(),
    Error::ShutDown.as_str(),
    Error::Abandoned.as_str(),
];
