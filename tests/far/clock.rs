//! A Redis whose clock is set back by an hour: what lasts until a moment lasts no longer than it was to.

use std::{sync::Arc, time::Duration};

use cattleguard::{
    Entry, Version,
    codec::Json,
    far::{Attempt, Far, Record, Renewal, Token},
    lock::{self, Lock},
    memory::MemoryLock,
    redis::RedisLock,
};
use libtest_mimic::Trial;
use tokio::time::Instant;

use crate::{
    contract::{LONG, eventually, lease},
    servers::{Clocks, Redis},
    setup::{self, Servers, TIMEOUT, Tier, trials},
};

pub fn trials(servers: &Arc<Servers>) -> Vec<Trial> {
    trials!(
        servers, "clock";
        an_entry_is_not_fresh_for_longer,
        a_dead_holders_lease_ends,
        a_living_holder_keeps_its_lease,
        a_back_off_ends,
        a_dead_holders_lock_ends,
        a_dead_waiter_loses_its_turn,
    )
}

const HOUR: i64 = 3_600;
const TTL: Duration = Duration::from_millis(500);

/// A Redis and its clock.
struct Server {
    redis: Redis,
    clocks: Clocks,
}

impl Server {
    fn start() -> Self {
        let clocks = Clocks::new().expect("clocks");
        Self { redis: Redis::start_with_clocks(&clocks, &[]).expect("a Redis"), clocks }
    }

    fn set_back_by(&self, seconds: i64) {
        self.clocks.set(-seconds, 0).expect("a clock");
    }

    async fn tier(&self) -> Tier {
        Tier::new(setup::open(&self.redis.url()).await, Json)
    }

    async fn lock(&self) -> RedisLock {
        RedisLock::new(setup::open(&self.redis.url()).await)
    }
}

fn record(far: &impl Far<String>, version: u64, ttl: Duration) -> Record<String> {
    let entry = Entry::new(Some("a".into()), Version::new(version), far.clock().now().after(ttl));
    Record::new(Arc::new(entry), ttl, LONG * 2)
}

async fn ask(far: &impl Far<String>) -> Attempt<String> {
    let asked = far.look_up_or_lease("n", Token::random(), TTL, Duration::ZERO);
    asked.await.expect("an answer")
}

async fn an_entry_is_not_fresh_for_longer(_: Arc<Servers>) {
    let server = Server::start();
    let far = server.tier().await;
    let _ = far.put("n", record(&far, 1, TTL)).await.expect("a put");
    server.set_back_by(HOUR);
    let other = server.tier().await;
    let read = other.read("n").await.expect("a read").expect("an entry");
    let left = read.fresh_until().since(other.clock().now());
    assert!(left.is_zero(), "fresh for {left:?}");
    let (token, grant) = lease(&far, "n", TTL).await;
    assert_eq!(grant.minimum, Version::new(1));
    let _ = far.commit("n", token, record(&far, 2, LONG)).await.expect("a commit");
    assert!(matches!(ask(&other).await, Attempt::Hit(_)), "written by the clock that was set");
}

async fn a_dead_holders_lease_ends(_: Arc<Servers>) {
    let server = Server::start();
    let far = server.tier().await;
    let _dead = lease(&far, "n", TTL).await;
    server.set_back_by(HOUR);
    match ask(&far).await {
        Attempt::Held { remaining, .. } => assert!(remaining <= TTL, "{remaining:?}"),
        other => panic!("{other:?}"),
    }
    eventually(async || matches!(ask(&far).await, Attempt::Granted(_)).then_some(())).await;
}

async fn a_living_holder_keeps_its_lease(_: Arc<Servers>) {
    let server = Server::start();
    let far = server.tier().await;
    let (token, _) = lease(&far, "n", TTL).await;
    assert_eq!(far.renew("n", token, LONG).await.expect("a renewal"), Renewal::Renewed);
    server.set_back_by(HOUR);
    // As long as it was renewed for, and not as it was granted for.
    match ask(&far).await {
        Attempt::Held { remaining, .. } => assert!(remaining > LONG - TIMEOUT && remaining <= LONG),
        other => panic!("{other:?}"),
    }
    assert_eq!(far.renew("n", token, LONG).await.expect("a renewal"), Renewal::Renewed);
}

async fn a_back_off_ends(_: Arc<Servers>) {
    let server = Server::start();
    let far = server.tier().await;
    ends_its_back_off(&server, &far).await;
    server.set_back_by(0);
    let elected = far.elected_by(MemoryLock::new()).lock_timeout(TIMEOUT);
    ends_its_back_off(&server, &elected).await;
}

async fn ends_its_back_off(server: &Server, far: &impl Far<String>) {
    let (token, _) = lease(far, "n", TTL).await;
    far.fail("n", token, TTL).await.expect("an answer");
    server.set_back_by(HOUR);
    let next = eventually(async || match ask(far).await {
        Attempt::BackOff { remaining } => {
            assert!(remaining <= 2 * TTL + Duration::from_secs(1), "{remaining:?}");
            None
        }
        Attempt::Granted(next) => Some(next),
        other => panic!("{other:?}"),
    });
    assert_eq!(next.await.failures, 1);
}

/// As when its process is killed: nothing renews it, and nothing releases it.
async fn die_holding(lock: &RedisLock) -> u64 {
    match lock.try_acquire("n", TTL).await.expect("an answer") {
        lock::Attempt::Granted(lease) => {
            let fence = lease.fence();
            std::mem::forget(lease);
            fence
        }
        held => panic!("{held:?}"),
    }
}

async fn a_dead_holders_lock_ends(_: Arc<Servers>) {
    let server = Server::start();
    let lock = server.lock().await;
    let dead = die_holding(&lock).await;
    server.set_back_by(HOUR);
    let lease = lock.acquire("n", LONG, Instant::now() + TIMEOUT).await.expect("the lock");
    assert!(lease.fence() > dead);
    server.set_back_by(2 * HOUR);
    match lock.try_acquire("n", TTL).await.expect("an answer") {
        lock::Attempt::Held { remaining } => assert!(remaining <= LONG, "{remaining:?}"),
        granted => panic!("{granted:?}"),
    }
    lease.renew_for(LONG).await.expect("still held");
}

async fn a_dead_waiter_loses_its_turn(_: Arc<Servers>) {
    let server = Server::start();
    let lock = server.lock().await;
    die_holding(&lock).await;
    // The waiter's process dies: its runtime is gone before it can leave the queue.
    let (url, waiting) = (server.redis.url(), Duration::from_millis(100));
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let lock = RedisLock::new(setup::open(&url).await);
            let mut acquiring = Box::pin(lock.acquire("n", LONG, Instant::now() + TIMEOUT));
            let waited = tokio::time::timeout(waiting, &mut acquiring).await;
            assert!(waited.is_err(), "{waited:?}");
            std::mem::forget(acquiring);
        });
        runtime.shutdown_background();
    })
    .join()
    .expect("a thread");
    server.set_back_by(HOUR);
    let _lease = lock.acquire("n", LONG, Instant::now() + TIMEOUT).await.expect("the lock");
}
