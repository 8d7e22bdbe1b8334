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
    pub errors: u64,
    /// The first error, for the reader.
    pub error: Option<String>,
    pub loads: Vec<(Micros, Micros)>,
    /// Acknowledged invalidations: key, version, when.
    pub acknowledged: Vec<(u32, u64, Micros)>,
    pub older_writes_refused: u64,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Answer {
    pub key: u32,
    pub version: u64,
    pub begin: Micros,
    pub took: u32,
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
    pub fn of(begin: Micros, reports: Vec<Report>, far_commands: Option<u64>) -> Self {
        let mut all = Report::default();
        for report in reports {
            all.answers.extend(report.answers);
            all.loads.extend(report.loads);
            all.acknowledged.extend(report.acknowledged);
            all.errors += report.errors;
            all.error = all.error.or(report.error);
            all.older_writes_refused += report.older_writes_refused;
        }
        let mut latencies: Vec<f64> =
            all.answers.iter().map(|answer| f64::from(answer.took) / 1000.0).collect();
        latencies.sort_by(f64::total_cmp);
        let since = |at: Micros| at.saturating_sub(begin) as f64 / 1000.0;
        Self {
            requests: all.answers.len() as u64 + all.errors,
            loads: all.loads.len() as u64,
            loads_peak: peak(&all.loads),
            answered: all.answers.len() as u64,
            errors: all.errors,
            stale_answers: stale(&all.answers, &all.acknowledged),
            older_writes_refused: all.older_writes_refused,
            p50_ms: percentile(&latencies, 0.5),
            p99_ms: percentile(&latencies, 0.99),
            max_ms: latencies.last().copied().unwrap_or(0.0),
            far_commands,
            load_spans: all.loads.iter().map(|(from, to)| (since(*from), since(*to))).collect(),
            latencies,
            error: all.error,
        }
    }
}

/// The middle one, the lower of two: a count stays a count.
pub fn median<T: Copy + PartialOrd>(values: impl IntoIterator<Item = T>) -> Option<T> {
    let mut values: Vec<T> = values.into_iter().collect();
    values.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    values.get(values.len().checked_sub(1)? / 2).copied()
}

fn percentile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * share).round() as usize).copied().unwrap_or(0.0)
}

fn peak(spans: &[(Micros, Micros)]) -> u64 {
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

/// Answers older than an invalidation that was acknowledged before their request began.
fn stale(answers: &[Answer], acknowledged: &[(u32, u64, Micros)]) -> u64 {
    let mut by_key: HashMap<u32, Vec<(Micros, u64)>> = HashMap::new();
    for (key, version, at) in acknowledged {
        by_key.entry(*key).or_default().push((*at, *version));
    }
    for times in by_key.values_mut() {
        times.sort_unstable();
        // Acknowledgements may overtake each other: what counts is the newest so far.
        let mut newest = 0;
        for (_, version) in times {
            newest = newest.max(*version);
            *version = newest;
        }
    }
    let is_stale = |answer: &&Answer| {
        by_key.get(&answer.key).is_some_and(|times| {
            let before = times.partition_point(|(at, _)| *at < answer.begin);
            before > 0 && answer.version < times[before - 1].1
        })
    };
    answers.iter().filter(is_stale).count() as u64
}
