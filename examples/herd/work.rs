//! What the processes of a fleet are told to do in a round.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::report::Micros;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Order {
    pub round: u32,
    /// When all processes begin.
    pub begin: Micros,
    pub work: Work,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Work {
    /// Every caller asks for this key once.
    Once { key: u32 },
    /// Every caller asks for one of `keys` again and again.
    Steady(Steady),
    /// The requests of a trace: this process takes its share, in order.
    Replay { trace: PathBuf },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Steady {
    pub keys: u32,
    pub for_ms: u64,
    /// Between an answer and a caller's next request.
    pub pause_ms: u64,
    /// How often each process updates and invalidates one of the keys.
    pub update_ms: Option<u64>,
    /// How long after the last request may begin the round ends: a caller without an answer then gets none.
    pub patience_ms: u64,
    /// From when to when the database refuses.
    pub refused_ms: Option<(u64, u64)>,
}

impl Work {
    /// Until the last request may begin, if that has an end.
    pub fn lasts_ms(&self) -> u64 {
        match self {
            Self::Steady(work) => work.for_ms,
            Self::Once { .. } | Self::Replay { .. } => 0,
        }
    }

    /// No caller waits for longer than this.
    pub fn end(&self, begin: Instant) -> Instant {
        begin
            + match self {
                Self::Steady(work) => Duration::from_millis(work.for_ms + work.patience_ms),
                Self::Once { .. } | Self::Replay { .. } => Duration::from_secs(24 * 3600),
            }
    }
}
