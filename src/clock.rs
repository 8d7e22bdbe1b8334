use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Where the guard and the in-process tiers read the time from. It only moves the moments at which
/// entries turn stale; which value is newer is never judged by a clock.
#[derive(Clone)]
pub struct Clock(Source);

#[derive(Clone)]
enum Source {
    System(coarsetime::Instant),
    Tokio(tokio::time::Instant),
    Manual(Arc<AtomicU64>),
}

impl Clock {
    /// The operating system's coarse monotonic clock: steps of a few milliseconds, a few
    /// nanoseconds to read. The default.
    pub fn system() -> Self {
        Self(Source::System(coarsetime::Instant::now_without_cache_update()))
    }

    /// tokio's clock, which `tokio::time::pause` and `advance` move. For tests in which timers
    /// and entries age together.
    pub fn tokio() -> Self {
        Self(Source::Tokio(tokio::time::Instant::now()))
    }

    /// A clock that stands still until [`advance`](Self::advance); clones share its time. For
    /// tests on a runtime that cannot be paused.
    pub fn manual() -> Self {
        Self(Source::Manual(Arc::default()))
    }

    /// Moves a [`manual`](Self::manual) clock. Has no effect on the others.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(now) = &self.0 {
            now.fetch_add(nanos(by), Ordering::Relaxed);
        }
    }

    /// The time now.
    pub fn now(&self) -> Moment {
        let since_made = match &self.0 {
            Source::System(origin) => {
                coarsetime::Instant::now_without_cache_update().duration_since(*origin).as_nanos()
            }
            Source::Tokio(origin) => nanos(origin.elapsed()),
            Source::Manual(now) => now.load(Ordering::Relaxed),
        };
        Moment(BEGINNING.saturating_add(since_made))
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = match self.0 {
            Source::System(_) => "system",
            Source::Tokio(_) => "tokio",
            Source::Manual(_) => "manual",
        };
        write!(f, "Clock({source}, {:?})", self.now())
    }
}

/// What a clock shows when it is made. An entry that another process wrote may have turned stale long
/// before this clock began, and that moment must be a moment too.
const BEGINNING: u64 = 100 * 365 * 24 * 3600 * 1_000_000_000;

/// A moment of one [`Clock`]. Moments of different
/// clocks cannot be compared.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Moment(u64);

impl Moment {
    /// Later than any moment a clock tells.
    pub const FAR_FUTURE: Self = Self(u64::MAX);

    /// This moment moved into the future.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(nanos(wait)))
    }

    /// This moment moved into the past, at most by a century.
    #[must_use]
    pub fn before(self, wait: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(wait)))
    }

    /// How long from `earlier` to this moment; zero if it is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    #[cfg(feature = "redis")]
    pub(crate) const fn nanos(self) -> u64 {
        self.0
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
