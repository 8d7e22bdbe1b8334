//! What an entry is worth now, and until when. The one place that judges it, for both tiers.
//!
//! ```text
//! loaded      fresh_until        + grace          + stale-if-error     + validation · version retention
//!   │  Fresh       │      Stale      │      Expired       │        Dead                    │ forgotten
//! ```

use std::{sync::Arc, time::Duration};

use crate::{Entry, Loaded, Moment, Policy, Version, far::Record, terms::Terms};

/// What an entry is worth at a moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Age {
    /// Within its ttl.
    Fresh,
    /// Within grace: served while it is refreshed.
    Stale,
    /// Within stale-if-error: better than no answer.
    Expired,
    /// Of no use.
    Dead,
}

/// What a tier has of a name.
pub(crate) enum Found<V> {
    /// To be served, and nothing more.
    Fresh(Arc<Entry<V>>),
    /// Fresh, and this request is the one that refreshes it before its end.
    Early(Arc<Entry<V>>),
    /// To be served while it is refreshed.
    Stale(Arc<Entry<V>>),
    /// Better than no answer. The near tier leaves this to the far tier, which knows more.
    Expired(Arc<Entry<V>>),
    /// No answer any more, but the origin may say that it is as it was.
    Dead(Arc<Entry<V>>),
    Nothing,
}

impl<V> Found<V> {
    /// What an entry is to the request that found it.
    pub(crate) fn judge(entry: Arc<Entry<V>>, freshness: &Freshness, now: Moment) -> Self {
        match freshness.age(&entry, now) {
            Age::Fresh if freshness.is_early(&entry, now) => Self::Early(entry),
            Age::Fresh => Self::Fresh(entry),
            Age::Stale => Self::Stale(entry),
            Age::Expired => Self::Expired(entry),
            Age::Dead => Self::Dead(entry),
        }
    }

    pub(crate) fn fresh(self) -> Option<Arc<Entry<V>>> {
        match self {
            Self::Fresh(entry) | Self::Early(entry) => Some(entry),
            Self::Stale(_) | Self::Expired(_) | Self::Dead(_) | Self::Nothing => None,
        }
    }
}

/// Judges the entries of one guard.
pub(crate) struct Freshness {
    policy: Policy,
}

impl Freshness {
    pub(crate) fn new(policy: Policy) -> Self {
        Self { policy }
    }

    pub(crate) fn age<V>(&self, entry: &Entry<V>, now: Moment) -> Age {
        // First, for most entries are: nothing else is asked then.
        if now < entry.fresh_until() {
            Age::Fresh
        } else if now < self.stale_until(entry) {
            Age::Stale
        } else if now < self.expired_until(entry) {
            Age::Expired
        } else {
            Age::Dead
        }
    }

    /// Whether a request at `now` is the one that refreshes this fresh entry before its end.
    pub(crate) fn is_early<V>(&self, entry: &Entry<V>, now: Moment) -> bool {
        now >= self.early_from(entry) && entry.is_early(now, self.policy.early_refresh)
    }

    /// Before this moment no request refreshes the entry early, as good as never: one comparison on the path
    /// of a hit instead of a logarithm.
    pub(crate) fn early_from<V>(&self, entry: &Entry<V>) -> Moment {
        entry.early_from(self.policy.early_refresh)
    }

    /// The end of grace.
    pub(crate) fn stale_until<V>(&self, entry: &Entry<V>) -> Moment {
        let grace = entry.stale_for().grace.unwrap_or(self.policy.grace);
        entry.fresh_until().after(grace)
    }

    /// The end of stale-if-error.
    fn expired_until<V>(&self, entry: &Entry<V>) -> Moment {
        entry.fresh_until().after(self.stale_window(entry))
    }

    /// Grace and stale-if-error together.
    fn stale_window<V>(&self, entry: &Entry<V>) -> Duration {
        let stale = entry.stale_for();
        let grace = stale.grace.unwrap_or(self.policy.grace);
        grace.saturating_add(stale.if_error.unwrap_or(self.policy.stale_if_error))
    }

    /// What is to be stored for a load, with its times set by the policy.
    pub(crate) fn record<V>(&self, loaded: Loaded<V>, now: Moment) -> Record<V> {
        let default = match loaded.value {
            Some(_) => self.policy.ttl,
            None => self.policy.negative_ttl,
        };
        let (ttl, validated_for) =
            (self.policy.spread(loaded.ttl.unwrap_or(default)), loaded.validated_for);
        let version = loaded.version.unwrap_or(Version::ZERO);
        let entry = Entry::new(loaded.value, version, now.after(ttl)).loaded_in(loaded.load_time);
        let entry = entry.on(Terms { stale: loaded.stale, tags: loaded.tags });
        let unserved = self.stale_window(&entry).saturating_add(validated_for);
        let window = unserved.max(self.policy.stale_window());
        let retention = self.policy.retention(ttl, window);
        Record { entry: Arc::new(entry), version: loaded.version, ttl, retention }
    }

    /// How long the far tier keeps the version of an invalidation.
    pub(crate) fn tombstone_retention(&self) -> Duration {
        self.policy.retention(self.policy.ttl, self.policy.stale_window())
    }
}

#[cfg(test)]
mod tests {
    use proptest::{option, prelude::*};

    use super::*;
    use crate::policy::StaleFor;

    /// Zero, short, or without end; in nanoseconds.
    fn window() -> impl Strategy<Value = u64> {
        prop_oneof![Just(0), 0..20_u64, 0..1_u64 << 40, Just(u64::MAX)]
    }

    fn policy() -> Policy {
        Policy::default().jitter(0.0).early_refresh(0.0)
    }

    /// An entry whose ttl ends a century after the first moment, and what it says of its own use.
    fn entry(own_grace: Option<u64>, own_if_error: Option<u64>) -> Arc<Entry<()>> {
        let [grace, if_error] =
            [own_grace, own_if_error].map(|nanos| nanos.map(Duration::from_nanos));
        let terms = Terms { stale: StaleFor { grace, if_error }, ..Terms::default() };
        Arc::new(Entry::new(Some(()), Version::ZERO, end()).on(terms))
    }

    fn end() -> Moment {
        crate::Clock::manual().now()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_096))]

        /// The table of this module's head, in whole numbers.
        #[test]
        fn an_entry_is_worth_what_the_table_says(
            (grace, if_error) in (window(), window()),
            (own_grace, own_if_error) in (option::of(window()), option::of(window())),
            // Around the ends that there are, and anywhere.
            (around, by, anywhere) in (0..4_u8, -2..3_i128, any::<i32>()),
        ) {
            let windows = [own_grace.unwrap_or(grace), own_if_error.unwrap_or(if_error)];
            let [stale, expired] = windows.map(i128::from);
            let since_end = match around {
                0 => by,
                1 => stale + by,
                2 => stale + expired + by,
                _ => anywhere.into(),
            };
            let left = i128::from(u64::MAX) / 2;
            let since_end = since_end.clamp(-left, left);
            let expected = match since_end {
                since if since < 0 => Age::Fresh,
                since if since < stale => Age::Stale,
                since if since < stale + expired => Age::Expired,
                _ => Age::Dead,
            };
            let [grace, if_error] = [grace, if_error].map(Duration::from_nanos);
            let freshness = Freshness::new(policy().grace(grace).stale_if_error(if_error));
            let distance = u64::try_from(since_end.unsigned_abs()).map(Duration::from_nanos);
            let distance = distance.expect("half of them");
            let now = if since_end < 0 { end().before(distance) } else { end().after(distance) };
            let entry = entry(own_grace, own_if_error);
            prop_assert_eq!(freshness.age(&entry, now), expected);
            let found = match Found::judge(entry, &freshness, now) {
                Found::Fresh(_) => Age::Fresh,
                Found::Stale(_) => Age::Stale,
                Found::Expired(_) => Age::Expired,
                Found::Dead(_) => Age::Dead,
                Found::Early(_) | Found::Nothing => panic!("early refresh is off"),
            };
            prop_assert_eq!(found, expected);
        }

        /// No version is forgotten while its value may be served or asked about, and none stays for longer than that
        /// and the version retention.
        #[test]
        fn a_version_outlives_its_value(
            (ttl, grace, if_error, retention) in (window(), window(), window(), window()),
            (own_grace, own_if_error) in (option::of(window()), option::of(window())),
            (validated, jitter, is_found) in (window(), 0.0..=1.0, any::<bool>()),
        ) {
            let nanos = Duration::from_nanos;
            let policy = Policy::default()
                .jitter(jitter)
                .grace(nanos(grace))
                .stale_if_error(nanos(if_error))
                .version_retention(nanos(retention));
            let stale =
                StaleFor { grace: own_grace.map(nanos), if_error: own_if_error.map(nanos) };
            let loaded = Loaded { value: is_found.then_some(()), stale, ..Loaded::absent() };
            let loaded = Loaded { validated_for: nanos(validated), ..loaded.ttl(nanos(ttl)) };
            let now = end();
            let record = Freshness::new(policy).record(loaded, now);
            let whole = |parts: &[u64]| parts.iter().map(|part| u128::from(*part)).sum::<u128>();
            let own = whole(&[own_grace.unwrap_or(grace), own_if_error.unwrap_or(if_error), validated]);
            let window = own.max(whole(&[grace, if_error]));
            let given = record.ttl.as_nanos();
            prop_assert_eq!(record.retention.as_nanos(), given + window + u128::from(retention));
            prop_assert_eq!(record.entry.fresh_until(), now.after(record.ttl));
            let ttl = ttl.min(100 * 365 * 24 * 3600 * 1_000_000_000);
            prop_assert!(given <= u128::from(ttl));
            prop_assert!(given as f64 >= (1.0 - jitter) * ttl as f64 - 1.0);
        }

        /// XFetch by its formula, with the same U.
        #[test]
        fn a_fresh_entry_is_refreshed_early_where_the_formula_says(
            (seed, load_micros, beta) in (any::<u64>(), 0..10_000_000_u64, 0.0..5.0_f64),
            // In load times before the end.
            before in 0.0..4.0_f64,
        ) {
            let load_time = Duration::from_micros(load_micros);
            let freshness = Freshness::new(policy().early_refresh(beta));
            let entry = Entry::new(Some(()), Version::ZERO, end()).loaded_in(load_time);
            let left = load_time.mul_f64(before);
            prop_assume!(!left.is_zero());
            fastrand::seed(seed);
            let early = matches!(
                Found::judge(Arc::new(entry), &freshness, end().before(left)),
                Found::Early(_)
            );
            fastrand::seed(seed);
            let u = 1.0 - fastrand::f64();
            let gap = -(load_time.as_secs_f64() * beta * u.ln());
            // A nanosecond is what rounding may cost.
            prop_assume!((gap - left.as_secs_f64()).abs() > 2e-9);
            prop_assert_eq!(early, gap >= left.as_secs_f64(), "{} {:?}", gap, left);
        }
    }

    /// One load time before the end it is every e-th request, two before it every e²-th: as often as in the paper.
    #[test]
    fn the_nearer_the_end_the_more_requests_refresh_early() {
        fastrand::seed(17);
        let freshness = Freshness::new(policy().early_refresh(1.0));
        let second = Duration::from_secs(1);
        let entry = Entry::new(Some(()), Version::ZERO, end()).loaded_in(second);
        for load_times in [0.1, 1.0, 2.0, 5.0] {
            let now = end().before(second.mul_f64(load_times));
            let early = (0..20_000).filter(|_| freshness.is_early(&entry, now)).count();
            let expected = 20_000.0 * (-load_times).exp();
            assert!((early as f64 - expected).abs() < 300.0, "{load_times}: {early}, {expected}");
        }
        assert!((0..20_000).all(|_| !freshness.is_early(&entry, end().before(30 * second))));
    }

    #[cfg(feature = "http")]
    #[test]
    fn what_is_kept_to_be_validated_is_kept_after_it_may_be_served() {
        let seconds = Duration::from_secs;
        let policy = Policy::default()
            .jitter(0.0)
            .grace(seconds(1))
            .stale_if_error(seconds(10))
            .version_retention(seconds(100));
        let freshness = Freshness::new(policy);
        for (stale, window, expected) in [
            (StaleFor::default(), 0, 5 + 11 + 100),
            (StaleFor::default(), 1_000, 5 + 11 + 1_000 + 100),
            (StaleFor::NEVER, 0, 5 + 11 + 100),
            (StaleFor::NEVER, 1_000, 5 + 1_000 + 100),
        ] {
            let loaded = Loaded { stale, ..Loaded::found((), 1) };
            let loaded = loaded.ttl(seconds(5)).validated_for(seconds(window));
            let now = Moment::FAR_FUTURE.before(seconds(1 << 30));
            let record = freshness.record(loaded, now);
            assert_eq!(record.retention, seconds(expected), "{window}");
            // Of no use but for that.
            let after = record.entry.fresh_until().after(seconds(11));
            assert_eq!(freshness.age(&record.entry, after), Age::Dead);
        }
    }
}
