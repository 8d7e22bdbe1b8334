use std::{error, fmt, sync::Arc, time::Duration};

use crate::{Version, far};

/// Why there is no answer. Cheap to clone: one failed load is shared by everyone who waited for it.
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
    /// Another process holds the lease and did not answer within the policy's wait timeout.
    WaitTimeout {
        /// The wait timeout.
        after: Duration,
    },
    /// The task that ran the flight ended without an answer: the runtime is shutting down, or was
    /// built without its timer.
    Abandoned,
    /// The far tier could not take a write or an invalidation. Fetches do not fail this way.
    Far(Arc<far::Error>),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Origin(_) => f.write_str("the load failed"),
            Self::LoadTimeout { after } => {
                write!(f, "the load took longer than the load timeout of {after:?}")
            }
            Self::LoadPanicked => f.write_str("the load panicked"),
            Self::Outdated { loaded, minimum } => write!(
                f,
                "the origin kept answering version {loaded} where {minimum} is known; \
                 does it read from a lagging replica?"
            ),
            Self::WaitTimeout { after } => {
                write!(f, "no answer from the lease holder within the wait timeout of {after:?}")
            }
            Self::Abandoned => {
                f.write_str("the runtime ended the flight: it is shutting down, or has no timer")
            }
            Self::Far(_) => f.write_str("the far tier could not take the write"),
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

impl From<far::Error> for Error {
    fn from(error: far::Error) -> Self {
        Self::Far(Arc::new(error))
    }
}
