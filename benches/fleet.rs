//! What a fill and a confirmed invalidation cost a Redis to which `P` processes are connected, of which one
//! works: its CPU, bytes and messages by its own count, and the latency that the worker sees.
//! Starts a private `redis-server` from PATH; the processes are guards with connections of their own.
//!
//! ```text
//! cargo bench --all-features --bench fleet
//! cargo bench --all-features --bench fleet -- 1 50 1000
//! ```

use std::time::{Duration, Instant};

use cattleguard::{
    Guard, Loaded, Policy,
    codec::Raw,
    far::Invalidated,
    redis::{Connection, RedisFar},
};
use futures::{StreamExt, stream};

#[path = "../tests/servers/mod.rs"]
mod servers;

type Process = Guard<u64, bytes::Bytes>;

const OPERATIONS: u64 = 2_000;
const FILLS_AT_ONCE: usize = 32;
const INVALIDATIONS_AT_ONCE: usize = 64;
const VALUE: bytes::Bytes = bytes::Bytes::from_static(&[7; 200]);

#[tokio::main]
async fn main() {
    let sizes: Vec<usize> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    let sizes = if sizes.is_empty() { vec![1, 10, 50, 200] } else { sizes };
    println!("| processes | operation | Redis CPU | bytes out | PUBLISHes | a second | p50 |");
    println!("|--:|---|--:|--:|--:|--:|--:|");
    for processes in sizes {
        measure(processes).await;
    }
}

async fn measure(processes: usize) {
    let server = servers::Redis::start_with(&["--maxclients", "20000"]).expect("a Redis");
    let mut fleet = Vec::new();
    for _ in 0..processes {
        fleet.push(process(&server.url()).await);
    }
    let mut redis = Statistics::open(&server.url()).await;
    let worker = &fleet[0];
    settle(&fleet).await;

    let before = redis.read().await;
    let (took, latencies) = run(FILLS_AT_ONCE, |key| async move { fill(worker, key).await }).await;
    row(processes, "fill", before, redis.read().await, took, latencies);

    let before = redis.read().await;
    let invalidated = |key| async move {
        let done = worker.invalidate(&key).await.expect("an invalidation");
        assert_eq!(done, Invalidated::Everywhere);
    };
    let (took, latencies) = run(INVALIDATIONS_AT_ONCE, invalidated).await;
    row(processes, "confirmed invalidation", before, redis.read().await, took, latencies);
}

async fn process(url: &str) -> Process {
    let connection = Connection::open(url).await.expect("a connection");
    Guard::builder()
        .far(RedisFar::new(connection.timeout(Duration::from_secs(5)), Raw))
        .policy(Policy::default().ttl(Duration::from_secs(3600)))
        .build()
}

/// Until each hears all: a process subscribes when it is first asked, and one that is still about to
/// confirms nothing.
async fn settle(fleet: &[Process]) {
    for process in fleet {
        fill(process, OPERATIONS).await;
    }
    tokio::time::sleep(Duration::from_millis(500 + 2 * fleet.len() as u64)).await;
    for key in OPERATIONS..OPERATIONS + 50 {
        fill(&fleet[0], key).await;
        fleet[0].invalidate(&key).await.expect("an invalidation");
    }
}

async fn fill(worker: &Process, key: u64) {
    let load = || async { Ok::<_, std::io::Error>(Loaded::found(VALUE, 1)) };
    worker.fetch(&key, load).await.expect("a load");
}

async fn run<F: Future<Output = ()>>(
    at_once: usize,
    operation: impl Fn(u64) -> F,
) -> (Duration, Vec<Duration>) {
    let begun = Instant::now();
    let timed = stream::iter(0..OPERATIONS).map(|key| {
        let running = operation(key);
        async move {
            let begun = Instant::now();
            running.await;
            begun.elapsed()
        }
    });
    let mut latencies: Vec<_> = timed.buffer_unordered(at_once).collect().await;
    latencies.sort_unstable();
    (begun.elapsed(), latencies)
}

fn row(
    processes: usize,
    operation: &str,
    before: Figures,
    after: Figures,
    took: Duration,
    latencies: Vec<Duration>,
) {
    let each = |before: f64, after: f64| (after - before) / OPERATIONS as f64;
    println!(
        "| {processes} | {operation} | {:.0} µs | {:.1} KB | {:.1} | {:.0} | {:.2} ms |",
        each(before.cpu, after.cpu) * 1e6,
        each(before.bytes_out, after.bytes_out) / 1e3,
        each(before.publishes, after.publishes),
        OPERATIONS as f64 / took.as_secs_f64(),
        latencies[latencies.len() / 2].as_secs_f64() * 1e3,
    );
}

/// Redis' own statistics.
struct Statistics {
    link: redis::aio::MultiplexedConnection,
}

#[derive(Clone, Copy)]
struct Figures {
    cpu: f64,
    bytes_out: f64,
    publishes: f64,
}

impl Statistics {
    async fn open(url: &str) -> Self {
        let client = redis::Client::open(url).expect("a URL");
        Self { link: client.get_multiplexed_async_connection().await.expect("a connection") }
    }

    async fn read(&mut self) -> Figures {
        let info: String =
            redis::cmd("INFO").arg("all").query_async(&mut self.link).await.expect("INFO");
        let of = |name: &str| -> f64 {
            let line = info.lines().find_map(|line| line.strip_prefix(name));
            let figure = line.and_then(|line| line.strip_prefix(':'));
            let figure = figure.map(|figure| figure.trim_start_matches("calls="));
            let figure = figure.and_then(|figure| figure.split(',').next());
            figure.and_then(|figure| figure.trim().parse().ok()).unwrap_or(0.0)
        };
        Figures {
            cpu: of("used_cpu_sys") + of("used_cpu_user"),
            bytes_out: of("total_net_output_bytes"),
            publishes: of("cmdstat_publish"),
        }
    }
}
