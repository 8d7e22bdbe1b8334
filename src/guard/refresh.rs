//! What is served while it is refreshed.

use std::{sync::Arc, time::Duration};

use tokio::sync::OwnedSemaphorePermit;

use super::{
    Core,
    fetch::{Answer, abandoned},
    fly::Route,
    loader::Loader,
};
use crate::{Entry, Fetched, Moment, Outcome, Tier, entry::Age, flight::Meanwhile};

/// A refresh of something that is served meanwhile.
#[derive(Clone, Copy)]
pub(super) struct Refresh {
    /// How long it may be served.
    pub(super) until: Moment,
    /// Another entry is a new one if it is fresh for longer than this.
    pub(super) fresh_for: Duration,
}

/// For one refresh, or for the refreshes of one batch, which are one load.
pub(super) type RefreshPermit = Arc<OwnedSemaphorePermit>;

impl<V: Send + Sync + 'static> Core<V> {
    /// Starts a flight to refresh a near entry, unless one is open or has failed a moment ago.
    pub(super) fn refresh_near(
        self: &Arc<Self>,
        name: &Arc<str>,
        served: &Fetched<V>,
        refresh: Refresh,
        mut load: impl Loader<V>,
    ) {
        let Some(permit) = self.refresh_permit(name, &mut None) else { return };
        let valid = || self.near.holds(name, served.entry());
        let meanwhile = || self.meanwhile(served, refresh.until);
        if let Some(ticket) = self.flights.refresh(name, meanwhile, abandoned, valid) {
            load.previous(served.entry());
            self.clone().take_off(ticket, load, Route::Refresh(permit, refresh));
        }
    }

    /// A fresh entry that this request is to refresh.
    pub(super) fn early(&self, entry: Arc<Entry<V>>, tier: Tier) -> (Fetched<V>, Refresh) {
        let until = entry.fresh_until();
        // Only what is fresh for longer is newer. Not every process sees the same clock.
        let fresh_for = until.since(self.now()) + CLOCKS_DIFFER;
        (Fetched::new(entry, Outcome::Hit(tier)), Refresh { until, fresh_for })
    }

    pub(super) fn stale(&self, entry: Arc<Entry<V>>, tier: Tier) -> (Fetched<V>, Refresh) {
        let until = entry.fresh_until().after(self.grace(&entry));
        (Fetched::new(entry, Outcome::Stale(tier)), Refresh { until, fresh_for: Duration::ZERO })
    }

    /// What those get who come while it is refreshed: not for long, because messages may stop.
    /// Asked under the name's lock, as `near_ttl`.
    pub(super) fn meanwhile(&self, served: &Fetched<V>, until: Moment) -> Meanwhile<Answer<V>> {
        let until = until.min(self.now().after(self.meanwhile_ttl()));
        Meanwhile { answer: Ok(served.clone()), until }
    }

    /// What a far entry is worth while its refresh is in the air, and until when.
    pub(super) fn served(&self, entry: &Arc<Entry<V>>) -> Option<(Fetched<V>, Moment)> {
        let (outcome, until) = match entry.age(self.now(), self.grace(entry)) {
            Age::Fresh => (Outcome::Hit(Tier::Far), entry.fresh_until()),
            Age::Stale => (Outcome::Stale(Tier::Far), entry.fresh_until().after(self.grace(entry))),
            Age::Dead => return None,
        };
        Some((Fetched::new(entry.clone(), outcome), until))
    }

    /// Whether `name` may be refreshed now, with the permit of its batch if that has one.
    pub(super) fn refresh_permit(
        &self,
        name: &str,
        of_batch: &mut Option<RefreshPermit>,
    ) -> Option<RefreshPermit> {
        if self.tasks.closing() || self.pauses.now(name, || self.now()).is_some() {
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
