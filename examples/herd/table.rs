//! Results, as a table, as JSON and as a page.

use serde::Serialize;

use crate::{
    args::{self, Args, LockArg, Phenomenon},
    closing::Seen,
    count::Count,
    page::{LinePlot, Page, Panel, Series},
    plan::{Plan, Point},
    round::Round,
    sheet::{Column, STRATEGY, Sheet, UNKNOWN, wrapped},
    statistics::median,
    strategy::Strategy,
};

/// A line of the results: medians over the rounds. These are exactly the fields of `--json`.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub phenomenon: &'static str,
    pub strategy: &'static str,
    pub far: &'static str,
    pub lock: &'static str,
    pub origin: &'static str,
    pub processes: u32,
    pub callers: u32,
    pub keys: u32,
    pub load_ms: u64,
    pub rounds: u32,
    pub requests: Count,
    pub loads: Count,
    pub loads_peak: Count,
    pub answered: Count,
    pub errors: Count,
    pub stale_answers: Count,
    pub older_writes_refused: Count,
    pub updates: Count,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
    pub far_commands: Option<Count>,
}

/// One strategy at one size, with all its rounds.
pub struct Outcome {
    pub strategy: Strategy,
    pub row: Row,
    pub rounds: Vec<Round>,
}

/// The systems that a run used, and how long a load took.
#[derive(Clone, Copy)]
pub struct Systems {
    pub far: &'static str,
    pub lock: &'static str,
    pub origin: &'static str,
    pub load_ms: u64,
}

impl Outcome {
    pub fn of(plan: &Plan, point: &Point, systems: Systems, rounds: Vec<Round>) -> Self {
        let count =
            |field: fn(&Round) -> u64| Count::median(rounds.iter().map(field)).unwrap_or_default();
        let time = |field: fn(&Round) -> f64| {
            let time = median(rounds.iter().map(field)).unwrap_or(0.0);
            (time * 100.0).round() / 100.0
        };
        let row = Row {
            phenomenon: plan.phenomenon.name(),
            strategy: point.strategy.name(),
            far: systems.far,
            lock: systems.lock,
            origin: systems.origin,
            processes: point.processes,
            callers: point.callers,
            keys: plan.keys,
            load_ms: systems.load_ms,
            rounds: u32::try_from(rounds.len()).unwrap_or(u32::MAX),
            requests: count(|round| round.requests),
            loads: count(|round| round.loads),
            loads_peak: count(|round| round.loads_peak),
            answered: count(|round| round.answered),
            errors: count(|round| round.errors),
            stale_answers: count(|round| round.stale_answers),
            older_writes_refused: count(|round| round.older_writes_refused),
            updates: count(|round| round.updates),
            p50_ms: time(|round| round.p50_ms),
            p99_ms: time(|round| round.p99_ms),
            max_ms: time(|round| round.max_ms),
            far_commands: Count::median(rounds.iter().filter_map(|round| round.far_commands)),
        };
        Self { strategy: point.strategy, row, rounds }
    }

    /// The median of a count, and its range where the rounds differ.
    fn ranged(&self, median: Count, field: fn(&Round) -> u64) -> String {
        let counts = || self.rounds.iter().map(field);
        match (counts().min(), counts().max()) {
            (Some(least), Some(most)) if least != most => {
                format!("{median}\n({}–{})", Count::from(least), Count::from(most))
            }
            _ => median.to_string(),
        }
    }
}

const COLUMNS: [Column<Outcome>; 10] = [
    ("answered", "answered", |o| o.row.answered.to_string()),
    ("loads", "queries", |o| o.ranged(o.row.loads, |round| round.loads)),
    ("loads_peak", "at\nonce", |o| o.row.loads_peak.to_string()),
    ("errors", "errors", |o| o.ranged(o.row.errors, |round| round.errors)),
    ("stale_answers", "stale\nanswers", |o| {
        o.ranged(o.row.stale_answers, |round| round.stale_answers)
    }),
    ("older_writes_refused", "older\nrefused", |o| o.row.older_writes_refused.to_string()),
    ("p50_ms", "p50\nms", |o| format!("{:.1}", o.row.p50_ms)),
    ("p99_ms", "p99\nms", |o| format!("{:.1}", o.row.p99_ms)),
    ("max_ms", "max\nms", |o| format!("{:.1}", o.row.max_ms)),
    ("far_commands", "far\ncommands", |o| {
        o.row.far_commands.map_or(UNKNOWN.to_owned(), |commands| commands.to_string())
    }),
];

/// All outcomes. How large the fleets were is said by the phenomenon, unless they grow.
pub fn sheet(phenomenon: Phenomenon, outcomes: &[Outcome]) -> Sheet {
    let sizes: [Column<Outcome>; 2] = [
        ("processes", "pro-\ncesses", |o| o.row.processes.to_string()),
        ("callers", "callers\neach", |o| o.row.callers.to_string()),
    ];
    let mut columns: Vec<Column<Outcome>> =
        vec![(STRATEGY, STRATEGY, |o| o.row.strategy.to_owned())];
    columns.extend(sizes.into_iter().filter(|_| phenomenon == Phenomenon::Scale));
    columns.extend(COLUMNS);
    let heads = columns.iter().map(|(name, heading, _)| (*name, *heading)).collect();
    let cells = |outcome| columns.iter().map(|(_, _, cell)| cell(outcome)).collect();
    Sheet::new(heads, outcomes.iter().map(cells).collect())
}

/// Of the largest herd.
pub fn seen(outcomes: &[Outcome]) -> Vec<Seen> {
    let size = |outcome: &Outcome| outcome.row.processes * outcome.row.callers;
    let largest = outcomes.iter().map(size).max();
    let of_largest = outcomes.iter().filter(|outcome| Some(size(outcome)) == largest);
    of_largest
        .map(|Outcome { strategy, row, .. }| Seen {
            strategy: *strategy,
            loads: row.loads,
            errors: row.errors,
            stale: row.stale_answers,
            max_ms: row.max_ms,
            commands: row.far_commands,
            updates: row.updates,
        })
        .collect()
}

/// The caption and the table.
pub fn terminal(args: &Args, plan: &Plan, systems: Systems, outcomes: &[Outcome]) -> String {
    let Systems { far, lock, origin, .. } = systems;
    let lock = match args.lock {
        LockArg::OfRedis => String::new(),
        _ => format!(", lock of cattleguard: {lock}"),
    };
    let sheet = sheet(plan.phenomenon, outcomes);
    let (name, story, averaged) = (plan.phenomenon.name(), &plan.story, args.averaged());
    let systems = format!("Shared store: {far}, database: {origin}{lock}.");
    let caption = format!("{name}: {story} {systems} {averaged}{}", sheet.caption());
    format!("{}\n{}", wrapped(&caption), sheet.terminal())
}

/// The page for `--report`.
pub fn page(args: &Args, plan: &Plan, systems: Systems, outcomes: &[Outcome]) -> Page {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let (far, origin) = (systems.far, systems.origin);
    let mut panels: Vec<(Panel, (u32, u32))> = Vec::new();
    for outcome in outcomes {
        let size = (outcome.row.processes, outcome.row.callers);
        if panels.last().is_none_or(|(_, last)| *last != size) {
            let processes = if size.0 == 1 { "process" } else { "processes" };
            let phenomenon = plan.phenomenon.name();
            let title = format!("{phenomenon}: {} {processes} × {} callers", size.0, size.1);
            let (note, invalidates) =
                (plan.story.clone(), plan.phenomenon == Phenomenon::Invalidate);
            let panel = Panel { title, note, invalidates, series: Vec::new() };
            panels.push((panel, size));
        }
        let latencies =
            outcome.rounds.iter().flat_map(|round| round.latencies.iter().copied()).collect();
        if let (Some((panel, _)), Some(last)) = (panels.last_mut(), outcome.rounds.last()) {
            panel.series.push(Series {
                strategy: outcome.row.strategy.to_owned(),
                loads: last.load_spans.clone(),
                stale: last.stale.clone(),
                latencies,
            });
        }
    }
    Page {
        title: format!("The stampede: {}", plan.phenomenon.name()),
        subtitle: format!(
            "{} Shared store: {far}; database: {origin}; all on one machine with {cores} cores. {}",
            plan.story,
            args.averaged()
        ),
        command: args::command_line(),
        sheet: sheet(plan.phenomenon, outcomes),
        panels: panels.into_iter().map(|(panel, _)| panel).collect(),
        times: Vec::new(),
        lines: lines(outcomes),
    }
}

/// How loads and latency grow, where a run has several sizes.
fn lines(outcomes: &[Outcome]) -> Vec<LinePlot> {
    let plot = |y: &str, value: fn(&Row) -> f64| {
        let mut lines: Vec<(String, Vec<(f64, f64)>)> = Vec::new();
        for Outcome { row, .. } in outcomes {
            let point = (f64::from(row.processes * row.callers), value(row));
            match lines.iter_mut().find(|(strategy, _)| strategy == row.strategy) {
                Some((_, points)) => points.push(point),
                None => lines.push((row.strategy.to_owned(), vec![point])),
            }
        }
        for (_, points) in &mut lines {
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            points.dedup_by(|a, b| a.0 == b.0);
        }
        LinePlot {
            title: format!("{y} as the herd grows"),
            x: "callers in all processes".to_owned(),
            y: y.to_owned(),
            lines,
        }
    };
    let sizes: std::collections::BTreeSet<_> =
        outcomes.iter().map(|outcome| (outcome.row.processes, outcome.row.callers)).collect();
    if sizes.len() < 3 {
        return Vec::new();
    }
    vec![
        plot("database queries", |row| row.loads.value()),
        plot("median latency, ms", |row| row.p50_ms),
        plot("longest latency, ms", |row| row.max_ms),
    ]
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::sheet::WIDTH;

    fn round(large: u64) -> Round {
        let ms = large as f64 / 10.0;
        Round {
            requests: large,
            loads: large,
            loads_peak: 64,
            answered: large,
            errors: large / 100,
            stale_answers: large / 10,
            older_writes_refused: large / 1000,
            updates: large / 1000,
            p50_ms: ms / 10.0,
            p99_ms: ms,
            max_ms: ms,
            far_commands: Some(large * 5),
            stale: Vec::new(),
            latencies: Vec::new(),
            load_spans: Vec::new(),
            error: None,
        }
    }

    #[test]
    fn every_table_fits_the_terminal() {
        for phenomenon in ["cold-key", "expiry", "invalidate", "replay --trace t", "scale"] {
            let line = format!("herd --far redis --phenomenon {phenomenon}");
            let args = Args::parse_from(line.split(' '));
            let plan = Plan::of(&args, 13_756);
            let systems =
                Systems { far: "redis", lock: "postgres-row", origin: "postgres", load_ms: 50 };
            let points = plan.points(&args);
            let outcome = |(number, point): (usize, &Point)| {
                let rounds = [95_607, 81_234 + number as u64].map(round);
                Outcome::of(&plan, point, systems, rounds.into())
            };
            let outcomes: Vec<_> = points.iter().enumerate().map(outcome).collect();
            for shown in [&outcomes[..], &outcomes[..1]] {
                for line in terminal(&args, &plan, systems, shown).lines() {
                    assert!(line.chars().count() <= WIDTH.into(), "{phenomenon}: {line}");
                }
            }
        }
    }
}
