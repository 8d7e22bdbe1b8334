//! The results of trials, as a table, as JSON and as a page.

use std::fmt;

use comfy_table::{CellAlignment, Table, presets::UTF8_FULL_CONDENSED};
use serde::Serialize;

use crate::{
    args::{Args, Phenomenon},
    figures::Figures,
    page::{Course, Page, TimePanel},
    plan::Plan,
    trial::{Ended, Outcome, Trial},
};

/// A line of the results. These are exactly the fields of `--json`.
#[derive(Serialize)]
struct Row<'a> {
    phenomenon: &'static str,
    fault: &'static str,
    strategy: &'static str,
    far: &'static str,
    origin: &'static str,
    processes: u32,
    callers: u32,
    keys: u32,
    ttl_ms: u64,
    load_ms: u64,
    rounds: u32,
    #[serde(flatten)]
    figures: &'a Figures,
    error: Option<&'a str>,
}

pub struct TrialTable<'a> {
    args: &'a Args,
    plan: &'a Plan,
    far: &'static str,
    origin: &'static str,
    trials: Vec<Trial>,
}

type Column = (&'static str, &'static str, fn(&Figures) -> String);

/// Names in the page, headings in the terminal, cells.
const OUTAGE: [Column; 12] = [
    ("requests", "requests", |f| f.requests.to_string()),
    ("answered", "answered", |f| f.answered.to_string()),
    ("errors", "errors", |f| f.errors.to_string()),
    ("p99_in_fault_ms", "p99 ms\nin fault", |f| format!("{:.1}", f.p99_in_fault_ms)),
    ("max_in_fault_ms", "max ms\nin fault", |f| format!("{:.1}", f.max_in_fault_ms)),
    ("loads", "loads", |f| f.loads.to_string()),
    ("loads_peak", "loads\npeak", |f| f.loads_peak.to_string()),
    ("loads_peak_per_key", "peak\nper key", |f| f.loads_peak_per_key.to_string()),
    ("normal_after_s", "normal\nafter s", normal_after),
    ("stale_answers", "stale\nanswers", |f| match f.stale_cut_off {
        0 => f.stale_answers.to_string(),
        cut_off => format!("{} ({cut_off} cut off)", f.stale_answers),
    }),
    ("stale_for_ms", "stale\nfor ms", |f| format!("{:.0}", f.stale_for_ms)),
    ("unacknowledged", "unack-\nnowledged", |f| format!("{} of {}", f.unacknowledged, f.updates)),
];

const FAILING: [Column; 9] = [
    ("requests", "requests", |f| f.requests.to_string()),
    ("answered", "answered", |f| f.answered.to_string()),
    ("expired_answers", "of these\nexpired", |f| f.expired_answers.to_string()),
    ("errors", "errors", |f| f.errors.to_string()),
    ("p99_in_fault_ms", "p99 ms\nin fault", |f| format!("{:.1}", f.p99_in_fault_ms)),
    ("max_in_fault_ms", "max ms\nin fault", |f| format!("{:.1}", f.max_in_fault_ms)),
    ("loads_in_fault", "loads\nin fault", |f| f.loads_in_fault.to_string()),
    ("loads_per_pause", "per key\nand pause", |f| f.loads_per_pause.to_string()),
    ("normal_after_s", "normal\nafter s", normal_after),
];

fn normal_after(figures: &Figures) -> String {
    figures.normal_after_s.map_or("never".into(), |seconds| format!("{seconds:.1}"))
}

impl<'a> TrialTable<'a> {
    pub fn new(args: &'a Args, plan: &'a Plan) -> Self {
        Self { args, plan, far: "", origin: "", trials: Vec::new() }
    }

    pub fn set_systems(&mut self, far: &'static str, origin: &'static str) {
        (self.far, self.origin) = (far, origin);
    }

    /// Adds a line, and says it.
    pub fn add(&mut self, trial: Trial) {
        let (fault, strategy) = (trial.fault_name(), trial.strategy.name());
        match &trial.outcome {
            Outcome::NotApplicable => {
                eprintln!("{fault:>10}  {strategy}: n/a, it takes one address")
            }
            Outcome::Ended(ended) => {
                let Ended { figures, error, .. } = &**ended;
                eprintln!(
                    "{fault:>10}  {strategy}: {} of {} requests answered, p99 {:.1} ms during the fault, {} database queries, {} at once, normal after: {}",
                    figures.answered,
                    figures.requests,
                    figures.p99_in_fault_ms,
                    figures.loads,
                    figures.loads_peak,
                    normal_after(figures),
                );
                if self.args.json {
                    let row = Row {
                        phenomenon: self.plan.phenomenon.name(),
                        fault,
                        strategy,
                        far: self.far,
                        origin: self.origin,
                        processes: self.args.processes,
                        callers: self.args.callers(),
                        keys: self.plan.keys,
                        ttl_ms: self.plan.ttl_ms,
                        load_ms: self.args.load_ms,
                        rounds: self.args.rounds(),
                        figures,
                        error: error.as_deref(),
                    };
                    println!("{}", serde_json::to_string(&row).unwrap_or_default());
                }
            }
        }
        self.trials.push(trial);
    }

    fn columns(&self) -> &'static [Column] {
        if self.plan.phenomenon == Phenomenon::Outage { &OUTAGE } else { &FAILING }
    }

    fn cells(&self, trial: &Trial) -> Vec<String> {
        let fault = trial.fault.map(|fault| fault.name().to_owned());
        let mut cells: Vec<String> = fault.into_iter().collect();
        cells.push(trial.strategy.name().to_owned());
        cells.extend(self.columns().iter().map(|(_, _, cell)| match &trial.outcome {
            Outcome::NotApplicable => "n/a".to_owned(),
            Outcome::Ended(ended) => cell(&ended.figures),
        }));
        cells
    }

    /// Names of the first columns.
    fn heads(&self) -> &'static [&'static str] {
        if self.plan.phenomenon == Phenomenon::Outage {
            &["fault", "strategy"]
        } else {
            &["strategy"]
        }
    }

    /// The page for `--report`.
    pub fn page(&self, command: String) -> Page {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let mut times: Vec<TimePanel> = Vec::new();
        let mut last = None;
        for trial in &self.trials {
            let Outcome::Ended(ended) = &trial.outcome else { continue };
            if last.replace(trial.fault_name()) != Some(trial.fault_name()) {
                let note = match trial.fault {
                    Some(fault) => fault.story(self.args.fault_ms()),
                    None => "Shaded: the database refuses all queries.".to_owned(),
                };
                let title = format!("{}: {}", self.plan.phenomenon.name(), trial.fault_name());
                times.push(TimePanel { title, note, courses: Vec::new() });
            }
            if let Some(panel) = times.last_mut() {
                panel.courses.push(Course {
                    strategy: trial.strategy.name().to_owned(),
                    timeline: ended.timeline.clone(),
                    figures: ended.figures.clone(),
                });
            }
        }
        let names = self.columns().iter().map(|(name, ..)| *name);
        Page {
            title: format!("The stampede: {}", self.plan.phenomenon.name()),
            subtitle: format!(
                "{} Shared store: {}; database: {}; all on one machine with {cores} cores.{}",
                self.plan.story,
                self.far,
                self.origin,
                match self.args.rounds() {
                    1 => String::new(),
                    rounds => format!(
                        " Figures are medians over {rounds} rounds; the time lines show the last one."
                    ),
                }
            ),
            command,
            columns: self.heads().iter().copied().chain(names).collect(),
            rows: self.trials.iter().map(|trial| self.cells(trial)).collect(),
            panels: Vec::new(),
            times,
            lines: Vec::new(),
        }
    }
}

impl fmt::Display for TrialTable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        let headings = self.columns().iter().map(|(_, heading, _)| *heading);
        table
            .load_preset(UTF8_FULL_CONDENSED)
            .set_header(self.heads().iter().copied().chain(headings));
        for column in table.column_iter_mut().skip(self.heads().len()) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table.add_rows(self.trials.iter().map(|trial| self.cells(trial)));
        writeln!(f, "{}: {}", self.plan.phenomenon.name(), self.plan.story)?;
        let (far, origin, rounds) = (self.far, self.origin, self.args.rounds());
        let medians =
            if rounds > 1 { format!(" Medians of {rounds} rounds.") } else { String::new() };
        writeln!(f, "Shared store: {far}, database: {origin}.{medians}")?;
        write!(f, "{table}")?;
        // The same error often befalls many.
        for trial in &self.trials {
            let Outcome::Ended(ended) = &trial.outcome else { continue };
            if let Some(error) = &ended.error {
                let (fault, strategy) = (trial.fault_name(), trial.strategy.name());
                write!(f, "\n{fault}, {strategy}: first error: {error}")?;
            }
        }
        Ok(())
    }
}
