//! The stampede, live: what happens to a database when a cached value is missing and everybody asks.
//!
//! ```text
//! cargo run --release --example herd                        # no server needed
//! cargo run --release --example herd -- --far redis         # real processes, private Redis
//! cargo run --release --example herd -- --far redis --lock zookeeper
//! cargo run --release --example herd -- --far redis --origin postgres \
//!     --phenomenon invalidate --report report.html
//! cargo run --release --example herd -- --far redis --phenomenon outage --report report.html
//! cargo run --release --example herd -- --phenomenon failing-origin
//! ```

use std::{io::IsTerminal, process::ExitCode, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    args::{Args, LockArg, Strategy},
    commands::Statistics,
    fleet::Fleet,
    ground::Ground,
    measure::Round,
    phenomenon::{Plan, Point},
    strategy::{Failure, Settings},
    table::{Outcome, Place},
    worker::Member,
};

mod args;
mod commands;
#[path = "../console/mod.rs"]
mod console;
mod database;
mod fault;
mod figures;
mod fleet;
mod ground;
#[path = "../../tests/locks/kind.rs"]
mod kind;
mod measure;
mod origin;
mod phenomenon;
mod report;
#[path = "../../tests/servers/mod.rs"]
mod servers;
mod sheet;
mod store;
mod strategy;
mod table;
mod timeline;
mod trace;
mod trial;
mod way;
mod worker;

const NAME: &str = "herd";

/// Why there are no results.
enum Stop {
    /// The arguments or the servers they name cannot be used.
    BadInput(String),
    Failed(Failure),
}

impl<E: Into<Failure>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

fn main() -> ExitCode {
    let args = match console::parse::<Args>() {
        Ok(args) => args,
        Err(line) => return console::bad_input(NAME, &line),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return console::failed(NAME, &error),
    };
    worker::count_refused();
    if args.worker {
        // Ctrl-C reaches every process of the terminal; a worker ends when its input does.
        runtime.spawn(async { while tokio::signal::ctrl_c().await.is_ok() {} });
        return match runtime.block_on(worker::live()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => console::failed(NAME, &*error),
        };
    }
    let ended = runtime.block_on(async {
        tokio::select! {
            ended = run(&args) => Some(ended),
            () = console::interrupted() => None,
        }
    });
    // Everything that `run` held is dropped by now: processes and private servers are gone.
    match ended {
        Some(Ok(())) => ExitCode::SUCCESS,
        Some(Err(Stop::BadInput(line))) => console::bad_input(NAME, &line),
        Some(Err(Stop::Failed(error))) => console::failed(NAME, &*error),
        None => ExitCode::from(130),
    }
}

async fn run(args: &Args) -> Result<(), Stop> {
    args.check().map_err(Stop::BadInput)?;
    let keys = match &args.trace {
        Some(trace) => trace::read(trace).map_err(Stop::BadInput)?.1,
        None => 1,
    };
    let report = match &args.report {
        Some(path) => Some(std::fs::File::create(path).map_err(|error| {
            Stop::BadInput(format!("cannot write the report {}: {error}", path.display()))
        })?),
        None => None,
    };
    if args.phenomenon.is_trial() {
        return trial::run(args, report).await;
    }
    let plan = Plan::of(args, keys);
    let mut ground = Ground::prepare(args, plan.keys.max(64)).await?;
    let place = Place {
        far: ground.far_name(),
        lock: args.lock.name(),
        origin: ground.database.origin.name(),
        load_ms: args.load_ms,
    };
    let outcomes = run_all(args, &plan, place, &mut ground).await;
    ground.database.clear().await;
    let outcomes = outcomes?;
    if let Some(mut report) = report {
        use std::io::Write;
        report
            .write_all(table::page(&plan, place, &outcomes, command_line()).render().as_bytes())?;
    }
    if !args.json {
        if !matches!(args.lock, LockArg::OfRedis) {
            println!("The lock of cattleguard: {}.", place.lock);
        }
        println!("{}: {}", plan.phenomenon.name(), plan.story);
        println!(
            "Shared store: {}, database: {}. Medians of {} rounds.",
            place.far,
            place.origin,
            args.rounds()
        );
        println!("{}", table::table(&outcomes));
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
    place: Place,
    ground: &mut Ground,
) -> Result<Vec<Outcome>, Stop> {
    let points = plan.points(args);
    let bar = progress(points.len() as u64 * u64::from(args.rounds()));
    let mut outcomes: Vec<Outcome> = Vec::new();
    for (number, point) in points.iter().enumerate() {
        let rounds = run_point(args, plan, point, number, ground, &bar).await?;
        let outcome = Outcome::of(plan, point, place, rounds);
        let row = &outcome.row;
        let line = format!(
            "{:>12}  {} × {}: {} requests, {} database queries, {} at once, p50 {:.1} ms, max {:.1} ms",
            row.strategy,
            row.processes,
            row.callers,
            row.requests,
            row.loads,
            row.loads_peak,
            row.p50_ms,
            row.max_ms
        );
        bar.suspend(|| eprintln!("{line}"));
        if args.json {
            bar.suspend(|| println!("{}", serde_json::to_string(row).unwrap_or_default()));
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
    ground: &mut Ground,
    bar: &ProgressBar,
) -> Result<Vec<Round>, Stop> {
    let settings = Settings {
        strategy: point.strategy,
        // Nothing that an earlier fleet left may be found by a later one.
        namespace: format!("herd-{}-{number}", std::process::id()),
        ttl_ms: plan.ttl_ms,
    };
    bar.set_message(format!("{}: starting {} processes", point.strategy.name(), point.processes));
    let members = members(args, point.processes, point.callers);
    let mut fleet = Fleet::start(&settings, &ground.far, &ground.database.origin, members).await?;
    let mut rounds = Vec::new();
    for round in 0..args.rounds() {
        bar.set_message(format!(
            "{}, {} × {}, round {} of {}",
            point.strategy.name(),
            point.processes,
            point.callers,
            round + 1,
            args.rounds()
        ));
        let before = sent(&mut ground.statistics, args, point.strategy).await?;
        let begin = fleet.soon();
        let reports = fleet.round(round, begin, plan.work.clone()).await?;
        let after = sent(&mut ground.statistics, args, point.strategy).await?;
        let commands = after.zip(before).map(|(after, before)| after.saturating_sub(before));
        rounds.push(Round::of(begin, &reports, commands));
        bar.inc(1);
    }
    Ok(rounds)
}

fn members(args: &Args, processes: u32, callers: u32) -> Vec<Member> {
    let pool = (args.pool / processes).max(1);
    let member = |index| Member { index, processes, callers, pool, load_ms: args.load_ms };
    (0..processes).map(member).collect()
}

async fn sent(
    statistics: &mut Option<Statistics>,
    args: &Args,
    strategy: Strategy,
) -> Result<Option<u64>, Stop> {
    let paired = !matches!(args.lock, LockArg::OfRedis);
    match statistics {
        Some(statistics) => Ok(Some(statistics.sent(strategy, paired).await?)),
        None => Ok(None),
    }
}

fn progress(rounds: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(rounds);
    if let Ok(style) =
        ProgressStyle::with_template("{elapsed:>4} {bar:32} {pos}/{len} rounds  {msg}")
    {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// The command that gives these results again.
fn command_line() -> String {
    let given: Vec<String> = std::env::args().skip(1).collect();
    format!("cargo run --release --example herd -- {}", given.join(" "))
}
