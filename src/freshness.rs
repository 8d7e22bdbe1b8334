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

#[cfg(all(test, feature = "http"))]
mod tests {
    use super::*;
    use crate::policy::StaleFor;

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
