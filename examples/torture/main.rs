//! Whether the cache keeps its promises where everything breaks: real processes over a real Redis, a nemesis, and a
//! judge that reads what they saw.
//!
//! ```text
//! cargo run --release --example torture                         # a minute of everything
//! cargo run --release --example torture -- --seconds 300 --seed 7 --far cluster
//! cargo run --release --example torture -- --far lock --lock zookeeper --faults killed,frozen
//! ```
//!
//! Every answer names the load or the put that it came from. What the docs admit under a fault of the run is counted
//! apart. Exits with 1 if a promise was broken, and tells the shortest history that shows it.

use std::{fs::File, io::Write, process::ExitCode, sync::Arc};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    args::Args,
    error::Error,
    fleet::{Common, Fleet},
    history::{Bounds, judge},
    moment::micros,
    nemesis::Nemesis,
    origin::{Mood, Origin},
    progress::Progress,
    record::{Record, Seen},
    store::Store,
};

mod act;
mod address;
mod args;
mod caller;
#[path = "../console/child.rs"]
mod child;
#[path = "../console/mod.rs"]
mod console;
mod error;
mod fleet;
#[path = "../../tests/history/mod.rs"]
mod history;
#[path = "../../tests/locks/kind.rs"]
mod kind;
mod load;
mod message;
mod moment;
mod nemesis;
mod observer;
mod origin;
mod process;
mod progress;
mod record;
mod row;
#[path = "../../tests/servers/mod.rs"]
mod servers;
mod store;
mod table;
mod teller;
mod worker;
mod writer;

const NAME: &str = "torture";

fn main() -> ExitCode {
    let args = match console::parse::<Args>().and_then(Args::checked) {
        Ok(args) => args,
        Err(line) => return console::bad_input(NAME, &line),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return console::failed(NAME, &error),
    };
    if args.worker {
        return child::run(NAME, &runtime, worker::live());
    }
    let ended = runtime.block_on(async {
        tokio::select! {
            ended = run(&args) => Some(ended),
            () = console::interrupted() => None,
        }
    });
    // Everything that `run` held is dropped by now: processes and private servers are gone.
    runtime.shutdown_background();
    match ended {
        Some(Ok(true)) => ExitCode::SUCCESS,
        Some(Ok(false)) => ExitCode::FAILURE,
        Some(Err(Error::BadInput(line))) => console::bad_input(NAME, &line),
        Some(Err(Error::Failed(error))) => console::failed(NAME, &*error),
        None => ExitCode::from(130),
    }
}

/// Whether every promise was kept.
async fn run(args: &Args) -> Result<bool, Error> {
    if let Some(path) = &args.judge {
        let seen = Seen::read(path)
            .map_err(|error| Error::BadInput(format!("cannot read {}: {error}", path.display())))?;
        return Ok(judged(&seen)?);
    }
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    if let Some(path) = &args.record {
        let advice = "name a file in a folder that exists";
        File::create(path).map_err(|error| {
            Error::BadInput(format!("cannot write {}: {error}; {advice}", path.display()))
        })?;
    }
    let record = Arc::new(Record::default());
    let ended = torment(args, seed, &record).await;
    if let Err(Error::BadInput(_)) = ended {
        return ended.map(|()| false);
    }
    let is_kept = record.with(|seen| {
        if let Some(path) = &args.record {
            seen.write(path)?;
        }
        judged(seen)
    });
    ended?;
    let is_kept = is_kept?;
    let mut out = std::io::stdout();
    if !is_kept {
        writeln!(out, "A promise was broken. The same again:\n  {}", args.command(seed))?;
    }
    Ok(is_kept)
}

/// Says what was seen, and whether every promise was kept.
fn judged(seen: &Seen) -> std::io::Result<bool> {
    let verdict = judge(&seen.events, &seen.faults, &bounds());
    let mut out = std::io::stdout();
    writeln!(out, "{}\n{}", table::operations(seen), table::faults(seen))?;
    writeln!(out, "{}\n{}", table::verdict(&verdict), table::breaches(&verdict))?;
    if let Some(fatal) = &seen.fatal {
        writeln!(out, "{fatal}")?;
    }
    Ok(verdict.is_kept() && seen.fatal.is_none())
}

/// Everything from the start of the first server to the end of the last process.
async fn torment(args: &Args, seed: u64, record: &Arc<Record>) -> Result<(), Error> {
    let acts = args.acts();
    let lock = args.lock().map(kind::Kind::start).transpose().map_err(Error::BadInput)?;
    let store = Store::start(args.far, &acts).map_err(Error::BadInput)?;
    let database = servers::Redis::start().map_err(Error::BadInput)?;
    let (lock, _lock_servers) = lock.unzip();
    let far = address::Address { redis: store.address(), lock };
    let origin = Origin::open(&database.url()).await?;
    origin.turn(Mood::Well).await?;
    let rate = args.rate / args.processes;
    let common = Common { far: far.clone(), origin: database.url(), seed, rate };
    let fleet = Fleet::start(args.processes, common, record.clone()).await?;
    let observer = observe(&far, record.clone()).await?;
    let progress = Progress::new(args.seconds, record.clone());
    let rng = fastrand::Rng::with_seed(seed);
    let record = record.clone();
    let store = Arc::new(Mutex::new(store));
    let mut nemesis = Nemesis { far: args.far, acts, rng, record, fleet, store, origin };
    let ended = tokio::select! {
        ended = nemesis.run(Instant::now() + args.lasts(), &progress) => ended,
        () = progress.run() => Ok(()),
    };
    progress.done();
    ended?;
    nemesis.fleet.stop().await?;
    observer.abort();
    Ok(())
}

async fn observe(
    far: &address::Address,
    record: Arc<Record>,
) -> Result<tokio::task::JoinHandle<()>, error::Failure> {
    let redis = far.open().await?;
    Ok(match &far.lock {
        None => tokio::spawn(observer::watch(redis, record)),
        Some(lock) => {
            let elected = redis.elected_by(lock.open().await?);
            tokio::spawn(observer::watch(elected, record))
        }
    })
}

fn bounds() -> Bounds {
    use std::time::Duration;

    Bounds {
        lease_ttl: micros(Duration::from_secs(2)),
        near_ttl: micros(Duration::from_secs(5)),
        near_outage_ttl: micros(Duration::from_millis(500)),
        longest_load: micros(worker::LOAD_TIMEOUT),
        loads_at_once: worker::LOADS_AT_ONCE,
        settling: micros(nemesis::SETTLED),
        // Two cores, a dozen processes.
        slack: micros(Duration::from_secs(1)),
    }
}
