use std::fmt;

use crate::Version;

/// How a request was answered.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Outcome {
    /// A fresh entry of this tier.
    Hit(Tier),
    /// An entry within grace, while one flight refreshes it.
    Stale(Tier),
    /// An expired entry, for this reason.
    StaleIfError(StaleReason),
    /// This caller's miss made the load.
    Loaded,
    /// Shared the flight that another caller of this process started.
    Followed,
    /// Waited for the load of another process.
    Awaited,
    /// Answered without the guard's full protection.
    Bypassed(Bypass),
}

/// Where an entry was found.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Tier {
    /// In this process.
    Near,
    /// In the store that processes share.
    Far,
}

/// Why a stale entry was the best answer.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum StaleReason {
    /// The load failed, or the key backs off after a failure.
    Failed,
    /// The load takes longer than the soft timeout; it continues.
    Slow,
    /// As many loads as the bulkhead allows are running and queued.
    Overloaded,
}

/// Why a request was answered without the guard's full protection.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Bypass {
    /// The request has no key: it went straight to the origin.
    NoKey,
    /// What was loaded last for this key may not be kept: each caller loads for itself for a while.
    Uncacheable,
    /// The far tier did not answer: one load per process instead of one in the fleet.
    FarUnavailable,
    /// The far tier refused, and goes on refusing until it is set up otherwise (permissions, memory, a value that
    /// is too big): one load per process, and nothing stored.
    FarRefused,
}

/// What became of a [`put`](crate::Guard::put).
#[must_use = "an older value was not stored"]
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Write {
    /// Stored in the far tier; the next fetch brings it near.
    Stored,
    /// Refused: a newer version is on record.
    Older {
        /// The version on record.
        minimum: Version,
    },
}

impl Outcome {
    /// Each that there is: a metric has a series for it from the start.
    pub(crate) const ALL: [Self; 14] = [
        Self::Hit(Tier::Near),
        Self::Hit(Tier::Far),
        Self::Stale(Tier::Near),
        Self::Stale(Tier::Far),
        Self::StaleIfError(StaleReason::Failed),
        Self::StaleIfError(StaleReason::Slow),
        Self::StaleIfError(StaleReason::Overloaded),
        Self::Loaded,
        Self::Followed,
        Self::Awaited,
        Self::Bypassed(Bypass::NoKey),
        Self::Bypassed(Bypass::Uncacheable),
        Self::Bypassed(Bypass::FarUnavailable),
        Self::Bypassed(Bypass::FarRefused),
    ];

    /// A short, stable word for logs and metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hit(Tier::Near) => "hit_near",
            Self::Hit(Tier::Far) => "hit_far",
            Self::Stale(Tier::Near) => "stale_near",
            Self::Stale(Tier::Far) => "stale_far",
            Self::StaleIfError(StaleReason::Failed) => "stale_if_failed",
            Self::StaleIfError(StaleReason::Slow) => "stale_if_slow",
            Self::StaleIfError(StaleReason::Overloaded) => "stale_if_overloaded",
            Self::Loaded => "loaded",
            Self::Followed => "followed",
            Self::Awaited => "awaited",
            Self::Bypassed(Bypass::NoKey) => "bypassed_no_key",
            Self::Bypassed(Bypass::Uncacheable) => "bypassed_uncacheable",
            Self::Bypassed(Bypass::FarUnavailable) => "bypassed_far_unavailable",
            Self::Bypassed(Bypass::FarRefused) => "bypassed_far_refused",
        }
    }

    /// A follower's outcome, where this is the leader's.
    pub(crate) fn followed(self) -> Self {
        match self {
            Self::Stale(_) | Self::StaleIfError(_) | Self::Bypassed(_) => self,
            _ => Self::Followed,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_outcome_has_a_word_of_its_own() {
        let words: HashSet<_> = Outcome::ALL.into_iter().map(Outcome::as_str).collect();
        assert_eq!(words.len(), Outcome::ALL.len());
    }
}
