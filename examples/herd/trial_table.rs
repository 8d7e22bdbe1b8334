//! The results of trials, as a table, as JSON and as a page.

use std::{fmt, io};

use serde::Serialize;

use crate::{
    args::{self, Args, Phenomenon},
    closing::Seen,
    count::Count,
    figures::Figures,
    output::say,
    page::{Course, Page, TimePanel},
    plan::Plan,
    sheet::{Column, FAULT, NONE, STRATEGY, Sheet, wrapped},
    strategy::Strategy,
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

const OUTAGE: [Column<Figures>; 11] = [
    ("answered", "answers", |f| f.answered.to_string()),
    ("errors", "errors", |f| f.errors.to_string()),
    ("p99_in_fault_ms", "p99\nms in\nfault", |f| milliseconds(f.p99_in_fault_ms)),
    ("max_in_fault_ms", "max\nms in\nfault", |f| milliseconds(f.max_in_fault_ms)),
    ("loads", "que-\nries", |f| f.loads.to_string()),
    ("loads_peak", "at\nonce", |f| f.loads_peak.to_string()),
    ("loads_peak_per_key", "most\nper\nkey", |f| f.loads_peak_per_key.to_string()),
    ("normal_after_s", "normal\nafter\ns", normal_after),
    ("stale_answers", "stale", |f| match f.stale_cut_off {
        none if none == Count::default() => f.stale_answers.to_string(),
        cut_off => format!("{}\ncut: {cut_off}", f.stale_answers),
    }),
    ("stale_for_ms", "stale\nfor\nms", |f| Count::from(f.stale_for_ms as u64).to_string()),
    ("unacknowledged", "unac-\nknow-\nledged", |f| {
        format!("{} of {}", f.unacknowledged, f.updates)
    }),
];

const FAILING: [Column<Figures>; 8] = [
    ("answered", "answers", |f| f.answered.to_string()),
    ("expired_answers", "of these\nexpired", |f| f.expired_answers.to_string()),
    ("errors", "errors", |f| f.errors.to_string()),
    ("p99_in_fault_ms", "p99 ms\nin fault", |f| milliseconds(f.p99_in_fault_ms)),
    ("max_in_fault_ms", "max ms\nin fault", |f| milliseconds(f.max_in_fault_ms)),
    ("loads_in_fault", "queries\nin fault", |f| f.loads_in_fault.to_string()),
    ("loads_per_pause", "per\nback-off", |f| f.loads_per_pause.to_string()),
    ("normal_after_s", "normal\nafter s", normal_after),
];

/// To three digits at least.
fn milliseconds(ms: f64) -> String {
    if ms < 100.0 { format!("{ms:.1}") } else { Count::from(ms.round() as u64).to_string() }
}

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
    pub fn add(&mut self, trial: Trial) -> io::Result<()> {
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
                        processes: self.args.processes(),
                        callers: self.args.callers(),
                        keys: self.plan.keys,
                        ttl_ms: self.plan.ttl_ms,
                        load_ms: self.args.load_ms,
                        rounds: self.args.rounds(),
                        figures,
                        error: error.as_deref(),
                    };
                    say(&serde_json::to_string(&row)?)?;
                }
            }
        }
        self.trials.push(trial);
        Ok(())
    }

    /// Of each strategy, in all faults that befell it.
    pub fn seen(&self) -> Vec<Seen> {
        let of = |strategy: Strategy| {
            let own = self.trials.iter().filter(move |trial| trial.strategy == strategy);
            let figures = own.filter_map(|trial| match &trial.outcome {
                Outcome::NotApplicable => None,
                Outcome::Ended(ended) => Some(&ended.figures),
            });
            let sum = |count: fn(&Figures) -> Count| figures.clone().map(count).sum();
            Seen {
                strategy,
                loads: sum(|figures| figures.loads),
                errors: sum(|figures| figures.errors),
                stale: sum(|figures| figures.stale_answers),
                max_ms: figures.clone().map(|f| f.max_in_fault_ms).fold(0.0, f64::max),
                commands: None,
                updates: sum(|figures| figures.updates),
            }
        };
        self.args.strategies().into_iter().map(of).collect()
    }

    fn sheet(&self) -> Sheet {
        let is_outage = self.plan.phenomenon == Phenomenon::Outage;
        let columns: &[Column<Figures>] = if is_outage { &OUTAGE } else { &FAILING };
        let heads = is_outage.then_some((FAULT, FAULT)).into_iter().chain([(STRATEGY, STRATEGY)]);
        let heads = heads.chain(columns.iter().map(|(name, heading, _)| (*name, *heading)));
        let cells = |trial: &Trial| {
            let fault = trial.fault.map(|fault| fault.name().to_owned()).into_iter();
            let names = fault.chain([trial.strategy.name().to_owned()]);
            let figures = columns.iter().map(|(_, _, cell)| match &trial.outcome {
                Outcome::NotApplicable => NONE.to_owned(),
                Outcome::Ended(ended) => cell(&ended.figures),
            });
            names.chain(figures).collect()
        };
        Sheet::new(heads.collect(), self.trials.iter().map(cells).collect())
    }

    /// The first error of each, and how many it befell.
    fn errors(&self) -> Vec<(&str, usize)> {
        let mut errors: Vec<(&str, usize)> = Vec::new();
        for trial in &self.trials {
            let Outcome::Ended(ended) = &trial.outcome else { continue };
            let Some(error) = &ended.error else { continue };
            match errors.iter_mut().find(|(known, _)| known == error) {
                Some((_, count)) => *count += 1,
                None => errors.push((error, 1)),
            }
        }
        errors
    }

    /// The page for `--report`.
    pub fn page(&self) -> Page {
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
        let last = if self.args.rounds() > 1 { " The time lines show the last one." } else { "" };
        Page {
            title: format!("The stampede: {}", self.plan.phenomenon.name()),
            subtitle: format!(
                "{} Shared store: {}; database: {}; all on one machine with {cores} cores. {}{last}",
                self.plan.story,
                self.far,
                self.origin,
                self.args.averaged()
            ),
            command: args::command_line(),
            sheet: self.sheet(),
            panels: Vec::new(),
            times,
            lines: Vec::new(),
        }
    }
}

impl fmt::Display for TrialTable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, far, origin) = (self.plan.phenomenon.name(), self.far, self.origin);
        let (story, averaged, sheet) = (&self.plan.story, self.args.averaged(), self.sheet());
        let systems = format!("Shared store: {far}, database: {origin}.");
        let caption = format!("{name}: {story} {systems} {averaged}{}", sheet.caption());
        write!(f, "{}\n{}", wrapped(&caption), sheet.terminal())?;
        for (error, count) in self.errors() {
            write!(f, "\n{}", wrapped(&format!("First error in {count} of the rows: {error}.")))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::{fault::Fault, sheet::WIDTH, timeline::Timeline};

    fn ended(large: u64) -> Outcome {
        let figures = Figures {
            answered: large.into(),
            expired_answers: large.into(),
            errors: large.into(),
            p99_in_fault_ms: 12_345.6,
            max_in_fault_ms: 12_345.6,
            loads: large.into(),
            loads_in_fault: large.into(),
            loads_peak: 64_usize.into(),
            loads_peak_per_key: 12_usize.into(),
            loads_per_pause: 73_usize.into(),
            normal_after_s: Some(12.2),
            stale_answers: (large / 10).into(),
            stale_cut_off: (large / 20).into(),
            stale_for_ms: 12_345.6,
            updates: 1_234_usize.into(),
            unacknowledged: (large / 100).into(),
            ..Figures::default()
        };
        Outcome::Ended(Box::new(Ended { figures, timeline: Timeline::default(), error: None }))
    }

    #[test]
    fn every_table_fits_the_terminal() {
        for (phenomenon, faults) in [
            ("outage", vec![Some(Fault::Killed), Some(Fault::Cut)]),
            ("failing-origin", vec![None]),
        ] {
            let line = format!("herd --far redis --phenomenon {phenomenon}");
            let args = Args::parse_from(line.split(' '));
            let plan = Plan::of(&args, 1);
            let mut table = TrialTable::new(&args, &plan);
            for fault in faults {
                for (number, strategy) in args.strategies().into_iter().enumerate() {
                    let outcome = ended(28_797 + number as u64);
                    table.trials.push(Trial { fault, strategy, outcome });
                }
            }
            for line in table.to_string().lines() {
                assert!(line.chars().count() <= WIDTH.into(), "{phenomenon}: {line}");
            }
        }
    }
}
