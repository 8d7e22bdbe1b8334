use std::{error, fmt, sync::Arc};

/// Why a far tier or a lock could not do what it was asked. Shows no keys, names or values.
///
/// The one error that all systems return. Cheap to clone: callers who waited for one call share it.
#[derive(Clone, Debug)]
pub struct Fault {
    kind: FaultKind,
    text: Option<&'static str>,
    source: Option<Arc<dyn error::Error + Send + Sync>>,
}

/// The kinds of [`Fault`].
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultKind {
    /// The address, the options, the ttl or the name cannot be used.
    Config,
    /// No connection, or it broke, or the server cannot serve now: it loads its data, lost its primary,
    /// has become a replica.
    Unreachable,
    /// No answer in time, and none to others either. The call may have been carried out.
    Timeout,
    /// The system is there, but this call found no room, had no answer in time while others had theirs, or
    /// is refused for now (Redis: `NOREPLICAS`, `BUSY`, `MISCONF`, …). It may have been carried out; try again.
    Busy,
    /// The system refused: no permission, read-only, out of memory, …
    Refused,
    /// A value could not be encoded, or a stored one not decoded.
    Codec,
    /// Others held the lock until the deadline.
    Held,
    /// The lease is no longer this holder's.
    Lost,
}

impl FaultKind {
    /// The kinds that a far tier returns.
    pub(crate) const OF_FAR: [Self; 6] =
        [Self::Config, Self::Unreachable, Self::Timeout, Self::Busy, Self::Refused, Self::Codec];

    /// A short, stable word for logs and metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::Busy => "busy",
            Self::Refused => "refused",
            Self::Codec => "codec",
            Self::Held => "held",
            Self::Lost => "lost",
        }
    }

    /// Whether it says that the system is away, rather than that it will not do this.
    pub(crate) const fn is_outage(self) -> bool {
        matches!(self, Self::Unreachable | Self::Timeout)
    }

    /// Whether the same call may go through later.
    pub(crate) const fn may_pass(self) -> bool {
        self.is_outage() || matches!(self, Self::Busy)
    }
}

impl Fault {
    #[cfg(feature = "redis")]
    pub(crate) const fn text(&self) -> Option<&'static str> {
        self.text
    }

    /// A fault of this kind with its cause, whose text must show no names and no values.
    pub fn new(kind: FaultKind, source: impl Into<Box<dyn error::Error + Send + Sync>>) -> Self {
        Self { kind, text: None, source: Some(Arc::from(source.into())) }
    }

    /// A fault of this kind that says what to look for.
    pub const fn saying(kind: FaultKind, text: &'static str) -> Self {
        Self { kind, text: Some(text), source: None }
    }

    /// What kind of fault this is.
    pub const fn kind(&self) -> FaultKind {
        self.kind
    }
}

impl From<FaultKind> for Fault {
    fn from(kind: FaultKind) -> Self {
        Self { kind, text: None, source: None }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            FaultKind::Config => "the address, options, ttl or name cannot be used",
            FaultKind::Unreachable => "the server cannot be reached",
            FaultKind::Timeout => "the server did not answer in time",
            FaultKind::Busy => "the server is busy or refuses for now",
            FaultKind::Refused => "the server refused the command",
            FaultKind::Codec => "a value could not be encoded or decoded",
            FaultKind::Held => "others held the lock until the deadline",
            FaultKind::Lost => "the lease was lost",
        })?;
        match self.text {
            Some(text) => write!(f, ": {text}"),
            None => Ok(()),
        }
    }
}

impl error::Error for Fault {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
