//! Every lock of the crate, side by side in one run: what a turn costs alone and in parallel, how fast
//! and how fairly it is handed over, and what a killed holder costs. Starts the servers it needs,
//! with their writes synced to disk as by default.
//!
//! `cargo bench --bench locks [-- KIND...]`

use std::{
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use cattleguard::lock::{BoxLock, Lock};
use comfy_table::{CellAlignment, Table, presets};
use parking_lot::Mutex;
use tokio::{task::JoinSet, time::sleep};

#[path = "../tests/locks/kind.rs"]
mod kind;
#[path = "../tests/servers/mod.rs"]
mod servers;

use kind::Kind;

const PHASE: Duration = Duration::from_secs(2);
const CONTENDERS: usize = 8;
const HOLD: Duration = Duration::from_millis(2);
const THINK: Duration = Duration::from_millis(4);
/// The default lease ttl.
const TTL: Duration = Duration::from_secs(2);
const KILLS: usize = 3;

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let runtime = tokio::runtime::Runtime::new()?;
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    if let [order, kind] = &words[..]
        && order == "hold"
    {
        return runtime.block_on(hold(Kind(kind.clone())));
    }
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN).set_header([
        "lock",
        "turns/s, 1 client",
        "to redis",
        "p50 µs",
        "turns/s, 8 names",
        "hand-over p50 ms",
        "p99 ms",
        "grants least / most of 8",
        "killed holder s",
    ]);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let mut redis = None;
    for name in KINDS.into_iter().filter(|kind| words.is_empty() || words.iter().any(|w| w == kind))
    {
        let (kind, _servers) = Kind::start_synced(name)?;
        eprintln!("{name} …");
        let figures = runtime.block_on(measure(&kind))?;
        if name == "redis" {
            redis = Some(figures.alone);
        }
        table.add_row(figures.row(name, redis));
    }
    println!("{table}");
    Ok(())
}

const KINDS: [&str; 10] = [
    "memory",
    "redis",
    "redis-quorum",
    "postgres",
    "postgres-row",
    "postgres-row-unlogged",
    "mysql",
    "mysql-row",
    "zookeeper",
    "zookeeper-3",
];

struct Figures {
    /// Turns a second of one client.
    alone: f64,
    turn: Duration,
    parallel: f64,
    /// Sorted.
    hand_overs: Vec<Duration>,
    least: u64,
    most: u64,
    kill: Option<Duration>,
}

impl Figures {
    fn row(&self, name: &str, redis: Option<f64>) -> [String; 9] {
        let ms = |share: f64| {
            let at = (self.hand_overs.len() as f64 * share) as usize;
            let value = self.hand_overs.get(at.min(self.hand_overs.len().saturating_sub(1)));
            value.map_or("–".into(), |value| format!("{:.2}", value.as_secs_f64() * 1e3))
        };
        [
            name.to_owned(),
            format!("{:.0}", self.alone),
            redis.map_or("–".into(), |redis| format!("{:.2}", self.alone / redis)),
            format!("{:.0}", self.turn.as_secs_f64() * 1e6),
            format!("{:.0}", self.parallel),
            ms(0.5),
            ms(0.99),
            format!("{} / {}", self.least, self.most),
            self.kill.map_or("–".into(), |kill| format!("{:.2}", kill.as_secs_f64())),
        ]
    }
}

async fn measure(kind: &Kind) -> Result<Figures, Failure> {
    // As many locks as clients: nothing is shared between them that processes would not share.
    let mut locks = Vec::new();
    for _ in 0..CONTENDERS {
        locks.push(kind.open().await?);
    }
    alone(&locks[0], "warm-up", PHASE / 4).await?;
    let mut turns = alone(&locks[0], "alone", PHASE).await?;
    turns.sort_unstable();
    let mut side_by_side = JoinSet::new();
    for (number, lock) in locks.iter().cloned().enumerate() {
        side_by_side.spawn(async move { alone(&lock, &format!("own {number}"), PHASE).await });
    }
    let mut parallel = 0;
    while let Some(turns) = side_by_side.join_next().await {
        parallel += turns??.len();
    }
    let (hand_overs, grants) = contend(locks.clone()).await?;
    let kill = if kind.name() == "memory" { None } else { Some(kill(kind, &locks[0]).await?) };
    Ok(Figures {
        alone: turns.len() as f64 / PHASE.as_secs_f64(),
        turn: turns[turns.len() / 2],
        parallel: parallel as f64 / PHASE.as_secs_f64(),
        hand_overs,
        least: grants.iter().copied().min().unwrap_or(0),
        most: grants.iter().copied().max().unwrap_or(0),
        kill,
    })
}

/// One client on a name of its own; how long each turn took.
async fn alone(lock: &BoxLock, name: &str, phase: Duration) -> Result<Vec<Duration>, Failure> {
    let (begin, mut turns) = (Instant::now(), Vec::new());
    while begin.elapsed() < phase {
        let turn = Instant::now();
        lock.acquire(name, TTL, deadline()).await?.release().await?;
        turns.push(turn.elapsed());
    }
    Ok(turns)
}

/// All clients on one name: the time from the beginning of a release to the next grant, and the grants of
/// each client.
async fn contend(locks: Vec<BoxLock>) -> Result<(Vec<Duration>, Vec<u64>), Failure> {
    let epoch = Instant::now();
    let (released, hand_overs) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(Vec::new())));
    let last = Arc::new(AtomicU64::new(u64::MAX));
    let mut contenders = JoinSet::new();
    for (number, lock) in locks.into_iter().enumerate() {
        let (released, hand_overs, last) = (released.clone(), hand_overs.clone(), last.clone());
        contenders.spawn(async move {
            let mut grants = 0;
            while epoch.elapsed() < PHASE * 2 {
                let lease = lock.acquire("contended", TTL, deadline()).await?;
                let now = epoch.elapsed().as_nanos() as u64;
                let before = released.swap(0, Ordering::SeqCst);
                if last.swap(number as u64, Ordering::SeqCst) != number as u64 && before > 0 {
                    hand_overs.lock().push(Duration::from_nanos(now.saturating_sub(before)));
                }
                grants += 1;
                sleep(HOLD).await;
                released.store(epoch.elapsed().as_nanos() as u64, Ordering::SeqCst);
                lease.release().await?;
                sleep(THINK).await;
            }
            Ok::<u64, Failure>(grants)
        });
    }
    let mut grants = Vec::new();
    while let Some(of_one) = contenders.join_next().await {
        grants.push(of_one??);
    }
    let mut hand_overs = std::mem::take(&mut *hand_overs.lock());
    hand_overs.sort_unstable();
    Ok((hand_overs, grants))
}

/// The median of some holders, each killed while it keeps its lease.
async fn kill(kind: &Kind, lock: &BoxLock) -> Result<Duration, Failure> {
    let mut took = Vec::new();
    for _ in 0..KILLS {
        let mut command = Command::new(std::env::current_exe()?);
        let mut holder = command.args(["hold", &kind.0]).stdout(Stdio::piped()).spawn()?;
        let mut said = String::new();
        BufReader::new(holder.stdout.take().ok_or("piped")?).read_line(&mut said)?;
        let waiting = tokio::spawn({
            let lock = lock.clone();
            async move {
                lock.acquire("killed", TTL, deadline()).await.map(|lease| (Instant::now(), lease))
            }
        });
        // In the middle of the work, and with a waiter.
        sleep(TTL / 2).await;
        let begin = Instant::now();
        holder.kill()?;
        holder.wait()?;
        let (at, lease) = waiting.await??;
        took.push(at - begin);
        lease.release().await?;
    }
    took.sort_unstable();
    Ok(took[KILLS / 2])
}

/// The holder that is killed.
async fn hold(kind: Kind) -> Result<(), Failure> {
    let lease = kind.open().await?.acquire("killed", TTL, deadline()).await?;
    lease.keep_alive();
    println!("held");
    std::io::stdout().flush()?;
    lease.lost().await;
    Ok(())
}

fn deadline() -> tokio::time::Instant {
    tokio::time::Instant::now() + Duration::from_secs(30)
}
