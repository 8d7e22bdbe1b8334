//! Times that processes of one machine can compare, and what is made of them.

use std::collections::HashMap;

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
    pub reach: Reach,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Reach {
    /// Every process.
    All,
    /// The process that asked for it.
    Own,
}

/// What all processes did in one round.
#[derive(Clone, Debug, Serialize)]
pub struct Round {
    pub requests: u64,
    pub loads: u64,
    pub loads_peak: u64,
    pub answered: u64,
    pub errors: u64,
    pub stale_answers: u64,
    pub older_writes_refused: u64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
    pub far_commands: Option<u64>,
    #[serde(skip)]
    pub latencies: Vec<f64>,
    /// Milliseconds since the round began.
    #[serde(skip)]
    pub load_spans: Vec<(f64, f64)>,
    #[serde(skip)]
    pub error: Option<String>,
}

impl Round {
    pub fn of(begin: Micros, reports: &[Report], far_commands: Option<u64>) -> Self {
        let sum = |count: fn(&Report) -> u64| reports.iter().map(count).sum::<u64>();
        let answers = || reports.iter().flat_map(|report| &report.answers);
        let mut latencies: Vec<f64> =
            answers().map(|answer| f64::from(answer.took) / 1000.0).collect();
        latencies.sort_by(f64::total_cmp);
        let loads: Vec<_> =
            reports.iter().flat_map(|r| &r.loads).map(|load| (load.begin, load.end)).collect();
        let since = |at: Micros| at.saturating_sub(begin) as f64 / 1000.0;
        let answered = latencies.len() as u64;
        let errors = sum(|report| report.failed.len() as u64 + report.unacknowledged);
        Self {
            requests: answered + errors,
            loads: loads.len() as u64,
            loads_peak: peak(&loads),
            answered,
            errors,
            stale_answers: stale(reports).len() as u64,
            older_writes_refused: sum(|report| report.older_writes_refused),
            p50_ms: percentile(&latencies, 0.5),
            p99_ms: percentile(&latencies, 0.99),
            max_ms: latencies.last().copied().unwrap_or(0.0),
            far_commands,
            load_spans: loads.iter().map(|(from, to)| (since(*from), since(*to))).collect(),
            latencies,
            error: reports.iter().find_map(|report| report.error.clone()),
        }
    }
}

/// The middle one, the lower of two: a count stays a count.
pub fn median<T: Copy + PartialOrd>(values: impl IntoIterator<Item = T>) -> Option<T> {
    let mut values: Vec<T> = values.into_iter().collect();
    values.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    values.get(values.len().checked_sub(1)? / 2).copied()
}

pub fn percentile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * share).round() as usize).copied().unwrap_or(0.0)
}

/// The most at one time.
pub fn peak(spans: &[(Micros, Micros)]) -> u64 {
    let mut edges: Vec<(Micros, i64)> =
        spans.iter().flat_map(|(from, to)| [(*from, 1), (*to, -1)]).collect();
    // At one moment the end comes first: a connection handed on is not used twice.
    edges.sort_unstable();
    let (mut running, mut most) = (0, 0);
    for (_, step) in edges {
        running += step;
        most = most.max(running);
    }
    most.unsigned_abs()
}

/// An answer older than an invalidation that held for its process before its request began.
pub struct Stale {
    pub process: usize,
    /// How long it had held.
    pub late: Micros,
    /// The invalidation was of the same process.
    pub own: bool,
}

/// All of them.
pub fn stale(reports: &[Report]) -> Vec<Stale> {
    let mut all = Vec::new();
    for (process, report) in reports.iter().enumerate() {
        let mut by_key: HashMap<u32, Vec<(Micros, u64, bool)>> = HashMap::new();
        for (from, other) in reports.iter().enumerate() {
            let own = from == process;
            let holds = |a: &&Acknowledged| own || a.reach == Reach::All;
            for told in other.acknowledged.iter().filter(holds) {
                by_key.entry(told.key).or_default().push((told.at, told.version, own));
            }
        }
        for times in by_key.values_mut() {
            times.sort_unstable();
            // Acknowledgements may overtake each other: what counts is the newest so far.
            let mut newest = 0;
            for (_, version, _) in times {
                newest = newest.max(*version);
                *version = newest;
            }
        }
        all.extend(report.answers.iter().filter_map(|answer| {
            let times = by_key.get(&answer.key)?;
            let newer = times.partition_point(|(_, version, _)| *version <= answer.version);
            let (at, _, own) = *times.get(newer)?;
            let late = answer.begin.checked_sub(at).filter(|late| *late > 0)?;
            Some(Stale { process, late, own })
        }));
    }
    all
}
