use std::{error, fmt, sync::Arc, time::Duration};

use crate::{Fault, Version};

/// Why there is no answer. Cheap to clone: callers that waited for one failed load share its error.
///
/// Its message ends with that of the loader's own error, or of the far tier's fault, which is its source, too. Logs
/// of this crate say only [`as_str`](Self::as_str): what a loader puts into its errors is not for them.
///
/// For an HTTP handler the feature `http` makes a response of it that strangers may read (`to_response`), and the
/// feature `axum` implements `IntoResponse`.
///
/// The loader's own error is inside [`Origin`](Self::Origin) and can be downcast:
///
/// ```
/// use cattleguard::Error;
///
/// fn not_reachable(error: &Error) -> bool {
///     matches!(error, Error::Origin(e) if e.is::<std::io::Error>())
/// }
/// ```
#[non_exhaustive]
#[derive(Clone, Debug)]
pub enum Error {
    /// The load failed with this error.
    Origin(Arc<dyn error::Error + Send + Sync>),
    /// The load, with its retries, took longer than the policy's load timeout, and was aborted.
    LoadTimeout {
        /// The load timeout.
        after: Duration,
    },
    /// The load panicked. The message of the panic stays in the panic hook's output.
    LoadPanicked,
    /// Every load until the load timeout returned a value older than an acknowledged write or
    /// invalidation. The origin probably reads from a lagging replica: read from the primary, or
    /// lengthen the load timeout beyond the lag.
    Outdated {
        /// The version that the origin gave last.
        loaded: Version,
        /// The version on record.
        minimum: Version,
    },
    /// The load failed in another process a moment ago and is not tried again yet: all processes share the
    /// failure back-off. That process has the error.
    FailedElsewhere {
        /// The rest of the back-off when this was found out.
        retry_after: Duration,
    },
    /// This process runs and queues as many loads as the policy's bulkhead allows, or none of them has made room
    /// within the load timeout. The origin was not asked.
    Overloaded {
        /// When there may be room again, estimated.
        retry_after: Duration,
    },
    /// The caller's own deadline passed. The load continues.
    DeadlineExceeded,
    /// A loader fetched the very key that it is loading, directly or through another loader: it would have
    /// waited for itself. Detected where one chain of loads leads back to its key; two loaders that wait for
    /// flights begun by each other, and one that waits for a task that it has spawned, wait until the load timeout.
    Nested,
    /// The guard was shut down, and this key would have needed a load.
    ShutDown,
    /// Another process holds the lease and did not answer within the policy's wait timeout; or
    /// invalidations of the key have overtaken every load for as long as wait and load timeout
    /// together.
    WaitTimeout {
        /// How long was waited.
        after: Duration,
    },
    /// The task that ran the flight ended without an answer: the runtime is shutting down, or was
    /// built without its timer.
    Abandoned,
    /// An invalidation was given a negative version: nothing was done. See
    /// [`NegativeVersion`](crate::NegativeVersion).
    NegativeVersion,
    /// The far tier could not take a write or an invalidation: it is not acknowledged. Fetches do not
    /// fail this way. After an outage the guard repeats the invalidation by itself, see
    /// [`Guard::invalidate`](crate::Guard::invalidate). What was written to the origin before stands: answer its client as
    /// after any other write.
    Far(Arc<Fault>),
}

impl Error {
    /// What [`as_str`](Self::as_str) gives.
    pub(crate) const WORDS: [&'static str; 13] = [
        "error_origin",
        "error_load_timeout",
        "error_load_panicked",
        "error_outdated",
        "error_failed_elsewhere",
        "error_overloaded",
        "error_deadline_exceeded",
        "error_nested",
        "error_shut_down",
        "error_wait_timeout",
        "error_abandoned",
        "error_negative_version",
        "error_far",
    ];

    /// A short, stable word for logs and metric labels.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Origin(_) => "error_origin",
            Self::LoadTimeout { .. } => "error_load_timeout",
            Self::LoadPanicked => "error_load_panicked",
            Self::Outdated { .. } => "error_outdated",
            Self::FailedElsewhere { .. } => "error_failed_elsewhere",
            Self::Overloaded { .. } => "error_overloaded",
            Self::DeadlineExceeded => "error_deadline_exceeded",
            Self::Nested => "error_nested",
            Self::ShutDown => "error_shut_down",
            Self::WaitTimeout { .. } => "error_wait_timeout",
            Self::Abandoned => "error_abandoned",
            Self::NegativeVersion => "error_negative_version",
            Self::Far(_) => "error_far",
        }
    }

    /// When it may be worth to ask again, where that is known: for a `Retry-After`.
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::FailedElsewhere { retry_after } | Self::Overloaded { retry_after } => {
                Some(*retry_after)
            }
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Origin(cause) => write!(f, "the load failed: {cause}"),
            Self::LoadTimeout { after } => {
                write!(f, "the load took longer than the load timeout of {after:?}")
            }
            Self::LoadPanicked => f.write_str("the load panicked"),
            Self::Outdated { loaded, minimum } => write!(
                f,
                "the origin kept answering version {loaded} where {minimum} is known; \
                 does it read from a lagging replica?"
            ),
            Self::FailedElsewhere { retry_after } => write!(
                f,
                "the load failed in another process; it is tried again in {retry_after:?}"
            ),
            Self::Overloaded { retry_after } => write!(
                f,
                "too many loads are running and queued; there may be room in {retry_after:?}"
            ),
            Self::DeadlineExceeded => f.write_str("no answer before the caller's deadline"),
            Self::Nested => f.write_str("a loader fetched the key that it is loading"),
            Self::ShutDown => f.write_str("the guard was shut down and begins no more loads"),
            Self::WaitTimeout { after } => {
                write!(f, "no answer from the lease holder within the wait timeout of {after:?}")
            }
            Self::Abandoned => {
                f.write_str("the runtime ended the flight: it is shutting down, or has no timer")
            }
            Self::NegativeVersion => {
                write!(f, "nothing was invalidated: {}", crate::NegativeVersion::ADVICE)
            }
            Self::Far(fault) => write!(f, "the far tier could not take the write: {fault}"),
        }
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Origin(source) => Some(&**source),
            Self::Far(source) => Some(&**source),
            _ => None,
        }
    }
}

impl From<Fault> for Error {
    fn from(error: Fault) -> Self {
        Self::Far(Arc::new(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_has_a_word_of_its_own_and_all_are_known() {
        let origin: Arc<dyn error::Error + Send + Sync> = Arc::new(fmt::Error);
        let time = Duration::ZERO;
        let errors = [
            Error::Origin(origin),
            Error::LoadTimeout { after: time },
            Error::LoadPanicked,
            Error::Outdated { loaded: Version::ZERO, minimum: Version::ZERO },
            Error::FailedElsewhere { retry_after: time },
            Error::Overloaded { retry_after: time },
            Error::DeadlineExceeded,
            Error::Nested,
            Error::ShutDown,
            Error::WaitTimeout { after: time },
            Error::Abandoned,
            Error::NegativeVersion,
            Fault::from(crate::FaultKind::Timeout).into(),
        ];
        assert_eq!(errors.map(|error| error.as_str()), Error::WORDS);
        let words: std::collections::HashSet<_> = Error::WORDS.into_iter().collect();
        assert_eq!(words.len(), Error::WORDS.len());
    }
}
