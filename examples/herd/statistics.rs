//! Figures over what the processes reported.

use std::collections::HashMap;

use crate::report::{Acknowledged, Delivery, Micros, Report};

/// The middle one, or the mean of the middle two.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let (lower, upper) = (values.len().checked_sub(1)? / 2, values.len() / 2);
    Some((values.get(lower)? + values.get(upper)?) / 2.0)
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
    /// When its request began.
    pub begin: Micros,
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
            let holds = |a: &&Acknowledged| own || a.delivery == Delivery::Everywhere;
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
            Some(Stale { process, begin: answer.begin, late, own })
        }));
    }
    all
}
