//! What a process saw, in times that processes of one machine can compare.

use serde::{Deserialize, Serialize};

/// Microseconds of the machine's monotonic clock, the same in every process.
pub type Micros = u64;

pub fn now() -> Micros {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec.unsigned_abs() * 1_000_000 + time.tv_nsec.unsigned_abs() / 1000
}

/// What one process did in one round.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    pub answers: Vec<Answer>,
    /// Requests that got an error, or nothing until the end of the round.
    pub failed: Vec<Failed>,
    /// The first error, for the reader.
    pub error: Option<String>,
    pub loads: Vec<Load>,
    pub acknowledged: Vec<Acknowledged>,
    pub updates: u64,
    /// Those whose invalidation failed.
    pub unacknowledged: u64,
    pub older_writes_refused: u64,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Answer {
    pub key: u32,
    pub version: u64,
    /// Served although its time was over, and known to be.
    pub expired: bool,
    pub begin: Micros,
    pub took: u32,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Failed {
    pub begin: Micros,
    pub took: u32,
}

/// A query that asked for a row.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Load {
    pub key: u32,
    pub begin: Micros,
    pub end: Micros,
}

/// An invalidation, and for whom it holds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Acknowledged {
    pub key: u32,
    pub version: u64,
    pub at: Micros,
    pub delivery: Delivery,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Delivery {
    /// Every process.
    Everywhere,
    /// The one that asked for it; others have not confirmed.
    ThisProcess,
}
