//! How long entries may be kept and served.

use std::{sync::atomic::Ordering, time::Duration};

use super::Core;
use crate::{Entry, policy::StaleFor};

impl<V: Send + Sync + 'static> Core<V> {
    /// How long the near tier may keep an entry. Asked under the name's lock: see
    /// `Event::Disconnected` in the watcher.
    pub(super) fn near_ttl(&self) -> Duration {
        if self.connected.load(Ordering::Acquire) {
            self.policy.near_ttl
        } else {
            self.policy.near_ttl.min(self.policy.near_outage_ttl)
        }
    }

    /// How long something stale may be given to one caller after the other without another look. Not
    /// nothing when the near tier is off, or every caller would wait for a refresh.
    pub(super) fn meanwhile_ttl(&self) -> Duration {
        self.near_ttl().max(self.policy.near_outage_ttl)
    }

    /// How long `entry` may be served stale while it is refreshed.
    pub(super) fn grace(&self, entry: &Entry<V>) -> Duration {
        self.stale_for(entry).grace.unwrap_or(self.policy.grace)
    }

    /// How long `entry` may be served after its end if nothing better is to be had.
    pub(super) fn last_resort(&self, entry: &Entry<V>) -> Duration {
        let stale = self.stale_for(entry);
        let if_error = stale.if_error.unwrap_or(self.policy.stale_if_error);
        stale.grace.unwrap_or(self.policy.grace).saturating_add(if_error)
    }

    fn stale_for(&self, entry: &Entry<V>) -> StaleFor {
        self.stale_for.map_or_else(StaleFor::default, |of| of(entry.value()))
    }
}
