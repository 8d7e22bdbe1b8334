//! Results, as a table, as JSON and as a page.

use comfy_table::{CellAlignment, Table, presets::UTF8_FULL_CONDENSED};
use serde::Serialize;

use crate::{
    page::{LinePlot, Page, Panel, Series},
    plan::{Plan, Point},
    round::Round,
    statistics::median,
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
}

/// One strategy at one size, with all its rounds.
pub struct Outcome {
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
        let count = |field: fn(&Round) -> u64| median(rounds.iter().map(field)).unwrap_or(0);
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
            p50_ms: time(|round| round.p50_ms),
            p99_ms: time(|round| round.p99_ms),
            max_ms: time(|round| round.max_ms),
            far_commands: median(rounds.iter().filter_map(|round| round.far_commands)),
        };
        Self { row, rounds }
    }

    /// The median of a count, and its range where the rounds differ.
    fn ranged(&self, median: u64, field: fn(&Round) -> u64) -> String {
        let counts = || self.rounds.iter().map(field);
        match (counts().min(), counts().max()) {
            (Some(least), Some(most)) if least != most => format!("{median} ({least}–{most})"),
            _ => median.to_string(),
        }
    }

    fn cells(&self) -> Vec<String> {
        let row = &self.row;
        vec![
            row.strategy.to_owned(),
            row.processes.to_string(),
            row.callers.to_string(),
            row.requests.to_string(),
            self.ranged(row.loads, |round| round.loads),
            row.loads_peak.to_string(),
            row.answered.to_string(),
            self.ranged(row.errors, |round| round.errors),
            self.ranged(row.stale_answers, |round| round.stale_answers),
            row.older_writes_refused.to_string(),
            format!("{:.1}", row.p50_ms),
            format!("{:.1}", row.p99_ms),
            format!("{:.1}", row.max_ms),
            row.far_commands.map_or("–".to_owned(), |commands| commands.to_string()),
        ]
    }
}

const COLUMNS: [&str; 14] = [
    "strategy",
    "processes",
    "callers",
    "requests",
    "loads",
    "loads_peak",
    "answered",
    "errors",
    "stale_answers",
    "older_writes_refused",
    "p50_ms",
    "p99_ms",
    "max_ms",
    "far_commands",
];

/// The headings of the table in the terminal, two lines each where that saves width.
const HEADINGS: [&str; 14] = [
    "strategy",
    "pro-\ncesses",
    "callers\neach",
    "requests",
    "loads",
    "loads\npeak",
    "answered",
    "errors",
    "stale\nanswers",
    "older\nrefused",
    "p50\nms",
    "p99\nms",
    "max\nms",
    "far\ncommands",
];

pub fn table(outcomes: &[Outcome]) -> String {
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED).set_header(HEADINGS);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.add_rows(outcomes.iter().map(Outcome::cells));
    table.to_string()
}

/// The page for `--report`.
pub fn page(plan: &Plan, systems: Systems, outcomes: &[Outcome], command: String) -> Page {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let (far, origin) = (systems.far, systems.origin);
    let mut panels: Vec<(Panel, (u32, u32))> = Vec::new();
    for outcome in outcomes {
        let size = (outcome.row.processes, outcome.row.callers);
        if panels.last().is_none_or(|(_, last)| *last != size) {
            let processes = if size.0 == 1 { "process" } else { "processes" };
            let phenomenon = plan.phenomenon.name();
            let title = format!("{phenomenon}: {} {processes} × {} callers", size.0, size.1);
            let panel = Panel { title, note: plan.story.clone(), series: Vec::new() };
            panels.push((panel, size));
        }
        let latencies =
            outcome.rounds.iter().flat_map(|round| round.latencies.iter().copied()).collect();
        let loads = outcome.rounds.last().map(|round| round.load_spans.clone());
        if let Some((panel, _)) = panels.last_mut() {
            panel.series.push(Series {
                strategy: outcome.row.strategy.to_owned(),
                loads: loads.unwrap_or_default(),
                latencies,
            });
        }
    }
    Page {
        title: format!("The stampede: {}", plan.phenomenon.name()),
        subtitle: format!(
            "{} Shared store: {far}; database: {origin}; all on one machine with {cores} cores. Figures are medians over the rounds.",
            plan.story
        ),
        command,
        columns: COLUMNS.to_vec(),
        rows: outcomes.iter().map(Outcome::cells).collect(),
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
        plot("database queries", |row| row.loads as f64),
        plot("median latency, ms", |row| row.p50_ms),
        plot("longest latency, ms", |row| row.max_ms),
    ]
}
