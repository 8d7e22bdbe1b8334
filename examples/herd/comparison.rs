//! Phenomena in which nothing breaks: each strategy at each size, with a fleet of its own.

use std::{fs::File, io::Write};

use indicatif::ProgressBar;

use crate::{
    args::{Args, LockArg},
    cache::Settings,
    closing::closing,
    environment::Environment,
    error::Error,
    fleet::Fleet,
    output::say,
    plan::{Plan, Point},
    progress,
    round::Round,
    strategy::Strategy,
    table::{self, Outcome, Systems},
    worker::Member,
};

/// `keys` is the number of keys in the trace, if there is one.
pub async fn run(args: &Args, keys: u32, report: Option<File>) -> Result<(), Error> {
    let plan = Plan::of(args, keys);
    let mut environment = Environment::prepare(args, plan.keys.max(64)).await?;
    let systems = Systems {
        far: environment.far_name(),
        lock: args.lock.name(),
        origin: environment.database.origin.name(),
        load_ms: args.load_ms,
    };
    let outcomes = run_all(args, &plan, systems, &mut environment).await;
    environment.database.clear().await;
    let outcomes = outcomes?;
    if let Some(mut report) = report {
        let page = table::page(args, &plan, systems, &outcomes);
        report.write_all(page.render().as_bytes())?;
    }
    if !args.json {
        say(&table::terminal(args, &plan, systems, &outcomes))?;
        say(&format!("\n{}", closing(args, &table::seen(&outcomes))))?;
    }
    let error =
        outcomes.iter().flat_map(|outcome| &outcome.rounds).find_map(|round| round.error.as_ref());
    if let Some(error) = error {
        eprintln!("the first error of a caller: {error}");
    }
    Ok(())
}

async fn run_all(
    args: &Args,
    plan: &Plan,
    systems: Systems,
    environment: &mut Environment,
) -> Result<Vec<Outcome>, Error> {
    let points = plan.points(args);
    let bar = progress::bar(points.len() as u64 * u64::from(args.rounds()));
    let mut outcomes: Vec<Outcome> = Vec::new();
    for (number, point) in points.iter().enumerate() {
        let rounds = run_point(args, plan, point, number, environment, &bar).await?;
        let outcome = Outcome::of(plan, point, systems, rounds);
        let row = &outcome.row;
        let line = format!(
            "{:>12}  {} × {}: {} requests, {}, {} at once, p50 {:.1} ms, max {:.1} ms",
            row.strategy,
            row.processes,
            row.callers,
            row.requests,
            row.loads.of("database query", "database queries"),
            row.loads_peak,
            row.p50_ms,
            row.max_ms
        );
        bar.suspend(|| eprintln!("{line}"));
        if args.json {
            bar.suspend(|| say(&serde_json::to_string(row)?))?;
        }
        outcomes.push(outcome);
    }
    bar.finish_and_clear();
    Ok(outcomes)
}

/// All rounds of one strategy at one size, by a fleet of its own.
async fn run_point(
    args: &Args,
    plan: &Plan,
    point: &Point,
    number: usize,
    environment: &mut Environment,
    bar: &ProgressBar,
) -> Result<Vec<Round>, Error> {
    let settings = Settings::new(point.strategy, number, plan.ttl_ms);
    let settings = Settings { tagged: args.tagged(), ..settings };
    let Point { strategy, processes, callers } = *point;
    bar.set_message(format!("{}: starting {processes} processes", strategy.name()));
    let members = Member::all(args, processes, callers);
    let (far, origin) = (&environment.far, &environment.database.origin);
    let mut fleet = Fleet::start(&settings, far, origin, members).await?;
    let mut rounds = Vec::new();
    for round in 0..args.rounds() {
        let (name, number, of) = (strategy.name(), round + 1, args.rounds());
        bar.set_message(format!("{name}, {processes} × {callers}, round {number} of {of}"));
        let before = sent(environment, args, strategy).await?;
        let begin = fleet.soon();
        let reports = fleet.round(round, begin, plan.work.clone()).await?;
        let after = sent(environment, args, strategy).await?;
        let commands = after.zip(before).map(|(after, before)| after.saturating_sub(before));
        rounds.push(Round::of(begin, &reports, commands));
        bar.inc(1);
    }
    Ok(rounds)
}

/// How many commands the strategy has sent to Redis so far, where there is one.
async fn sent(
    environment: &mut Environment,
    args: &Args,
    strategy: Strategy,
) -> Result<Option<u64>, Error> {
    let elected = !matches!(args.lock, LockArg::OfRedis);
    match &mut environment.commands {
        Some(commands) => Ok(Some(commands.sent(strategy, elected).await?)),
        None => Ok(None),
    }
}
