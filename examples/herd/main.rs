//! The stampede, live: what happens to a database when a cached value is missing and everybody asks.
//!
//! ```text
//! cargo run --release --example herd                        # no server needed
//! cargo run --release --example herd -- --far redis         # real processes, private Redis
//! cargo run --release --example herd -- --far redis --lock zookeeper
//! cargo run --release --example herd -- --far redis --origin postgres \
//!     --phenomenon invalidate --report report.html
//! ```

use std::{io::IsTerminal, process::ExitCode, time::Duration};

use cattleguard::lock::Lock as _;
use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    args::{Args, FarArg, LockArg, OriginArg, Strategy},
    commands::Statistics,
    fleet::Fleet,
    kind::{Kind, Running},
    measure::Round,
    origin::Address,
    phenomenon::{Plan, Point},
    store::Store,
    strategy::{Failure, Far, Settings, Shared},
    table::{Outcome, Place},
    worker::Member,
};

mod args;
mod commands;
#[path = "../console/mod.rs"]
mod console;
mod fleet;
#[path = "../../tests/locks/kind.rs"]
mod kind;
mod measure;
mod origin;
mod phenomenon;
mod report;
#[path = "../../tests/servers/mod.rs"]
mod servers;
mod store;
mod strategy;
mod table;
mod trace;
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

/// The servers and the database of a run. Private ones stop when this is dropped.
struct Ground {
    far: Far,
    statistics: Option<Statistics>,
    origin: Address,
    _lock: Option<Running>,
    _redis: Option<servers::Redis>,
    _postgres: Option<servers::Postgres>,
    _folder: tempfile::TempDir,
}

impl Ground {
    async fn prepare(args: &Args, rows: u32) -> Result<Self, Stop> {
        let folder = tempfile::tempdir()?;
        let redis = match args.far {
            FarArg::PrivateRedis => Some(servers::Redis::start().map_err(Stop::BadInput)?),
            _ => None,
        };
        let url = match (&args.far, &redis) {
            (FarArg::Redis(url), _) => Some(url.clone()),
            (_, Some(redis)) => Some(redis.url()),
            _ => None,
        };
        let lock = match &args.lock {
            LockArg::OfRedis => None,
            _ if url.is_none() => {
                return Err(Stop::BadInput("--lock goes with --far redis".to_owned()));
            }
            LockArg::Private(name) => Some(Kind::start(name).map_err(Stop::BadInput)?),
            LockArg::At(name, address) => Some((Kind::new(name, address), Box::new(()) as Running)),
        };
        if let Some((kind, _)) = &lock {
            try_out(kind).await?;
        }
        let (far, statistics) = match url {
            None => {
                let tier = cattleguard::far::Memory::new();
                (Far::Memory { store: Store::memory(), tier }, None)
            }
            Some(url) => {
                let open = tokio::time::timeout(Duration::from_secs(5), Statistics::open(&url));
                let statistics = match open.await {
                    Ok(Ok(statistics)) => statistics,
                    Ok(Err(error)) => return Err(unreachable_far(&console::chain(&*error))),
                    Err(_) => return Err(unreachable_far("no answer within 5 s")),
                };
                let lock = lock.as_ref().map(|(kind, _)| kind.clone());
                (Far::Redis(Shared { redis: url, lock }), Some(statistics))
            }
        };
        let postgres = match args.origin {
            OriginArg::PrivatePostgres => Some(servers::Postgres::start().map_err(Stop::BadInput)?),
            _ => None,
        };
        let url = match (&args.origin, &postgres) {
            (OriginArg::Postgres(url), _) => Some(url.clone()),
            (_, Some(postgres)) => Some(postgres.url()),
            _ => None,
        };
        let origin = match url {
            None => Address::Sqlite(folder.path().join("origin.db").to_string_lossy().into_owned()),
            Some(url) => Address::Postgres { url, table: format!("herd_{}", std::process::id()) },
        };
        origin.fill(rows).await.map_err(|error| {
            Stop::BadInput(format!(
                "cannot use the database of --origin: {}",
                console::chain(&error)
            ))
        })?;
        let _lock = lock.map(|(_, running)| running);
        Ok(Self {
            far,
            statistics,
            origin,
            _lock,
            _redis: redis,
            _postgres: postgres,
            _folder: folder,
        })
    }

    fn far_name(&self) -> &'static str {
        match self.far {
            Far::Memory { .. } => "memory",
            Far::Redis(_) => "redis",
        }
    }
}

/// A wrong address is told before anything is measured.
async fn try_out(kind: &Kind) -> Result<(), Stop> {
    let opening = async {
        let lock = kind.open().await?;
        let attempt = lock.try_acquire("herd", Duration::from_secs(1)).await?;
        drop(attempt);
        Ok::<(), cattleguard::lock::Error>(())
    };
    let why = match tokio::time::timeout(Duration::from_secs(10), opening).await {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(error)) => console::chain(&error),
        Err(_) => "no answer within 10 s".to_owned(),
    };
    let name = kind.name();
    Err(Stop::BadInput(format!("cannot use the lock of --lock: {why}; `--lock {name}` starts one")))
}

fn unreachable_far(why: &str) -> Stop {
    Stop::BadInput(format!("cannot reach the Redis of --far: {why}; `--far redis` starts one"))
}

async fn run(args: &Args) -> Result<(), Stop> {
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
    let plan = Plan::of(args, keys);
    let mut ground = Ground::prepare(args, plan.keys.max(64)).await?;
    let place = Place {
        far: ground.far_name(),
        lock: args.lock.name(),
        origin: ground.origin.name(),
        load_ms: args.load_ms,
    };
    let outcomes = run_all(args, &plan, place, &mut ground).await;
    if matches!(args.origin, OriginArg::Postgres(_)) {
        ground.origin.clear().await;
    }
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
            place.far, place.origin, args.rounds
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
    let bar = progress(points.len() as u64 * u64::from(args.rounds));
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
    let member = |index| Member {
        index,
        processes: point.processes,
        callers: point.callers,
        pool: (args.pool / point.processes).max(1),
        load_ms: args.load_ms,
    };
    bar.set_message(format!("{}: starting {} processes", point.strategy.name(), point.processes));
    let members = (0..point.processes).map(member).collect();
    let mut fleet = Fleet::start(&settings, &ground.far, &ground.origin, members).await?;
    let mut rounds = Vec::new();
    for round in 0..args.rounds {
        bar.set_message(format!(
            "{}, {} × {}, round {} of {}",
            point.strategy.name(),
            point.processes,
            point.callers,
            round + 1,
            args.rounds
        ));
        let before = sent(&mut ground.statistics, args, point.strategy).await?;
        let (begin, reports) = fleet.round(round, plan.work.clone()).await?;
        let after = sent(&mut ground.statistics, args, point.strategy).await?;
        let commands = after.zip(before).map(|(after, before)| after.saturating_sub(before));
        rounds.push(Round::of(begin, reports, commands));
        bar.inc(1);
    }
    Ok(rounds)
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
