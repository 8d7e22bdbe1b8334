//! What is recorded.

use serde::{Deserialize, Serialize};

/// Microseconds since the run began, on one clock for all processes (`CLOCK_MONOTONIC`, or the simulated one).
pub type Micros = u64;

/// From before the first step of what was done until after its last.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Span {
    pub begun: Micros,
    /// `None`: it was not seen to end (its process was killed, or it hangs).
    pub ended: Option<Micros>,
}

/// Something that a process did about a key.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Event {
    /// One number for each start of a process: what comes back after a kill is another process.
    pub process: u32,
    pub key: u32,
    pub span: Span,
    pub deed: Deed,
}

impl Event {
    /// Whether this is the load or the put that a value of this version came from.
    pub(super) fn brought(&self, version: u64) -> bool {
        match self.deed {
            // Of a load that was not seen to end nobody knows what it brought.
            Deed::Loaded { brought, .. } => {
                brought.map_or(self.span.ended.is_none(), |brought| brought == version)
            }
            Deed::Put { version: put, .. } => put == version,
            _ => false,
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Deed {
    /// The loader ran. Record it in two steps if the process can be killed: a load without an end.
    Loaded {
        /// A number of its own in the whole run: the value carries it.
        source: u64,
        /// The version of the row that it read; `None` if it brought none (it failed, panicked, or was cut off).
        brought: Option<u64>,
    },
    /// `put` of a value that was read from the origin, or is what the origin now has.
    Put {
        source: u64,
        version: u64,
        /// Whether it was acknowledged (`Stored` or `Older`).
        is_acknowledged: bool,
    },
    Invalidated {
        /// `invalidate_at`; `None`: `invalidate`.
        version: Option<u64>,
        reached: Reached,
    },
    /// A caller asked its process' guard.
    Asked {
        answer: Answer,
        /// `Outcome::as_str`, or the error's kind.
        outcome: String,
        /// When the caller wanted to have its answer at the latest.
        deadline: Micros,
    },
    /// The far tier was read past all guards, by an observer with a number of its own.
    Read { found: Option<(u64, u64)> },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Reached {
    Everywhere,
    Unconfirmed,
    /// An error, or no answer at all.
    Unacknowledged,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Answer {
    Value {
        source: u64,
        version: u64,
    },
    /// The origin's doing: it failed or panicked, here or elsewhere, or gave nothing but outdated rows.
    OriginFailed,
    /// The load, or the caller, ran out of time: load, wait and caller's deadline.
    TimedOut,
    /// More loads are queued than a process allows.
    Overloaded,
    /// Any other error.
    Failed,
}
