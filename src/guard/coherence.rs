//! How a near entry comes and goes, and for how long it may stay.
//!
//! - It comes with a flight or a solo reader that is still open, under the name's lock.
//! - It goes with its ttl, with a newer version, with an invalidation or put in this process, with a message
//!   about one in another, and with the connection that the messages come over.
//!
//! Order is what makes this right: an invalidation closes the name and drops the near entry in one step under
//! the name's lock. A fill that comes before it is dropped, and one that would come after finds itself closed.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use super::{
    answer::{Keep, NearTtl, Resolution},
    core::Core,
    failure_backoff::Ended,
    tags::is_epoch,
};
use crate::{
    Entry, Moment, Version,
    far::{Event, Watcher},
    near::Evicted,
};

/// Values that are out of use, to be dropped without the name's lock.
pub(super) type Dropped<V> = (Option<Arc<Entry<V>>>, Option<Ended<V>>, Option<Evicted<V>>);

impl<V: Send + Sync + 'static> Core<V> {
    /// What this process keeps of a flight that was still open. Called under the name's lock.
    #[must_use = "dropped by the caller, without the name's lock"]
    fn keep(&self, name: &Arc<str>, keep: Keep<V>, floor: Version, age: Duration) -> Dropped<V> {
        match keep {
            Keep::Nothing => (None, None, None),
            Keep::Entry(entry, ttl) => {
                self.passes.end(name);
                (
                    None,
                    Some(self.failures.end(name).into()),
                    self.insert_near(name, &entry, floor, ttl, age),
                )
            }
            Keep::Pass(minimum) => {
                self.passes.begin(name, minimum.max(floor), self.now());
                (None, None, None)
            }
            // Another caller has written meanwhile: that is what counts.
            Keep::Failure(_) if floor > Version::ZERO => (None, None, None),
            Keep::Failure(backoff) => {
                self.passes.end(name);
                let serve_until = self.now().after(self.provisional_ttl());
                (None, Some(self.failures.begin(name, backoff, serve_until)), None)
            }
        }
    }

    /// Inserts an entry, unless a newer version was heard of. `age` is how long ago it may have been read: without
    /// messages nothing tells what has been invalidated since. Called under the name's lock.
    #[must_use = "dropped by the caller, without the name's lock"]
    pub(super) fn insert_near(
        &self,
        name: &Arc<str>,
        entry: &Arc<Entry<V>>,
        floor: Version,
        ttl: NearTtl,
        age: Duration,
    ) -> Option<Evicted<V>> {
        let outage_ttl = self.policy.near_outage_ttl.saturating_sub(age);
        let ttl = match ttl {
            NearTtl::Shared if self.is_connected() => self.near_ttl(),
            NearTtl::Shared | NearTtl::Outage => self.near_ttl().min(outage_ttl),
        };
        (entry.version() >= floor).then(|| self.near.insert(name, entry, ttl, &self.freshness))
    }

    /// How long the near tier may keep an entry. Asked under the name's lock: see
    /// `Event::Disconnected` in the watcher.
    pub(super) fn near_ttl(&self) -> Duration {
        if self.is_connected() {
            self.policy.near_ttl
        } else {
            self.policy.near_ttl.min(self.policy.near_outage_ttl)
        }
    }

    /// How long something stale may be given to one caller after the other without another look. Not
    /// zero when the near tier is off, or every caller would wait for a refresh. Asked under the name's lock, as
    /// `near_ttl`.
    pub(super) fn provisional_ttl(&self) -> Duration {
        self.near_ttl().max(self.policy.near_outage_ttl)
    }

    /// Until when what is valid until then may be given to callers.
    pub(super) fn provisional_until(&self, valid_until: Moment) -> Moment {
        valid_until.min(self.now().after(self.provisional_ttl()))
    }

    /// Completes a flight: this process keeps what it may, then callers wake.
    pub(super) fn complete(
        &self,
        completer: crate::flight::Completer<super::answer::Answer<V>>,
        resolution: Resolution<V>,
    ) {
        let name = completer.name().clone();
        let age = completer.age();
        let Resolution { completion, keep } = resolution;
        completer.complete(completion, |floor| self.keep(&name, keep, floor, age));
    }

    /// Closes the flight of `name`, and drops the near entry below `version`, or any without one.
    pub(super) fn forget_below(&self, name: &str, version: Option<Version>) {
        let outdated = |near| version.is_none_or(|version| near < version);
        self.flights.close(name, version, || self.drop_if(name, outdated));
    }

    /// Closes the flight of `name`, and drops the near entry of `version` or below.
    pub(super) fn forget_through(&self, name: &str, version: Version) {
        self.flights.close(name, Some(version), || self.drop_if(name, |near| near <= version));
    }

    /// Drops what this process keeps of `name`, because of a write. Called under the name's lock.
    fn drop_if(&self, name: &str, outdated: impl Fn(Version) -> bool) -> Dropped<V> {
        self.passes.end(name);
        (self.near.remove_if(name, outdated), Some(self.failures.end(name).into()), None)
    }

    fn clear(&self) {
        self.near.clear();
        self.failures.clear();
        self.passes.clear();
    }
}

/// Messages from the far tier, this process's own among them: what those repeat has been done already
/// and does no harm twice.
impl<V: Send + Sync + 'static> Watcher for Core<V> {
    fn on_event(&self, event: Event<'_>) {
        match event {
            Event::Put { name, .. } | Event::Invalidated { name, .. } if is_epoch(name) => {
                self.heard_of_epoch(event);
            }
            Event::Committed { name, version } => {
                let _notified = self.wakeups.notify_on_drop(name);
                let outdated = |near: Version| near < version;
                self.flights.raise(name, version, || self.drop_if(name, outdated));
            }
            Event::Put { name, version } => {
                let _notified = self.wakeups.notify_on_drop(name);
                self.forget_through(name, version);
            }
            Event::Invalidated { name, version } => {
                let _notified = self.wakeups.notify_on_drop(name);
                self.forget_below(name, version);
            }
            Event::Released { name } => self.wakeups.notify(name),
            Event::Disconnected => self.on_disconnected(),
            Event::Connected => self.on_connected(),
        }
    }
}

impl<V: Send + Sync + 'static> Core<V> {
    fn on_disconnected(&self) {
        tracing::debug!(guard = self.observer.guard(), "far tier messages stopped");
        self.connected.store(false, Ordering::Release);
        // A fill that saw the flag up has ended before the clearing, and later ones are for
        // a short life. Flights go on: closing them would cost a second load each, in the
        // very moment in which the origin is all there is. But none serves on what is stale.
        self.flights.close_provisional();
        self.epochs.forget(None);
        self.clear();
        self.wakeups.notify_all();
    }

    fn on_connected(&self) {
        // A flight that read before this moment may have missed a message: it must not
        // fill the near tier for long. Cleared before, so that no flight begins from an
        // old near entry, and after, for what was filled meanwhile.
        self.clear();
        self.epochs.forget(None);
        self.flights.close_all();
        self.clear();
        self.connected.store(true, Ordering::Release);
        self.wakeups.notify_all();
    }
}
