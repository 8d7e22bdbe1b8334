//! What a round comes to.

use crate::{
    report::{Micros, Report},
    statistics::{peak, percentile, stale},
};

/// What all processes did in one round.
#[derive(Clone, Debug)]
pub struct Round {
    pub requests: u64,
    pub loads: u64,
    pub loads_peak: u64,
    pub answered: u64,
    pub errors: u64,
    pub stale_answers: u64,
    pub older_writes_refused: u64,
    pub updates: u64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
    pub far_commands: Option<u64>,
    /// When each stale answer was asked for, since the round began, and for how long the invalidation
    /// had held; milliseconds.
    pub stale: Vec<(f64, f64)>,
    pub latencies: Vec<f64>,
    /// Milliseconds since the round began.
    pub load_spans: Vec<(f64, f64)>,
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
        let stale = stale(reports);
        let answered = latencies.len() as u64;
        let errors = sum(|report| report.failed.len() as u64 + report.unacknowledged);
        Self {
            requests: answered + errors,
            loads: loads.len() as u64,
            loads_peak: peak(&loads),
            answered,
            errors,
            stale_answers: stale.len() as u64,
            older_writes_refused: sum(|report| report.older_writes_refused),
            updates: sum(|report| report.updates),
            p50_ms: percentile(&latencies, 0.5),
            p99_ms: percentile(&latencies, 0.99),
            max_ms: latencies.last().copied().unwrap_or(0.0),
            far_commands,
            load_spans: loads.iter().map(|(from, to)| (since(*from), since(*to))).collect(),
            stale: stale.iter().map(|s| (since(s.begin), s.late as f64 / 1000.0)).collect(),
            latencies,
            error: reports.iter().find_map(|report| report.error.clone()),
        }
    }
}
