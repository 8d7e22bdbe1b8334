//! Failure pauses: a key whose load has failed is left alone for a while, and everybody who asks
//! meanwhile shares what is known, a stale entry or the error.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use quick_cache::sync::Cache;

use crate::{Entry, Error, Moment};

/// The failed keys of this process. Bounded: of the oldest it forgets that they failed, which costs one more
/// load each.
pub(super) struct Pauses<V> {
    /// Made with the first failure: most guards have none, and it takes its room at once.
    of: OnceLock<Cache<Arc<str>, Begun<V>>>,
}

/// What is known of a key whose load has failed.
pub(super) struct Pause<V> {
    /// Nobody loads before.
    until: Moment,
    /// Loads that have failed in a row.
    failures: u32,
    error: Error,
    /// What the far tier had when the load failed.
    stale: Option<Arc<Entry<V>>>,
    /// After this a failure is the first again.
    remembered_until: Moment,
}

/// A pause that has begun.
struct Begun<V> {
    pause: Arc<Pause<V>>,
    /// How long what is stale may be served without another look: as long as a near entry, because
    /// messages may stop.
    serve_until: Moment,
}

impl<V> Clone for Begun<V> {
    fn clone(&self) -> Self {
        Self { pause: self.pause.clone(), serve_until: self.serve_until }
    }
}

impl<V> Pause<V> {
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

    /// The error for those who ask at `now`.
    pub(super) fn error(&self, now: Moment) -> Error {
        match &self.error {
            Error::FailedElsewhere { .. } => {
                Error::FailedElsewhere { retry_after: self.until.since(now) }
            }
            error => error.clone(),
        }
    }
}

/// What a pause has for those who ask.
pub(super) enum Known<V> {
    Stale(Arc<Entry<V>>),
    /// There was something stale; whether there is still, the far tier knows.
    Unsure,
    Error(Error),
}

impl<V> Pauses<V> {
    pub(super) fn new() -> Self {
        Self { of: OnceLock::new() }
    }

    /// The pause of `name`, unless it is over.
    pub(super) fn now(&self, name: &str, now: impl Fn() -> Moment) -> Option<Arc<Pause<V>>> {
        let begun = self.of.get()?.get(name)?;
        (now() < begun.pause.until).then_some(begun.pause)
    }

    /// What is known of `name` while it is left alone.
    pub(super) fn known(&self, name: &str, now: impl Fn() -> Moment) -> Option<Known<V>> {
        let Begun { pause, serve_until } = self.of.get()?.get(name)?;
        let now = now();
        if now >= pause.until {
            return None;
        }
        Some(match &pause.stale {
            Some(stale) if now < serve_until => Known::Stale(stale.clone()),
            Some(_) => Known::Unsure,
            None => Known::Error(pause.error(now)),
        })
    }

    /// How many loads of `name` have failed in a row.
    pub(super) fn failures(&self, name: &str, now: Moment) -> u32 {
        let begun = self.of.get().and_then(|of| of.get(name));
        let pause = begun.map(|begun| begun.pause).filter(|pause| now < pause.remembered_until);
        pause.map_or(0, |pause| pause.failures)
    }

    /// Callers hold the name's lock in `Flights`, so that an invalidation comes before, and nothing is
    /// kept, or after, and ends the pause.
    pub(super) fn begin(&self, name: &Arc<str>, pause: Arc<Pause<V>>, serve_until: Moment) {
        let begun = Begun { pause, serve_until };
        self.of.get_or_init(|| Cache::new(CAPACITY)).insert(name.clone(), begun);
    }

    /// Ends the pause and forgets the failures.
    #[must_use = "dropped by the caller, without the name's lock"]
    pub(super) fn end(&self, name: &str) -> Option<Arc<Pause<V>>> {
        self.of.get()?.remove(name).map(|(_, begun)| begun.pause)
    }

    pub(super) fn clear(&self) {
        if let Some(of) = self.of.get() {
            of.clear();
        }
    }
}

const CAPACITY: usize = 10_000;
/// How much longer than its pause a failure is remembered, at least: as [`Far::fail`](crate::far::Far::fail) has it.
const REMEMBERED: Duration = Duration::from_secs(1);
