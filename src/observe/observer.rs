use super::near_usage::NearUsage;
#[cfg(feature = "metrics")]
use super::recorded::{Counter, Counters, Gauge, Histogram, Meter};
#[cfg(not(feature = "metrics"))]
use super::silent::{Counter, Counters, Gauge, Histogram, Meter};
use crate::{Error, Fault, FaultKind, Outcome, Tier};

/// The metrics of one guard.
pub(crate) struct Observer {
    /// One of `fetches`, at hand: on the path of a near hit nothing is looked for.
    near_hits: Counter,
    pub(super) fetches: Counters,
    pub(super) fetches_dropped: Counter,
    pub(super) fetch_seconds: Histogram,
    pub(super) loads: Counters,
    pub(super) load_seconds: Histogram,
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
    pub(crate) fn new(guard: &str) -> Self {
        let of = Meter::of(guard);
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
                .by("why", ["lease_lost", "older", "outdated"]),
            near_usage: NearUsage::new(&of),
            gauges: Gauges::new(&of),
        }
    }

    /// A request was answered by the near tier, and nothing else is to be done.
    pub(crate) fn near_hit(&self) {
        self.near_hits.increment();
        tracing::trace!(outcome = Outcome::Hit(Tier::Near).as_str(), "fetch");
    }

    /// A request was answered from what is stored, and nothing else is to be done.
    #[cfg(feature = "http")]
    pub(crate) fn hit(&self, outcome: Outcome) {
        self.fetches.count(outcome.as_str());
        tracing::trace!(outcome = outcome.as_str(), "fetch");
    }

    /// A call to the far tier failed.
    pub(crate) fn far_failed(&self, fault: &Fault) {
        self.far_errors.count(fault.kind().as_str());
    }

    /// This became of a put.
    pub(crate) fn put(&self, result: &'static str) {
        self.puts.count(result);
    }

    /// This became of an invalidation.
    pub(crate) fn invalidated(&self, result: &'static str) {
        self.invalidations.count(result);
    }

    /// What was loaded was not written, because of this.
    pub(crate) fn commit_refused(&self, why: &'static str) {
        self.commits_refused.count(why);
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
