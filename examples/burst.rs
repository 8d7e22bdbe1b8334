//! Many distinct cold keys at once, on one process and one Redis: is a burst of our own taken for an outage?
//!
//! ```text
//! cargo run --release --example burst             # a healthy Redis
//! cargo run --release --example burst -- --kill   # killed in the middle of each burst, back after a second
//! ```
//!
//! It needs `redis-server` on PATH. Exits with 1 if something stale or an error was answered; in the closed loop, if
//! that happens in its last two seconds.

use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use cattleguard::{
    Error, Fetched, Guard, Loaded, Outcome, Policy,
    codec::Json,
    redis::{Connection, RedisFar},
};
use clap::{Parser, value_parser};
use futures::{StreamExt, future::join_all, stream};
use servers::Redis;

#[path = "console/mod.rs"]
mod console;
#[path = "../tests/servers/mod.rs"]
mod servers;

type Failure = Box<dyn std::error::Error + Send + Sync>;
type Rows = Guard<u64, u64>;

const NAME: &str = "burst";
/// How long a Redis that was killed is away.
const AWAY: Duration = Duration::from_secs(1);

#[derive(Parser, Clone, Debug)]
#[command(name = NAME, version, about = "Many distinct cold keys at once: fetched, as a batch, invalidated, in a closed loop")]
struct Args {
    /// How many keys
    #[arg(long, default_value_t = 20_000, value_parser = value_parser!(u64).range(1..=100_000))]
    keys: u64,
    /// How many keys of the batch
    #[arg(long, value_name = "KEYS", default_value_t = 20_000, value_parser = value_parser!(u64).range(1..=1_000_000))]
    batch: u64,
    /// How long a load takes, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 10)]
    load_ms: u64,
    /// Callers of the closed loop
    #[arg(long, default_value_t = 10_000, value_parser = value_parser!(u64).range(1..=100_000))]
    callers: u64,
    /// How long the closed loop runs
    #[arg(long, value_name = "SECONDS", default_value_t = 12)]
    seconds: u64,
    /// Kill Redis in the middle of each burst; without the closed loop
    #[arg(long)]
    kill: bool,
}

/// All rows have one version, which is their value.
#[derive(Debug)]
struct Origin {
    takes: Duration,
    version: AtomicU64,
    loads: AtomicU64,
}

impl Origin {
    fn new(args: &Args) -> Arc<Self> {
        let takes = Duration::from_millis(args.load_ms);
        Arc::new(Self { takes, version: AtomicU64::new(1), loads: AtomicU64::new(0) })
    }

    async fn load(&self) -> Result<Loaded<u64>, Failure> {
        self.loads.fetch_add(1, Relaxed);
        let version = self.version.load(Relaxed);
        tokio::time::sleep(self.takes).await;
        Ok(Loaded::found(version, version))
    }
}

/// What callers were answered.
#[derive(Default)]
struct Tally {
    answered: u64,
    bypassed: u64,
    stale: u64,
    errors: u64,
    first_error: Option<String>,
}

impl Tally {
    fn count(&mut self, answer: Result<Fetched<u64>, Error>, oldest: u64) {
        match answer {
            Ok(fetched) => {
                self.answered += 1;
                self.bypassed += u64::from(matches!(fetched.outcome(), Outcome::Bypassed(_)));
                self.stale += u64::from(fetched.value().is_none_or(|version| *version < oldest));
            }
            Err(error) => self.fail(&error),
        }
    }

    fn fail(&mut self, error: &Error) {
        self.errors += 1;
        self.first_error.get_or_insert_with(|| console::chain(error));
    }

    /// Prints it; whether it is as it should be.
    fn tell(&self, what: &str, took: Duration, loads: u64) -> bool {
        let Self { answered, bypassed, stale, errors, .. } = self;
        let seconds = took.as_secs_f64();
        println!(
            "{what:<28}{seconds:>8.2}{answered:>10}{bypassed:>10}{errors:>9}{stale:>7}{loads:>9}"
        );
        if let Some(error) = &self.first_error {
            println!("    {error}");
        }
        stale + errors == 0
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let args: Args = match console::parse() {
        Ok(args) => args,
        Err(line) => return console::bad_input(NAME, &line),
    };
    let ended = tokio::select! {
        ended = run(&args) => ended,
        () = console::interrupted() => return ExitCode::from(130),
    };
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => console::failed(NAME, &*error),
    }
}

async fn run(args: &Args) -> Result<bool, Failure> {
    println!("{} keys, loads of {} ms", args.keys, args.load_ms);
    let [seconds, answered, bypassed, errors] = ["seconds", "answered", "bypassed", "errors"];
    println!(
        "{:<28}{seconds:>8}{answered:>10}{bypassed:>10}{errors:>9}{:>7}{:>9}",
        "", "stale", "loads"
    );
    let mut is_well = fetches(args).await?;
    is_well &= batch(args).await?;
    is_well &= invalidations(args).await?;
    if !args.kill {
        is_well &= closed_loop(args).await?;
    }
    Ok(is_well)
}

async fn rows(redis: &Redis, policy: Policy) -> Result<Rows, Failure> {
    let redis = Connection::open(&redis.url()).await?;
    Ok(Guard::builder()
        .policy(policy)
        .near_capacity(100_000)
        .far(RedisFar::new(redis, Json))
        .build())
}

async fn fetch(rows: Rows, key: u64, origin: Arc<Origin>) -> Result<Fetched<u64>, Error> {
    rows.fetch(&key, move || {
        let origin = origin.clone();
        async move { origin.load().await }
    })
    .await
}

async fn fetches(args: &Args) -> Result<bool, Failure> {
    let (mut redis, origin) = (start(args)?, Origin::new(args));
    let queue = usize::try_from(args.keys)?;
    let rows = rows(&redis, Policy::default().max_queued_loads(queue)).await?;
    let begun = Instant::now();
    let callers: Vec<_> =
        (0..args.keys).map(|key| tokio::spawn(fetch(rows.clone(), key, origin.clone()))).collect();
    kill_in_the_middle(args, &mut redis, || origin.loads.load(Relaxed) > args.keys / 4).await?;
    let mut tally = Tally::default();
    for caller in callers {
        tally.count(caller.await?, 1);
    }
    Ok(tally.tell("fetches at once", begun.elapsed(), origin.loads.load(Relaxed)))
}

async fn batch(args: &Args) -> Result<bool, Failure> {
    let (mut redis, origin) = (start(args)?, Origin::new(args));
    let rows = rows(&redis, Policy::default()).await?;
    let (begun, loads) = (Instant::now(), origin.clone());
    let keys: Vec<u64> = (0..args.batch).collect();
    let fetching = tokio::spawn(async move {
        let load_many = move |keys: Vec<u64>| {
            let origin = loads.clone();
            async move {
                let row = origin.load().await?;
                Ok::<_, Failure>(keys.into_iter().map(|key| (key, row.clone())).collect())
            }
        };
        rows.fetch_many(&keys, load_many).await
    });
    kill_in_the_middle(args, &mut redis, || origin.loads.load(Relaxed) > 0).await?;
    let mut tally = Tally::default();
    for answer in fetching.await? {
        tally.count(answer, 1);
    }
    let is_well = tally.tell("one fetch_many", begun.elapsed(), origin.loads.load(Relaxed));
    if let Some(memory) = peak_memory() {
        println!("    this process had {memory} at its peak until now");
    }
    Ok(is_well)
}

/// As Linux tells it.
fn peak_memory() -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kib: u64 = status.split("VmHWM:").nth(1)?.split_whitespace().next()?.parse().ok()?;
    Some(format!("{} MiB", kib / 1024))
}

/// One process invalidates what all have; another one must not answer the old value once that is over.
async fn invalidations(args: &Args) -> Result<bool, Failure> {
    let (mut redis, origin) = (start(args)?, Origin::new(args));
    let queue = usize::try_from(args.keys)?;
    let policy = Policy::default().max_queued_loads(queue);
    let (one, other) = (rows(&redis, policy.clone()).await?, rows(&redis, policy).await?);
    join_all((0..args.keys).map(|key| fetch(one.clone(), key, origin.clone()))).await;
    origin.version.store(2, Relaxed);
    let (begun, done) = (Instant::now(), Arc::new(AtomicU64::new(0)));
    let invalidations: Vec<_> = (0..args.keys)
        .map(|key| {
            let (one, done) = (one.clone(), done.clone());
            tokio::spawn(async move {
                let invalidated = one.invalidate_at(&key, 2).await;
                done.fetch_add(1, Relaxed);
                invalidated
            })
        })
        .collect();
    kill_in_the_middle(args, &mut redis, || done.load(Relaxed) > args.keys / 4).await?;
    let (mut tally, mut pending) = (Tally::default(), 0);
    for invalidation in invalidations {
        match invalidation.await? {
            Ok(_) => tally.answered += 1,
            // Kept, and sent when Redis is back.
            Err(_) if args.kill => pending += 1,
            Err(error) => tally.fail(&error),
        }
    }
    let is_well = tally.tell("invalidations at once", begun.elapsed(), 0);
    if args.kill {
        println!(
            "    {pending} were told that Redis did not take them; three seconds for them to go through"
        );
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    let (begun, before, mut tally) = (Instant::now(), origin.loads.load(Relaxed), Tally::default());
    let mut answers = stream::iter(0..args.keys)
        .map(|key| fetch(other.clone(), key, origin.clone()))
        .buffer_unordered(1_000);
    while let Some(answer) = answers.next().await {
        tally.count(answer, 2);
    }
    let loads = origin.loads.load(Relaxed) - before;
    Ok(tally.tell("fetches elsewhere after it", begun.elapsed(), loads) && is_well)
}

/// Each caller fetches one key after the other, with the default policy: more than the bulkhead takes.
async fn closed_loop(args: &Args) -> Result<bool, Failure> {
    let (redis, origin) = (Redis::start()?, Origin::new(args));
    let rows = rows(&redis, Policy::default()).await?;
    let (answers, mut answered) = tokio::sync::mpsc::unbounded_channel();
    for _ in 0..args.callers {
        let (rows, origin, answers, keys) =
            (rows.clone(), origin.clone(), answers.clone(), args.keys);
        tokio::spawn(async move {
            while answers
                .send(fetch(rows.clone(), fastrand::u64(..keys), origin.clone()).await)
                .is_ok()
            {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
    }
    let mut is_well = true;
    for second in 1..=args.seconds {
        let (mut tally, before) = (Tally::default(), origin.loads.load(Relaxed));
        let end = tokio::time::sleep(Duration::from_secs(1));
        tokio::pin!(end);
        loop {
            tokio::select! {
                biased;
                () = &mut end => break,
                Some(answer) = answered.recv() => tally.count(answer, 1),
            }
        }
        let loads = origin.loads.load(Relaxed) - before;
        let went_well =
            tally.tell(&format!("closed loop, second {second}"), Duration::from_secs(1), loads);
        is_well &= went_well || second + 1 < args.seconds;
    }
    Ok(is_well)
}

/// Of one that will be killed, all that it has acknowledged is there again: it waits for the disk.
fn start(args: &Args) -> Result<Redis, String> {
    const SAVED: &[&str] = &["--appendonly", "yes", "--appendfsync", "always"];
    Redis::start_with(if args.kill { SAVED } else { &[] })
}

async fn kill_in_the_middle(
    args: &Args,
    redis: &mut Redis,
    is_middle: impl Fn() -> bool,
) -> Result<(), Failure> {
    if !args.kill {
        return Ok(());
    }
    while !is_middle() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    redis.kill();
    tokio::time::sleep(AWAY).await;
    tokio::task::block_in_place(|| redis.restart_with_data())?;
    Ok(())
}
