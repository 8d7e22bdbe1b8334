//! Phenomena in which something breaks: each strategy lives through each fault, with a fleet of its own.

use std::{fs::File, io::Write, time::Duration};

use crate::{
    Stop,
    args::{Args, Phenomenon, Strategy},
    command_line,
    database::Database,
    fault::{Fault, Stage},
    figures::Figures,
    fleet::Fleet,
    ground::Ground,
    measure::{Micros, Report},
    members,
    origin::Address,
    phenomenon::{BEFORE_MS, Plan},
    progress,
    sheet::Sheet,
    strategy::{Far, Settings},
    timeline::Timeline,
};

/// A strategy and what befell it.
pub struct Trial {
    /// Of Redis; `None`: the database refused.
    pub fault: Option<Fault>,
    pub strategy: Strategy,
    pub outcome: Outcome,
}

impl Trial {
    pub fn fault_name(&self) -> &'static str {
        self.fault.map_or("refused", Fault::name)
    }
}

pub enum Outcome {
    /// The strategy takes the address of one Redis, and not of Sentinels.
    NotApplicable,
    Ended(Box<Ended>),
}

/// Medians over the rounds, and the last of them.
pub struct Ended {
    pub figures: Figures,
    pub timeline: Timeline,
    pub error: Option<String>,
}

/// What happened in one round.
struct Round {
    begin: Micros,
    fault: (Micros, Micros),
    reports: Vec<Report>,
}

pub async fn run(args: &Args, report: Option<File>) -> Result<(), Stop> {
    let plan = Plan::of(args, 1);
    let mut sheet = Sheet::new(args, &plan);
    match args.phenomenon {
        Phenomenon::Outage => {
            let database = Database::prepare(args, plan.keys.max(64)).await?;
            sheet.set_place("redis", database.origin.name());
            let ran = outages(args, &plan, &database.origin, &mut sheet).await;
            database.clear().await;
            ran?;
        }
        _ => {
            let ground = Ground::prepare(args, plan.keys.max(64)).await?;
            sheet.set_place(ground.far_name(), ground.database.origin.name());
            let ran = failures(args, &plan, &ground, &mut sheet).await;
            ground.database.clear().await;
            ran?;
        }
    }
    if let Some(mut report) = report {
        report.write_all(sheet.page(command_line()).render().as_bytes())?;
    }
    if !args.json {
        println!("{sheet}");
    }
    Ok(())
}

/// Every strategy under every fault of Redis.
async fn outages(
    args: &Args,
    plan: &Plan,
    origin: &Address,
    sheet: &mut Sheet<'_>,
) -> Result<(), Stop> {
    let (faults, strategies) = (args.faults(), args.strategies());
    let bar = progress((faults.len() * strategies.len()) as u64 * u64::from(args.rounds()));
    for fault in faults {
        for strategy in strategies.iter().copied() {
            if fault == Fault::Failover && strategy.takes_one_address() {
                bar.inc(args.rounds().into());
                let outcome = Outcome::NotApplicable;
                bar.suspend(|| sheet.add(Trial { fault: Some(fault), strategy, outcome }));
                continue;
            }
            let mut rounds = Vec::new();
            for number in 1..=args.rounds() {
                let (fault_name, of) = (fault.name(), args.rounds());
                bar.set_message(format!(
                    "{fault_name}, {}, round {number} of {of}",
                    strategy.name()
                ));
                bar.tick();
                // A fault leaves traces: each round has its own Redis and its own processes.
                rounds.push(outage(args, plan, origin, fault, strategy).await?);
                bar.inc(1);
            }
            let outcome = Outcome::of(plan, fault.cuts_off(), &rounds);
            bar.suspend(|| sheet.add(Trial { fault: Some(fault), strategy, outcome }));
        }
    }
    bar.finish_and_clear();
    Ok(())
}

async fn outage(
    args: &Args,
    plan: &Plan,
    origin: &Address,
    fault: Fault,
    strategy: Strategy,
) -> Result<Round, Stop> {
    let mut stage = Stage::set(fault).map_err(Stop::BadInput)?;
    let (settings, far) = (settings(plan, strategy, 0), Far::Redis(stage.shared()));
    let members = members(args, args.processes, args.callers());
    let mut fleet = Fleet::start(&settings, &far, origin, members).await?;
    let begin = fleet.soon();
    let lasts = Duration::from_millis(args.fault_ms());
    let (reports, fault) = tokio::try_join!(
        fleet.round(0, begin, plan.work.clone()),
        stage.strike(begin + BEFORE_MS * 1000, lasts)
    )?;
    Ok(Round { begin, fault, reports })
}

/// Every strategy while the database refuses.
async fn failures(
    args: &Args,
    plan: &Plan,
    ground: &Ground,
    sheet: &mut Sheet<'_>,
) -> Result<(), Stop> {
    let strategies = args.strategies();
    let bar = progress(strategies.len() as u64 * u64::from(args.rounds()));
    for (number, strategy) in strategies.into_iter().enumerate() {
        let settings = settings(plan, strategy, number);
        let members = members(args, args.processes, args.callers());
        let mut fleet =
            Fleet::start(&settings, &ground.far, &ground.database.origin, members).await?;
        let mut rounds = Vec::new();
        for round in 0..args.rounds() {
            bar.set_message(format!(
                "{}, round {} of {}",
                strategy.name(),
                round + 1,
                args.rounds()
            ));
            bar.tick();
            let begin = fleet.soon();
            let reports = fleet.round(round, begin, plan.work.clone()).await?;
            let from = begin + BEFORE_MS * 1000;
            let fault = (from, from + args.fault_ms() * 1000);
            rounds.push(Round { begin, fault, reports });
            bar.inc(1);
        }
        let outcome = Outcome::of(plan, None, &rounds);
        bar.suspend(|| sheet.add(Trial { fault: None, strategy, outcome }));
    }
    bar.finish_and_clear();
    Ok(())
}

fn settings(plan: &Plan, strategy: Strategy, number: usize) -> Settings {
    let namespace = format!("herd-{}-{number}", std::process::id());
    Settings { strategy, namespace, ttl_ms: plan.ttl_ms }
}

impl Outcome {
    fn of(plan: &Plan, cut_off: Option<usize>, rounds: &[Round]) -> Self {
        let lasts = plan.work.lasts_ms() * 1000;
        let timeline = |round: &Round| {
            Timeline::of(round.begin, round.begin + lasts, round.fault, &round.reports)
        };
        let timelines: Vec<_> = rounds.iter().map(timeline).collect();
        let figures = rounds.iter().zip(&timelines).map(|(round, timeline)| {
            Figures::of(
                round.fault.0..round.fault.1,
                timeline.normal_after,
                cut_off,
                &round.reports,
            )
        });
        let middle = Figures::middle(&figures.collect::<Vec<_>>());
        let error = rounds.iter().flat_map(|round| &round.reports).find_map(|r| r.error.clone());
        match (middle, timelines.into_iter().next_back()) {
            (Some(figures), Some(timeline)) => {
                Self::Ended(Box::new(Ended { figures, timeline, error }))
            }
            _ => Self::NotApplicable,
        }
    }
}
