//! Servers that die, freeze and are cut off, each with its own.

use std::time::Duration;

use cattleguard::{
    FaultKind,
    lock::{BoxLock, Lease, Lock},
    redis::Connection,
};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    contract::{LONG, TTL, fresh_name, granted, soon},
    kind::Kind,
    servers::{MariaDb, Postgres, Proxy, Redis, RedisSentinel, Signal, Zookeeper},
    worker::Worker,
};

/// The ttl of a lease that is kept alive, and then lost.
const ALIVE: Duration = Duration::from_millis(900);

async fn open(kind: &str, address: &str) -> BoxLock {
    Kind::new(kind, address).open().await.expect("a lock")
}

async fn kept_alive(lock: &BoxLock) -> Lease {
    let lease = granted(lock, &fresh_name(), ALIVE).await.expect("a free name");
    lease.keep_alive();
    assert!(timeout(ALIVE * 2, lease.lost()).await.is_err(), "kept alive while the server is well");
    lease
}

async fn lost_within(lease: &Lease, limit: Duration) {
    let begin = Instant::now();
    timeout(LONG, lease.lost()).await.expect("lost");
    assert!(begin.elapsed() < limit, "{:?}", begin.elapsed());
}

fn url(scheme_and_user: &str, port: u16, path: &str) -> String {
    format!("{scheme_and_user}127.0.0.1:{port}/{path}")
}

/// Clause 6, and clause 9 behind a dead server. One address per system.
pub async fn a_cut_connection_loses_the_lease() {
    let (redis, postgres) =
        (Redis::start().expect("a Redis"), Postgres::start().expect("a server"));
    let (mariadb, zookeeper) =
        (MariaDb::start().expect("a server"), Zookeeper::start().expect("a server"));
    let systems = [
        ("redis", redis.port(), "redis://", ""),
        ("postgres", postgres.port(), "postgres://postgres@", "postgres"),
        ("postgres-row", postgres.port(), "postgres://postgres@", "postgres"),
        ("mysql", mariadb.port(), "mysql://root@", "test"),
        ("mysql-row", mariadb.port(), "mysql://root@", "test"),
        ("zookeeper", zookeeper.port(), "", ""),
    ];
    for (kind, port, scheme, path) in systems {
        for fault in ["cut", "stalled"] {
            let proxy = Proxy::start(port).expect("a proxy");
            let way = url(scheme, proxy.port(), path);
            let lock = open(kind, way.trim_end_matches('/')).await;
            let lease = kept_alive(&lock).await;
            match fault {
                "cut" => proxy.cut(),
                _ => proxy.stall(),
            }
            // Its end, and what a busy machine adds; ZooKeeper's session timeout is longer.
            lost_within(&lease, ALIVE + Duration::from_millis(1500)).await;
            let begin = Instant::now();
            let error =
                lock.try_acquire(&fresh_name(), TTL).await.expect_err("no way to the server");
            let kinds = [FaultKind::Unreachable, FaultKind::Timeout];
            assert!(kinds.contains(&error.kind()), "{kind}, {fault}: {error:?}");
            assert!(begin.elapsed() < Duration::from_secs(8), "{kind}, {fault}");
            // The way is free again, and the lock with it.
            proxy.resume();
            let deadline = soon();
            loop {
                match lock.acquire(lease.name(), TTL, deadline).await {
                    Ok(_) => break,
                    Err(error) => assert!(Instant::now() < deadline, "{kind}, {fault}: {error:?}"),
                }
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Clauses 6 and 8: the administrator ends the session.
pub async fn a_session_ended_by_the_server_frees_its_locks() {
    let postgres = Postgres::start().expect("a server");
    let (lock, other) =
        (open("postgres", &postgres.url()).await, open("postgres", &postgres.url()).await);
    let lease = kept_alive(&lock).await;
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_locks WHERE locktype = 'advisory'";
    sqlx::query(end).execute(&mut admin(&postgres).await).await.expect("an answer");
    let begin = Instant::now();
    let next = other.acquire(lease.name(), TTL, soon()).await.expect("freed at once");
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
    lost_within(&lease, ALIVE).await;
    assert!(next.fence() > lease.fence());
}

/// A majority of an ensemble keeps working, and its leases stay valid.
pub async fn an_ensemble_goes_on_without_one_node() {
    let mut ensemble = Zookeeper::start_ensemble().expect("an ensemble");
    let (lock, other) = (
        open("zookeeper-3", &ensemble.addresses()).await,
        open("zookeeper-3", &ensemble.addresses()).await,
    );
    let name = fresh_name();
    let lease = granted(&lock, &name, TTL).await.expect("a free name");
    // The leader, which is the worst.
    let leader = ensemble.nodes.iter().position(|node| node.mode().as_deref() == Some("leader"));
    ensemble.nodes[leader.expect("a leader")].kill();
    let begin = Instant::now();
    let next = loop {
        match other.try_acquire(&fresh_name(), TTL).await {
            Ok(_) => break begin.elapsed(),
            Err(error) => assert!(begin.elapsed() < LONG, "{error:?}"),
        }
    };
    assert!(next < Duration::from_secs(10), "{next:?}");
    // Either way no other was granted the name while the lease was valid.
    if lease.is_lost() {
        let next = other.acquire(&name, TTL, soon()).await.expect("the lock");
        assert!(next.fence() > lease.fence());
    } else {
        assert!(granted(&other, &name, TTL).await.is_none());
        lease.release().await.expect("a release");
        let _ = granted(&other, &name, TTL).await.expect("free");
    }
}

/// What Sentinel promises: the lock can be acquired again, at the new primary.
pub async fn a_failover_leads_to_the_new_primary() {
    let mut group = RedisSentinel::start().expect("a group");
    let lock = open("redis-sentinel", &group.sentinel_urls().join(",")).await;
    let lease = kept_alive(&lock).await;
    group.primary.kill();
    let begin = Instant::now();
    let deadline = begin + LONG;
    loop {
        match lock.acquire(&fresh_name(), TTL, deadline).await {
            Ok(_) => break,
            Err(error) => assert!(Instant::now() < deadline, "{error:?}"),
        }
        sleep(Duration::from_millis(20)).await;
    }
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    // Kept or lost, but not forgotten: a renewal at the new primary tells.
    match lease.renew().await {
        Ok(()) => assert!(!lease.is_lost()),
        Err(error) => assert_eq!(error.kind(), FaultKind::Lost, "{error:?}"),
    }
}

/// A majority of three servers works without one, and stops without two.
pub async fn a_quorum_needs_most_of_its_servers() {
    let mut servers: Vec<Redis> = (0..3).map(|_| Redis::start().expect("a Redis")).collect();
    let urls: Vec<_> = servers.iter().map(Redis::url).collect();
    let (lock, other) =
        (open("redis-quorum", &urls.join(",")).await, open("redis-quorum", &urls.join(",")).await);
    servers[0].kill();
    let lease = kept_alive(&lock).await;
    assert!(granted(&other, lease.name(), TTL).await.is_none());
    servers[1].kill();
    lost_within(&lease, ALIVE + Duration::from_secs(1)).await;
    let error = other.try_acquire(lease.name(), TTL).await.expect_err("a minority");
    let kinds = [FaultKind::Unreachable, FaultKind::Timeout];
    assert!(kinds.contains(&error.kind()), "{error:?}");
}

/// Clauses 6 and 9: a server that stands still.
pub async fn a_frozen_server_ends_every_call_in_time() {
    let redis = Redis::start().expect("a Redis");
    let link = Connection::open(&redis.url()).await.expect("a connection");
    let lock = BoxLock::new(cattleguard::redis::RedisLock::new(link));
    let lease = kept_alive(&lock).await;
    redis.freeze();
    let begin = Instant::now();
    let late = lock.try_acquire(&fresh_name(), TTL).await.expect_err("no answer");
    assert_eq!(late.kind(), FaultKind::Timeout, "{late:?}");
    assert!(begin.elapsed() < Duration::from_secs(1), "the far timeout is 50 ms");
    lost_within(&lease, ALIVE + Duration::from_millis(500)).await;
    redis.thaw();
}

/// Clauses 4 and 6: the server says no, though the ttl has not passed.
pub async fn what_the_server_forgot_is_lost() {
    let (redis, postgres) =
        (Redis::start().expect("a Redis"), Postgres::start().expect("a server"));
    for (kind, url) in [("redis", redis.url()), ("postgres-row", postgres.url())] {
        let (lock, other) = (open(kind, &url).await, open(kind, &url).await);
        let lease = granted(&lock, "n", TTL).await.expect("a free name");
        if kind == "redis" {
            raw::<u32>(&redis, redis::cmd("DEL").arg("cgk:{:n}")).await;
        } else {
            let forget = sqlx::raw_sql("DELETE FROM cattleguard_lock");
            forget.execute(&mut admin(&postgres).await).await.expect("an answer");
        }
        let next = granted(&other, "n", TTL).await.expect("forgotten");
        let error = lease.renew().await.expect_err("another holds it");
        assert_eq!(error.kind(), FaultKind::Lost, "{kind}: {error:?}");
        assert!(lease.is_lost() && next.fence() > lease.fence(), "{kind}");
        drop(lease);
        sleep(Duration::from_millis(100)).await;
        next.renew().await.expect("the release of the first was none of its business");
    }
}

/// Clause 2, when the server's clock goes back.
pub async fn a_fence_outlives_the_clock() {
    let redis = Redis::start().expect("a Redis");
    let lock = open("redis", &redis.url()).await;
    let ahead: u64 = 1 << 52;
    raw::<()>(&redis, redis::cmd("SET").arg("cgk:{:n}:f").arg(&ahead.to_be_bytes())).await;
    for more in 1..3 {
        let lease = granted(&lock, "n", TTL).await.expect("a free name");
        assert_eq!(lease.fence(), ahead + more);
        lease.release().await.expect("a release");
    }
}

/// Clause 7: no other is served before the first waiter, and a dead first waiter delays the others shortly.
pub async fn a_frozen_waiter_keeps_its_place_for_a_second() {
    let redis = Redis::start().expect("a Redis");
    let kind = Kind::new("redis", &redis.url());
    let lock = kind.open().await.expect("a lock");
    let lease = granted(&lock, "n", TTL).await.expect("a free name");
    let waiter = Worker::start("hold", &kind, "n", &["1000"]);
    let begin = Instant::now();
    while raw::<u32>(&redis, redis::cmd("ZCARD").arg("cgk:{:n}:q")).await == 0 {
        assert!(begin.elapsed() < LONG);
        sleep(Duration::from_millis(5)).await;
    }
    waiter.signal(Signal::STOP);
    lease.release().await.expect("a release");
    assert!(granted(&lock, "n", TTL).await.is_none(), "it is the other's turn");
    let begin = Instant::now();
    let _lease = lock.acquire("n", TTL, soon()).await.expect("the lock");
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
}

async fn raw<T: redis::FromRedisValue>(server: &Redis, command: &redis::Cmd) -> T {
    let client = redis::Client::open(server.url()).expect("a URL");
    let mut link = client.get_multiplexed_async_connection().await.expect("a connection");
    command.query_async(&mut link).await.expect("an answer")
}

async fn admin(server: &Postgres) -> sqlx::PgConnection {
    sqlx::Connection::connect(&server.url()).await.expect("a connection")
}
