//! A far hit and a cold miss on Redis, beside the raw commands over a connection of the same kind.
//! Starts a private `redis-server` from PATH.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use cattleguard::{
    Guard, Loaded, Policy,
    codec::Raw,
    redis::{Connection, RedisFar},
};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use redis::{AsyncCommands, IntoConnectionInfo, aio::ConnectionManager};
use tokio::{runtime::Runtime, task::JoinSet};

#[path = "../tests/servers/mod.rs"]
mod servers;

const SIZE: usize = 200;
const KEYS: u64 = 1000;

async fn load() -> Result<Loaded<Bytes>, std::io::Error> {
    Ok(Loaded::found(Bytes::from_static(&[7; SIZE]), 1))
}

/// `total` calls by so many tasks; how long they took.
async fn spread<F, Fut>(tasks: u64, total: u64, call: F) -> Duration
where
    F: Fn(u64) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send,
{
    let begin = Instant::now();
    let mut running = JoinSet::new();
    for task in 0..tasks {
        let call = call.clone();
        running.spawn(async move {
            let mut number = task;
            while number < total {
                call(number).await;
                number += tasks;
            }
        });
    }
    while let Some(ended) = running.join_next().await {
        ended.expect("a task");
    }
    begin.elapsed()
}

fn benches(c: &mut Criterion) {
    let server = servers::Redis::start().expect("a Redis");
    let runtime = Runtime::new().expect("a runtime");
    let (raw, guard) = runtime.block_on(async {
        // As the guard's own connection is set up.
        let info = server.url().into_connection_info().expect("a URL");
        let tcp = redis::io::tcp::TcpSettings::default().set_nodelay(true);
        let client = redis::Client::open(info.set_tcp_settings(tcp)).expect("a URL");
        let raw = client.get_connection_manager().await.expect("a connection");
        let connection = Connection::open(&server.url()).await.expect("a connection");
        let guard: Guard<u64, Bytes> = Guard::builder()
            .far(RedisFar::new(connection.timeout(Duration::from_secs(2)), Raw))
            .near_capacity(0)
            .policy(Policy::default().ttl(Duration::from_secs(3600)))
            .build();
        for key in 0..KEYS {
            guard.fetch(&key, load).await.expect("a load");
        }
        (raw, guard)
    });
    hit(c, &runtime, &raw, &guard);
    miss(c, &runtime, &raw, &guard);
    drop(server);
}

fn hit(c: &mut Criterion, runtime: &Runtime, raw: &ConnectionManager, guard: &Guard<u64, Bytes>) {
    let mut group = c.benchmark_group("far hit");
    group.measurement_time(Duration::from_secs(5)).throughput(Throughput::Elements(1));
    for tasks in [1, 64] {
        group.bench_function(BenchmarkId::new("raw GET", tasks), |b| {
            b.to_async(runtime).iter_custom(|total| {
                let raw = raw.clone();
                spread(tasks, total, move |number| raw_hit(raw.clone(), number % KEYS))
            });
        });
        group.bench_function(BenchmarkId::new("Guard::fetch", tasks), |b| {
            b.to_async(runtime).iter_custom(|total| {
                let guard = guard.clone();
                spread(tasks, total, move |number| guard_hit(guard.clone(), number % KEYS))
            });
        });
    }
    group.finish();
}

async fn raw_hit(mut raw: ConnectionManager, key: u64) {
    let value: Bytes = raw.get(format!("cg:{{:{key}}}")).await.expect("a value");
    assert!(value.len() > SIZE);
}

async fn guard_hit(guard: Guard<u64, Bytes>, key: u64) {
    let fetched = guard.fetch(&key, load).await.expect("a value");
    assert_eq!(fetched.value().map(Bytes::len), Some(SIZE));
}

fn miss(c: &mut Criterion, runtime: &Runtime, raw: &ConnectionManager, guard: &Guard<u64, Bytes>) {
    let mut group = c.benchmark_group("cold miss");
    group.measurement_time(Duration::from_secs(5)).throughput(Throughput::Elements(1));
    for tasks in [1, 64] {
        group.bench_function(BenchmarkId::new("raw GET, SET NX, SET, DEL", tasks), |b| {
            b.to_async(runtime).iter_custom(|total| {
                let raw = raw.clone();
                spread(tasks, total, move |_| raw_miss(raw.clone()))
            });
        });
        group.bench_function(BenchmarkId::new("Guard::fetch", tasks), |b| {
            b.to_async(runtime).iter_custom(|total| {
                let guard = guard.clone();
                spread(tasks, total, move |_| guard_miss(guard.clone()))
            });
        });
    }
    group.finish();
}

/// A key that was never asked for.
fn next_key() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1 << 40);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// What most people write, and the least that a lock needs.
async fn raw_miss(mut raw: ConnectionManager) {
    let key = next_key();
    let lock = format!("{key}:lock");
    let found: Option<Bytes> = raw.get(key).await.expect("an answer");
    assert!(found.is_none());
    assert!(raw.set_nx::<_, _, bool>(&lock, 1).await.expect("an answer"));
    raw.pset_ex::<_, _, ()>(key, &[7u8; SIZE][..], 60_000).await.expect("set");
    raw.del::<_, ()>(&lock).await.expect("deleted");
}

async fn guard_miss(guard: Guard<u64, Bytes>) {
    guard.fetch(&next_key(), load).await.expect("a value");
}

criterion_group!(far, benches);
criterion_main!(far);
