//! Hit-for-pass: a name whose last load may not be kept is loaded by each caller for itself, behind the bulkhead.
//! In turn under the lease they would wait for each other's loads, in the whole fleet, for nothing.
//!
//! - One caller in a while loads under the lease as any other: what it finds may be cacheable by now.
//! - An invalidation or a put ends it, so that the next load is judged by the version on record.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use parking_lot::Mutex;
use quick_cache::sync::Cache;

use crate::{Moment, Version};

/// The names of this process that are passed. Bounded: an evicted one costs a load under the lease.
#[derive(Default)]
pub(super) struct Passes {
    /// Made with the first: most guards have none, and it takes its room at once.
    by_name: OnceLock<Cache<Arc<str>, Arc<Pass>>>,
}

struct Pass {
    /// The version on record when the lease was granted.
    minimum: Version,
    /// When the next caller loads under the lease. Changed in place: an invalidation that ended this pass must
    /// not be undone.
    probe_at: Mutex<Moment>,
}

impl Passes {
    /// The version below which a load of this caller is outdated; `None` if it does not pass.
    pub(super) fn minimum(&self, name: &str, now: impl Fn() -> Moment) -> Option<Version> {
        let by_name = self.by_name.get()?;
        let pass = by_name.get(name)?;
        let now = now();
        let mut probe_at = pass.probe_at.lock();
        if now < *probe_at {
            return Some(pass.minimum);
        }
        // This caller probes.
        *probe_at = now.after(PROBE_EVERY);
        None
    }

    /// Callers hold the name's lock in `Flights`, so that an invalidation comes before, and closes the flight, or
    /// after, and ends the pass.
    pub(super) fn begin(&self, name: &Arc<str>, minimum: Version, now: Moment) {
        let pass = Pass { minimum, probe_at: Mutex::new(now.after(PROBE_EVERY)) };
        self.by_name.get_or_init(|| Cache::new(CAPACITY)).insert(name.clone(), Arc::new(pass));
    }

    pub(super) fn end(&self, name: &str) {
        if let Some(by_name) = self.by_name.get() {
            by_name.remove(name);
        }
    }

    pub(super) fn clear(&self) {
        if let Some(by_name) = self.by_name.get() {
            by_name.clear();
        }
    }
}

const CAPACITY: usize = 10_000;
const PROBE_EVERY: Duration = Duration::from_secs(1);
