use std::{fmt, time::Duration};

use crate::{FaultKind, Outcome, Write, far::Invalidated};

/// Something that happened in a guard, as the hook of [`GuardBuilder::on_event`](crate::GuardBuilder::on_event) is
/// told.
#[derive(Clone, Copy)]
pub struct GuardEvent<'a> {
    pub(super) guard: &'a str,
    pub(super) key: Option<&'a str>,
    pub(super) kind: GuardEventKind,
}

/// What happened.
///
/// | event | when |
/// |---|---|
/// | `LoadEnded` | once for each call to the origin, that of a batch once and without a key |
/// | `LoadRefused` | what a load brought is not written |
/// | `ServedStale` | once for each caller |
/// | `LeaseLost` | a load runs on, and its process has learnt that it is not the holder any more |
/// | `FarAway`, `FarBack` | in turn: the breaker opens, the breaker has closed |
/// | `InvalidationPending`, then `InvalidationSent` or `InvalidationLost` | once for each key, however often it is invalidated meanwhile |
/// | `Put`, `Invalidated` | once for each call that asked the far tier, with what it returns |
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GuardEventKind {
    /// A call to the origin has ended.
    LoadEnded {
        /// `ok`, or [`Error::as_str`](crate::Error::as_str).
        result: &'static str,
        /// How long it took.
        took: Duration,
    },
    /// What was loaded was not written, because something newer is known.
    LoadRefused {
        /// What was known.
        why: Refusal,
    },
    /// A caller was answered with an entry whose ttl was over.
    ServedStale {
        /// How it was answered, and so why: [`Outcome::Stale`] or [`Outcome::StaleIfError`].
        outcome: Outcome,
        /// How long the ttl was over.
        beyond: Duration,
    },
    /// A lease was revoked, or has run out, while its load runs.
    LeaseLost,
    /// The far tier does not answer: the guard continues without it.
    FarAway {
        /// How the last call failed.
        why: FaultKind,
    },
    /// The far tier answers again, and has all pending invalidations.
    FarBack,
    /// The far tier did not take an invalidation (or that which a failed put stands for): the guard keeps and
    /// repeats it.
    InvalidationPending {
        /// How the call failed.
        why: FaultKind,
    },
    /// The far tier has taken a pending invalidation.
    InvalidationSent,
    /// An invalidation is not repeated: the far tier refuses it for good, or too many are pending. Not told of
    /// those that are pending when the guard is dropped.
    InvalidationLost {
        /// How the last call failed.
        why: FaultKind,
    },
    /// This became of a [`Guard::put`](crate::Guard::put).
    Put {
        /// What the far tier did, or how the call failed.
        result: Result<Write, FaultKind>,
    },
    /// This became of an invalidation: of a key, or without a key of a tag or of everything.
    Invalidated {
        /// How far it has reached, or how the call failed.
        result: Result<Invalidated, FaultKind>,
    },
}

/// Why what was loaded was not written.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The lease was revoked by a write or an invalidation, or has run out.
    LeaseLost,
    /// What is stored is newer.
    Older,
    /// An acknowledged write or invalidation is newer: the load read from a replica that lags. It is repeated.
    Outdated,
}

impl<'a> GuardEvent<'a> {
    /// The name of the guard: [`GuardBuilder::name`](crate::GuardBuilder::name).
    pub fn guard(&self) -> &'a str {
        self.guard
    }

    /// The key that it is about, as it is spelled in shared stores. `None` without
    /// [`GuardBuilder::event_keys`](crate::GuardBuilder::event_keys), and if it is about no key, or about more than
    /// one.
    pub fn key(&self) -> Option<&'a str> {
        self.key
    }

    /// What happened.
    pub fn kind(&self) -> GuardEventKind {
        self.kind
    }
}

/// Without the key: it is for logs, too.
impl fmt::Debug for GuardEvent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardEvent")
            .field("guard", &self.guard)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl GuardEventKind {
    /// A short, stable word for logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LoadEnded { .. } => "load_ended",
            Self::LoadRefused { .. } => "load_refused",
            Self::ServedStale { .. } => "served_stale",
            Self::LeaseLost => "lease_lost",
            Self::FarAway { .. } => "far_away",
            Self::FarBack => "far_back",
            Self::InvalidationPending { .. } => "invalidation_pending",
            Self::InvalidationSent => "invalidation_sent",
            Self::InvalidationLost { .. } => "invalidation_lost",
            Self::Put { .. } => "put",
            Self::Invalidated { .. } => "invalidated",
        }
    }
}

impl Refusal {
    pub(super) const ALL: [Self; 3] = [Self::LeaseLost, Self::Older, Self::Outdated];

    /// A short, stable word for logs and metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LeaseLost => "lease_lost",
            Self::Older => "older",
            Self::Outdated => "outdated",
        }
    }
}
