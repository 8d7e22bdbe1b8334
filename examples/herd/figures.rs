//! What a round in which something broke comes to, in figures.

use std::{collections::HashMap, ops::Range};

use serde::Serialize;

use crate::{
    count::Count,
    report::{Load, Micros, Report},
    statistics::{median, peak, percentile, stale},
};

/// Of the whole round, if not said otherwise.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Figures {
    pub fault_s: f64,
    pub requests: Count,
    pub answered: Count,
    /// Answers whose time was over, and known to be.
    pub expired_answers: Count,
    pub errors: Count,
    /// How long those requests took that began during the fault, also until they failed.
    pub p99_in_fault_ms: f64,
    pub max_in_fault_ms: f64,
    pub loads: Count,
    /// Those that began during the fault.
    pub loads_in_fault: Count,
    pub loads_peak: Count,
    /// The most loads of one key that one process had in progress at one time.
    pub loads_peak_per_key: Count,
    /// The most loads of one key that began in one back-off, in all processes.
    pub loads_per_pause: Count,
    pub normal_after_s: Option<f64>,
    /// Answers older than an invalidation that held for their process.
    pub stale_answers: Count,
    /// Those from a process whose own invalidation it was.
    pub stale_own: Count,
    /// Those from the process that was cut off.
    pub stale_cut_off: Count,
    /// How long it had held, at most.
    pub stale_for_ms: f64,
    /// Each with its invalidation.
    pub updates: Count,
    pub unacknowledged: Count,
}

impl Figures {
    pub fn of(
        fault: Range<Micros>,
        normal_after: Option<f64>,
        cut_off: Option<usize>,
        reports: &[Report],
    ) -> Self {
        let sum = |count: fn(&Report) -> u64| Count::from(reports.iter().map(count).sum::<u64>());
        let loads: Vec<Load> = reports.iter().flat_map(|report| &report.loads).copied().collect();
        let answers = reports.iter().flat_map(|report| &report.answers);
        let answers = answers.map(|answer| (answer.begin, answer.took));
        let failed = reports.iter().flat_map(|report| &report.failed);
        let all = answers.chain(failed.map(|failed| (failed.begin, failed.took)));
        let mut waits: Vec<f64> = all
            .filter(|(begin, _)| fault.contains(begin))
            .map(|(_, took)| f64::from(took) / 1000.0)
            .collect();
        waits.sort_by(f64::total_cmp);
        let stale = stale(reports);
        Self {
            fault_s: (fault.end - fault.start) as f64 / 1e6,
            requests: sum(|report| (report.answers.len() + report.failed.len()) as u64),
            answered: sum(|report| report.answers.len() as u64),
            expired_answers: sum(|report| {
                report.answers.iter().filter(|answer| answer.expired).count() as u64
            }),
            errors: sum(|report| report.failed.len() as u64),
            p99_in_fault_ms: percentile(&waits, 0.99),
            max_in_fault_ms: waits.last().copied().unwrap_or(0.0),
            loads: loads.len().into(),
            loads_in_fault: loads.iter().filter(|load| fault.contains(&load.begin)).count().into(),
            loads_peak: peak(&spans(&loads)).into(),
            loads_peak_per_key: reports
                .iter()
                .flat_map(|report| by_key(&report.loads).into_values())
                .map(|loads| peak(&spans(&loads)))
                .max()
                .unwrap_or(0)
                .into(),
            loads_per_pause: by_key(&loads)
                .into_values()
                .map(|loads| in_one_back_off(loads, &fault))
                .max()
                .unwrap_or(0)
                .into(),
            normal_after_s: normal_after,
            stale_answers: stale.len().into(),
            stale_own: stale.iter().filter(|stale| stale.own).count().into(),
            stale_cut_off: stale
                .iter()
                .filter(|stale| cut_off == Some(stale.process))
                .count()
                .into(),
            stale_for_ms: stale.iter().map(|stale| stale.late).max().unwrap_or(0) as f64 / 1000.0,
            updates: sum(|report| report.updates),
            unacknowledged: sum(|report| report.unacknowledged),
        }
    }

    /// Medians over rounds.
    pub fn middle(rounds: &[Self]) -> Option<Self> {
        let count =
            |field: fn(&Self) -> Count| Count::median(rounds.iter().map(field)).unwrap_or_default();
        let time = |field: fn(&Self) -> f64| {
            (median(rounds.iter().map(field)).unwrap_or(0.0) * 100.0).round() / 100.0
        };
        let normal = time(|round| round.normal_after_s.unwrap_or(f64::INFINITY));
        (!rounds.is_empty()).then(|| Self {
            fault_s: time(|round| round.fault_s),
            requests: count(|round| round.requests),
            answered: count(|round| round.answered),
            expired_answers: count(|round| round.expired_answers),
            errors: count(|round| round.errors),
            p99_in_fault_ms: time(|round| round.p99_in_fault_ms),
            max_in_fault_ms: time(|round| round.max_in_fault_ms),
            loads: count(|round| round.loads),
            loads_in_fault: count(|round| round.loads_in_fault),
            loads_peak: count(|round| round.loads_peak),
            loads_peak_per_key: count(|round| round.loads_peak_per_key),
            loads_per_pause: count(|round| round.loads_per_pause),
            normal_after_s: Some(normal).filter(|normal| normal.is_finite()),
            stale_answers: count(|round| round.stale_answers),
            stale_own: count(|round| round.stale_own),
            stale_cut_off: count(|round| round.stale_cut_off),
            stale_for_ms: time(|round| round.stale_for_ms),
            updates: count(|round| round.updates),
            unacknowledged: count(|round| round.unacknowledged),
        })
    }
}

fn spans(loads: &[Load]) -> Vec<(Micros, Micros)> {
    loads.iter().map(|load| (load.begin, load.end)).collect()
}

fn by_key(loads: &[Load]) -> HashMap<u32, Vec<Load>> {
    let mut by_key: HashMap<u32, Vec<Load>> = HashMap::new();
    for load in loads {
        by_key.entry(load.key).or_default().push(*load);
    }
    by_key
}

/// The guard's default back-offs: 250 ms, doubling to 5 s, each up to a quarter shorter or longer. Here the
/// shortest: what begins within it, and with the load that it follows, is one too many for sure.
fn in_one_back_off(mut loads: Vec<Load>, fault: &Range<Micros>) -> u64 {
    loads.retain(|load| fault.contains(&load.begin));
    loads.sort_unstable_by_key(|load| load.begin);
    let (mut most, mut now, mut over, mut back_off) = (0, 0, 0, 187_500);
    for load in loads {
        if load.begin < over {
            now += 1;
        } else {
            now = 1;
            over = load.end + back_off;
            back_off = (back_off * 2).min(3_750_000);
        }
        most = most.max(now);
    }
    most
}
