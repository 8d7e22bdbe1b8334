//! Failure back-off: a name whose load has failed is not loaded again for a while, and everyone who asks
//! meanwhile shares what is known, a stale entry or the error.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use quick_cache::sync::Cache;

use crate::{Entry, Error, Moment};

/// The names of this process whose load has failed. Bounded: of the oldest it forgets that they failed, which
/// costs one more load each.
pub(super) struct FailureBackoffs<V> {
    /// Made with the first failure: most guards have none, and it takes its room at once.
    by_name: OnceLock<Cache<Arc<str>, Begun<V>>>,
}

/// What is known of a name whose load has failed.
pub(super) struct FailureBackoff<V> {
    /// No load before.
    until: Moment,
    /// Loads that have failed in a row.
    failures: u32,
    error: Error,
    /// What the far tier had when the load failed.
    stale: Option<Arc<Entry<V>>>,
    /// After this a failure is the first again.
    remembered_until: Moment,
}

/// A back-off that has begun.
struct Begun<V> {
    backoff: Arc<FailureBackoff<V>>,
    /// How long what is stale may be served without another look: as long as a near entry, because
    /// messages may stop.
    serve_until: Moment,
}

impl<V> Clone for Begun<V> {
    fn clone(&self) -> Self {
        Self { backoff: self.backoff.clone(), serve_until: self.serve_until }
    }
}

impl<V> FailureBackoff<V> {
    pub(super) fn new(
        now: Moment,
        pause: Duration,
        failures: u32,
        error: Error,
        stale: Option<Arc<Entry<V>>>,
    ) -> Arc<Self> {
        let until = now.after(pause);
        let remembered_until = until.after(pause).after(REMEMBERED);
        Arc::new(Self { until, failures, error, stale, remembered_until })
    }

    /// The error for callers that ask at `now`.
    pub(super) fn error(&self, now: Moment) -> Error {
        match &self.error {
            Error::FailedElsewhere { .. } => {
                Error::FailedElsewhere { retry_after: self.until.since(now) }
            }
            error => error.clone(),
        }
    }
}

/// Back-offs that are out of use, with the user's values in them.
#[expect(dead_code, reason = "to be dropped without the name's lock")]
pub(super) struct Ended<V> {
    ended: Option<Arc<FailureBackoff<V>>>,
    evicted: [Option<(Arc<str>, Begun<V>)>; 2],
}

impl<V> From<Option<Arc<FailureBackoff<V>>>> for Ended<V> {
    fn from(ended: Option<Arc<FailureBackoff<V>>>) -> Self {
        Self { ended, evicted: [None, None] }
    }
}

/// What a back-off has for callers.
pub(super) enum DuringBackoff<V> {
    Stale(Arc<Entry<V>>),
    /// There was something stale; whether there is still, the far tier knows.
    AskFar,
    Error(Error),
}

impl<V> FailureBackoffs<V> {
    pub(super) fn new() -> Self {
        Self { by_name: OnceLock::new() }
    }

    /// The back-off of `name`, unless it is over.
    pub(super) fn current(
        &self,
        name: &str,
        now: impl Fn() -> Moment,
    ) -> Option<Arc<FailureBackoff<V>>> {
        let begun = self.by_name.get()?.get(name)?;
        (now() < begun.backoff.until).then_some(begun.backoff)
    }

    /// What callers of `name` get while it backs off.
    pub(super) fn answer(&self, name: &str, now: impl Fn() -> Moment) -> Option<DuringBackoff<V>> {
        let Begun { backoff, serve_until } = self.by_name.get()?.get(name)?;
        let now = now();
        if now >= backoff.until {
            return None;
        }
        Some(match &backoff.stale {
            Some(stale) if now < serve_until => DuringBackoff::Stale(stale.clone()),
            Some(_) => DuringBackoff::AskFar,
            None => DuringBackoff::Error(backoff.error(now)),
        })
    }

    /// How many loads of `name` have failed in a row.
    pub(super) fn failures(&self, name: &str, now: Moment) -> u32 {
        let begun = self.by_name.get().and_then(|by_name| by_name.get(name));
        let backoff = begun.map(|begun| begun.backoff);
        backoff.filter(|backoff| now < backoff.remembered_until).map_or(0, |known| known.failures)
    }

    /// Callers hold the name's lock in `Flights`, so that an invalidation comes before, and nothing is
    /// kept, or after, and ends the back-off.
    #[must_use = "dropped by the caller, without the name's lock"]
    pub(super) fn begin(
        &self,
        name: &Arc<str>,
        backoff: Arc<FailureBackoff<V>>,
        serve_until: Moment,
    ) -> Ended<V> {
        let mut ended = Ended { ended: self.end(name), evicted: [None, None] };
        let begun = Begun { backoff, serve_until };
        let by_name = self.by_name.get_or_init(|| Cache::new(CAPACITY));
        by_name.insert_with_lifecycle(name.clone(), begun, &mut ended.evicted);
        ended
    }

    /// Ends the back-off and forgets the failures.
    #[must_use = "dropped by the caller, without the name's lock"]
    pub(super) fn end(&self, name: &str) -> Option<Arc<FailureBackoff<V>>> {
        self.by_name.get()?.remove(name).map(|(_, begun)| begun.backoff)
    }

    /// Forgets all. Not the map's own `clear`: that drops the user's values under a lock.
    pub(super) fn clear(&self) {
        if let Some(by_name) = self.by_name.get() {
            by_name.drain().for_each(drop);
        }
    }
}

const CAPACITY: usize = 10_000;
/// How much longer than its back-off a failure is remembered, at least: as [`Far::fail`](crate::far::Far::fail)
/// has it.
const REMEMBERED: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::{fmt, sync::mpsc};

    use super::*;
    use crate::Clock;

    /// An error that asks for its own key when it is dropped.
    struct Curious(Arc<FailureBackoffs<()>>, mpsc::Sender<u32>);

    impl Drop for Curious {
        fn drop(&mut self) {
            let _ = self.1.send(self.0.failures("k", Moment::FAR_FUTURE));
        }
    }

    impl fmt::Debug for Curious {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Curious")
        }
    }

    impl fmt::Display for Curious {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("curious")
        }
    }

    impl std::error::Error for Curious {}

    #[test]
    fn what_is_forgotten_is_dropped_without_a_lock() {
        let (asked, answer) = mpsc::channel();
        // A deadlock blocks its thread: this one tells.
        std::thread::spawn(move || {
            let failures = Arc::new(FailureBackoffs::new());
            let error = Error::Origin(Arc::new(Curious(failures.clone(), asked)));
            let now = Clock::system().now();
            let backoff = FailureBackoff::new(now, REMEMBERED, 1, error, None);
            drop(failures.begin(&"k".into(), backoff, now));
            failures.clear();
        });
        assert_eq!(answer.recv_timeout(Duration::from_secs(60)), Ok(0));
    }
}
