//! What is served while it is refreshed.

use std::{sync::Arc, time::Duration};

use tokio::sync::OwnedSemaphorePermit;

use super::{answer::Answer, core::Core};
use crate::{Entry, Fetched, Moment, Outcome, Tier, flight::Provisional, freshness::Age};

/// A refresh of something that is served meanwhile.
#[derive(Clone, Copy)]
pub(super) struct Refresh {
    /// How long it may be served.
    pub(super) until: Moment,
    /// When it is worth less than now: fresh no longer, or of no use.
    pub(super) changes_at: Moment,
    /// Another entry is a new one if it is fresh for longer than this.
    pub(super) fresh_for: Duration,
}

/// What is loaded although it may be fresh.
#[derive(Clone, Copy)]
pub(super) struct Reload {
    /// The end of the entry that there was. Another one is the result of a load since.
    pub(super) replaces: Option<Moment>,
    /// What others are served until then, if there is something.
    pub(super) meanwhile: Option<Refresh>,
}

/// An entry to serve now, and its refresh.
pub(super) struct Due<V> {
    pub(super) served: Fetched<V>,
    pub(super) refresh: Refresh,
}

/// What callers get meanwhile.
pub(super) struct Serving<V> {
    pub(super) served: Fetched<V>,
    pub(super) until: Moment,
    /// As that of [`Refresh`].
    pub(super) changes_at: Moment,
}

impl<V> Serving<V> {
    /// Its refresh, by an entry that is fresh for longer than this.
    pub(super) fn refresh(self, fresh_for: Duration) -> Refresh {
        Refresh { until: self.until, changes_at: self.changes_at, fresh_for }
    }
}

/// For one refresh, or for the refreshes of one batch, which are one load.
pub(super) type RefreshPermit = Arc<OwnedSemaphorePermit>;

impl<V: Send + Sync + 'static> Core<V> {
    /// A fresh entry that this request is to refresh.
    pub(super) fn early(&self, entry: Arc<Entry<V>>, tier: Tier) -> Due<V> {
        // Beyond its end as well: within grace no caller waits for the refresh.
        let (until, changes_at) = (self.freshness.stale_until(&entry), entry.fresh_until());
        // Only what is fresh for longer is newer. Not every process sees the same clock.
        let fresh_for = changes_at.since(self.now()) + CLOCKS_DIFFER;
        let served = Fetched::new(entry, Outcome::Hit(tier));
        Due { served, refresh: Refresh { until, changes_at, fresh_for } }
    }

    /// An entry within grace.
    pub(super) fn stale(&self, entry: Arc<Entry<V>>, tier: Tier) -> Due<V> {
        let until = self.freshness.stale_until(&entry);
        let served = Fetched::new(entry, Outcome::Stale(tier));
        let refresh = Refresh { until, changes_at: until, fresh_for: Duration::ZERO };
        Due { served, refresh }
    }

    /// What callers get that come while it is refreshed: not for long, because messages may stop. Nothing, if it
    /// was purged since it was found. Asked under the name's lock, as `near_ttl`, and when the flight is open: a purge
    /// that comes after finds it so.
    pub(super) fn serve_meanwhile(
        &self,
        served: &Fetched<V>,
        until: Moment,
    ) -> Option<Provisional<Answer<V>>> {
        let meanwhile = || Provisional::now(Ok(served.clone()), self.provisional_until(until));
        self.is_current(served.entry()).then(meanwhile)
    }

    /// What callers get at their deadlines. Asked under the name's lock, as `near_ttl`.
    pub(super) fn serve_at_deadline(&self, expired: &Fetched<V>) -> Option<Provisional<Answer<V>>> {
        let until = self.provisional_until(Moment::FAR_FUTURE);
        let at_deadline = || Provisional::at_deadline(Ok(expired.clone()), until);
        self.is_current(expired.entry()).then(at_deadline)
    }

    /// What a far entry is worth while its refresh is in progress.
    pub(super) fn while_refreshing(&self, entry: &Arc<Entry<V>>) -> Option<Serving<V>> {
        let until = self.freshness.stale_until(entry);
        let (outcome, changes_at) = match self.freshness.age(entry, self.now()) {
            Age::Fresh => (Outcome::Hit(Tier::Far), entry.fresh_until()),
            Age::Stale => (Outcome::Stale(Tier::Far), until),
            Age::Expired | Age::Dead => return None,
        };
        Some(Serving { served: Fetched::new(entry.clone(), outcome), until, changes_at })
    }

    /// When to look again for something to serve: before the provisional answer ends, so that no caller waits
    /// for the look, and when the answer is worth less.
    pub(super) fn look_again_in(&self, until: Moment, changes_at: Moment) -> Duration {
        let now = self.now();
        let in_time = self.provisional_until(until).since(now) / 8 * 7;
        match changes_at.since(now) {
            left if left.is_zero() => in_time,
            left => in_time.min(left),
        }
    }

    /// Whether `name` may be refreshed now, with the permit of its batch if that has one.
    pub(super) fn refresh_permit(
        &self,
        name: &str,
        of_batch: &mut Option<RefreshPermit>,
    ) -> Option<RefreshPermit> {
        if self.tasks.closing() || self.is_backing_off(name) {
            return None;
        }
        if of_batch.is_none() {
            *of_batch = self.refreshes.clone().try_acquire_owned().ok().map(Arc::new);
        }
        of_batch.clone()
    }
}

/// How far apart the clocks of two processes may seem.
const CLOCKS_DIFFER: Duration = Duration::from_millis(25);
