use std::time::Duration;

/// The times and limits by which a guard keeps entries and waits for them.
///
/// ```
/// use std::time::Duration;
/// use cattleguard::Policy;
///
/// let policy = Policy::default().ttl(Duration::from_secs(300)).grace(Duration::ZERO);
/// ```
#[must_use = "a policy has no effect until it is given to a guard"]
#[derive(Clone, Debug)]
pub struct Policy {
    pub(crate) ttl: Duration,
    pub(crate) negative_ttl: Duration,
    pub(crate) jitter: f64,
    pub(crate) grace: Duration,
    pub(crate) version_retention: Duration,
    pub(crate) near_ttl: Duration,
    pub(crate) near_outage_ttl: Duration,
    pub(crate) lease_ttl: Duration,
    pub(crate) wait_timeout: Duration,
    pub(crate) load_timeout: Duration,
    pub(crate) max_refreshes: usize,
    pub(crate) early_refresh: f64,
    pub(crate) stale_if_error: Duration,
    pub(crate) soft_timeout: Duration,
    pub(crate) failure_backoff: Duration,
    pub(crate) max_failure_backoff: Duration,
    pub(crate) max_concurrent_loads: usize,
    pub(crate) max_queued_loads: usize,
    pub(crate) slow_load_after: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(60),
            negative_ttl: Duration::from_secs(5),
            jitter: 0.1,
            grace: Duration::from_secs(30),
            version_retention: Duration::from_secs(60),
            near_ttl: Duration::from_secs(5),
            near_outage_ttl: Duration::from_millis(500),
            lease_ttl: Duration::from_secs(2),
            wait_timeout: Duration::from_secs(10),
            load_timeout: Duration::from_secs(10),
            max_refreshes: 16,
            early_refresh: 1.0,
            stale_if_error: Duration::from_secs(300),
            soft_timeout: Duration::MAX,
            failure_backoff: Duration::from_millis(250),
            max_failure_backoff: Duration::from_secs(5),
            max_concurrent_loads: 64,
            max_queued_loads: 1_000,
            slow_load_after: Duration::from_secs(1),
        }
    }
}

impl Policy {
    /// How long a value is fresh. Default 60 s; a load may say otherwise with
    /// [`Loaded::ttl`](crate::Loaded::ttl).
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// How long "known absent" is fresh. Default 5 s. Lengthen it where rows are rarely created
    /// after a request for them, or where creation invalidates.
    pub fn negative_ttl(mut self, ttl: Duration) -> Self {
        self.negative_ttl = ttl;
        self
    }

    /// The share of the ttl that may be cut off at random when an entry is written, so that entries
    /// written together do not expire together. Default 0.1; clamped to 0–1, zero turns it off.
    pub fn jitter(mut self, share: f64) -> Self {
        self.jitter = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
        self
    }

    /// How long after its ttl an entry is served stale while one flight refreshes it. Default 30 s;
    /// zero turns grace off, and callers wait for the load of an expired entry. An invalidated entry
    /// is never served stale.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// How long a version is remembered after its value can no longer be served: the time within
    /// which late writers and lagging replicas are still recognised. Default 60 s; lengthen it beyond
    /// your worst replication lag.
    pub fn version_retention(mut self, version_retention: Duration) -> Self {
        self.version_retention = version_retention;
        self
    }

    /// How long an entry lives in the near tier at most. Default 5 s. Messages drop older entries at
    /// once; this bounds what a lost message could cost. A process that is cut off notices that within a second, and
    /// drops its near entries.
    pub fn near_ttl(mut self, ttl: Duration) -> Self {
        self.near_ttl = ttl;
        self
    }

    /// How long a near entry lives at most while messages from other processes do not arrive, and how
    /// long at least something stale is given to one caller after the other while it is refreshed. Default
    /// 500 ms; zero turns the near tier off for that time.
    pub fn near_outage_ttl(mut self, ttl: Duration) -> Self {
        self.near_outage_ttl = ttl;
        self
    }

    /// How long a lease lasts without renewal: what a crashed holder costs the others. Default 2 s,
    /// renewed at a third of it while the load runs; at least 30 ms. Lengthen it if a process may
    /// freeze for longer (the freeze is safe either way, but may cost a second load).
    pub fn lease_ttl(mut self, ttl: Duration) -> Self {
        self.lease_ttl = ttl.max(Duration::from_millis(30));
        self
    }

    /// How long a fetch waits for another process's answer. Default 10 s; then
    /// [`Error::WaitTimeout`](crate::Error::WaitTimeout).
    pub fn wait_timeout(mut self, timeout: Duration) -> Self {
        self.wait_timeout = timeout;
        self
    }

    /// How long a load may take, all its attempts together. Default 10 s; then the load is aborted
    /// and its callers get [`Error::LoadTimeout`](crate::Error::LoadTimeout).
    pub fn load_timeout(mut self, timeout: Duration) -> Self {
        self.load_timeout = timeout;
        self
    }

    /// How many stale entries this process refreshes at one time. Default 16; beyond that a stale entry
    /// is served and left for a later request to refresh, so that refreshes do not hold up loads that callers
    /// wait for. Raise it if entries stay stale although the origin has room.
    pub fn max_refreshes(mut self, refreshes: usize) -> Self {
        self.max_refreshes = refreshes.min(tokio::sync::Semaphore::MAX_PERMITS);
        self
    }

    /// How readily a fresh entry is refreshed before its end, by one process, while it is served: β of
    /// XFetch. A request refreshes it when `now − δ·β·ln(U) ≥ end`, where δ is the time its load took and
    /// U random in 0–1. Default 1.0; above that earlier, zero turns it off.
    ///
    /// From Vattani, Chierichetti, Lowenstein: *Optimal Probabilistic Cache Stampede Prevention*
    /// (VLDB 2015).
    pub fn early_refresh(mut self, beta: f64) -> Self {
        self.early_refresh = if beta.is_finite() { beta.max(0.0) } else { 0.0 };
        self
    }

    /// How long after ttl and grace an entry is still served when its load fails, takes longer than
    /// the soft timeout, or finds no room. Default 5 min; zero turns it off. The far tier keeps entries
    /// for that much longer, so shorten it where its memory is short. An invalidated entry is never
    /// served.
    pub fn stale_if_error(mut self, window: Duration) -> Self {
        self.stale_if_error = window;
        self
    }

    /// How long a load, or the wait for another process's, may take before callers get an expired
    /// entry instead, if there is one; the load goes on. Default: as long as the load takes. Set it
    /// where an answer that is minutes old is better than a slow one.
    pub fn soft_timeout(mut self, timeout: Duration) -> Self {
        self.soft_timeout = timeout;
        self
    }

    /// Back-off after a failed load of a key, shared by all processes; callers get a stale entry or the error
    /// meanwhile. Doubles with each failure in a row. Default 250 ms; zero turns it off.
    /// [`GuardBuilder::counts_as_failure`](crate::GuardBuilder::counts_as_failure) says for which errors.
    pub fn failure_backoff(mut self, first: Duration) -> Self {
        self.failure_backoff = first;
        self
    }

    /// The longest failure back-off. Default 5 s: what a key may take to notice that the origin is back.
    pub fn max_failure_backoff(mut self, longest: Duration) -> Self {
        self.max_failure_backoff = longest;
        self
    }

    /// How many loads this guard runs at one time in this process, whatever their keys: the bulkhead that
    /// keeps an origin alive when the far tier is gone. Default 64, at least 1; set it to the size of
    /// the origin's connection pool. As many again may run beside them that have become
    /// [slow](Self::slow_load_after). Loads within loads, of this or of another guard, have as many places of
    /// their own at each level, four levels deep: their outer loads only wait for them.
    pub fn max_concurrent_loads(mut self, loads: usize) -> Self {
        self.max_concurrent_loads = loads.max(1);
        self
    }

    /// How many loads may wait for their turn beyond that, each up to the load timeout. Default 1,000;
    /// beyond it callers get a stale entry or [`Error::Overloaded`](crate::Error::Overloaded) at once.
    pub fn max_queued_loads(mut self, loads: usize) -> Self {
        self.max_queued_loads = loads;
        self
    }

    /// How long a load keeps its place among [`max_concurrent_loads`](Self::max_concurrent_loads) from those that
    /// queue. Then it runs beside them, where there is room for as many again: keys whose loads are slow do not hold
    /// up the others. Default 1 s; lengthen it if most loads take that long. `Duration::MAX` if the
    /// origin must never have more than `max_concurrent_loads`; a slow key then holds up all others.
    pub fn slow_load_after(mut self, held: Duration) -> Self {
        self.slow_load_after = held;
        self
    }

    /// Grace and stale-if-error together.
    pub(crate) fn stale_window(&self) -> Duration {
        self.grace.saturating_add(self.stale_if_error)
    }

    /// The back-off after this many failures in a row.
    pub(crate) fn backoff_after(&self, failures: u32) -> Duration {
        let doubled = 2u32.saturating_pow(failures.saturating_sub(1));
        self.failure_backoff.saturating_mul(doubled).min(self.max_failure_backoff).min(CENTURY)
    }

    /// How long a record with this ttl must stay in the far tier, so that its version outlives
    /// every moment at which an older value could still arrive.
    pub(crate) fn retention(&self, ttl: Duration, stale_window: Duration) -> Duration {
        ttl.saturating_add(stale_window).saturating_add(self.version_retention)
    }

    /// `ttl` with a random part of the jitter share cut off.
    pub(crate) fn spread(&self, ttl: Duration) -> Duration {
        ttl.min(CENTURY).mul_f64(1.0 - self.jitter * fastrand::f64())
    }
}

/// How long a value may be served stale, where it says so itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct StaleFor {
    pub(crate) grace: Option<Duration>,
    pub(crate) if_error: Option<Duration>,
}

#[cfg(feature = "http")]
impl StaleFor {
    pub(crate) const NEVER: Self =
        Self { grace: Some(Duration::ZERO), if_error: Some(Duration::ZERO) };
}

/// What is "without end" must not overflow when multiplied.
const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let policy = Policy::default();
        let pauses: Vec<_> = (1..8).map(|n| policy.backoff_after(n).as_millis()).collect();
        assert_eq!(pauses, [250, 500, 1000, 2000, 4000, 5000, 5000]);
        assert_eq!(policy.backoff_after(u32::MAX), Duration::from_secs(5));
        assert_eq!(
            Policy::default().failure_backoff(Duration::ZERO).backoff_after(9),
            Duration::ZERO
        );
    }

    proptest::proptest! {
        #[test]
        fn a_back_off_is_the_first_one_doubled_for_each_further_failure(
            first in 0..5_000_u64,
            longest in 0..1_u64 << 32,
            failures in 1..50_u32,
        ) {
            let millis = Duration::from_millis;
            let policy = Policy::default();
            let policy = policy.failure_backoff(millis(first)).max_failure_backoff(millis(longest));
            let doubled = (1..failures).fold(u128::from(first), |all, _| (2 * all).min(1 << 100));
            let expected = doubled.min(longest.into());
            proptest::prop_assert_eq!(policy.backoff_after(failures).as_millis(), expected);
        }
    }

    #[test]
    fn jitter_shortens_and_spreads() {
        let policy = Policy::default().jitter(0.2);
        let second = Duration::from_secs(1);
        let ttls: Vec<_> = (0..1000).map(|_| policy.spread(second)).collect();
        assert!(ttls.iter().all(|t| *t <= second && *t >= second.mul_f64(0.8)));
        assert!(ttls.iter().max() > ttls.iter().min());
        assert_eq!(Policy::default().jitter(0.0).spread(second), second);
        assert!(policy.spread(Duration::MAX) > second);
        assert_eq!(Policy::default().jitter(f64::NAN).spread(second), second);
    }
}
