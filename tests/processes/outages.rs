//! P6 on real servers: the origin is safe, and everybody is answered, while Redis is dead, frozen, slow or
//! cut off. These processes have the default far timeout.

use std::time::Duration;

use crate::{
    fleet::{Fleet, Worker, until},
    servers::{Proxy, RedisSentinel},
};

const LOAD: u64 = 50;
/// What an outage may add to a load.
const ADDED: u64 = 100;
/// What a busy machine of two cores may add to that, with a debug build: 250 callers are some 10 ms of
/// work for it. Far below a wait for anything else: a lease (2 s), a connection (1 s).
const SLACK: u64 = 250;

/// How a Redis can be gone.
#[derive(Clone, Copy, Debug)]
pub enum Gone {
    Killed,
    Frozen,
}

impl Gone {
    pub const ALL: [Self; 2] = [Self::Killed, Self::Frozen];

    pub fn befall(self, fleet: &mut Fleet) {
        match self {
            Self::Killed => fleet.redis.kill(),
            Self::Frozen => fleet.redis.freeze(),
        }
    }

    /// Returns as soon as it answers again, with all that it had.
    pub fn pass(self, fleet: &mut Fleet) {
        match self {
            Self::Killed => fleet.redis.restart_with_data().expect("a Redis"),
            Self::Frozen => fleet.redis.thaw(),
        }
        assert!(fleet.say("PING").starts_with("+PONG"));
    }
}

pub async fn without_redis_a_herd_is_one_load_and_a_tenth_of_a_second() {
    for gone in Gone::ALL {
        let mut fleet = Fleet::start_with(1, &[]).await;
        gone.befall(&mut fleet);
        let (answered, version, slowest) = fleet.workers[0].fetch("cold", 250, LOAD).await;
        println!("{gone:?}: the slowest of 250 waited {slowest} ms for a load of {LOAD}");
        assert_eq!((answered, version, fleet.loads("cold").await), (250, 1, 1), "{gone:?}");
        assert!(slowest <= LOAD + ADDED + SLACK, "{gone:?}: {slowest} ms");
    }
}

pub async fn without_redis_a_process_makes_no_more_loads_at_once_than_it_may() {
    for gone in Gone::ALL {
        let mut fleet = Fleet::start_with(1, &["loads=8"]).await;
        gone.befall(&mut fleet);
        let worker = &mut fleet.workers[0];
        worker.order(&format!("herd cold 50 5 {LOAD}")).await;
        let (answered, version, slowest) = worker.fetched().await;
        let peak = worker.numbers("peak").await[0];
        println!("{gone:?}: 50 keys, {peak} loads at once, the slowest waited {slowest} ms");
        assert_eq!((answered, version, peak), (50 * 5, 1, 8), "{gone:?}");
        for key in 0..50 {
            assert_eq!(fleet.loads(&format!("cold-{key}")).await, 1, "{gone:?}");
        }
        // Seven turns of the bulkhead.
        assert!(slowest <= 7 * LOAD + ADDED + 2 * SLACK, "{gone:?}: {slowest} ms");
    }
}

pub async fn after_the_first_few_nobody_pays_for_a_frozen_redis() {
    let mut fleet = Fleet::start_with(1, &[]).await;
    fleet.redis.freeze();
    let mut paid = Vec::new();
    for key in 0..25 {
        let (answered, _, ms) = fleet.workers[0].fetch(&format!("k{key}"), 1, 0).await;
        assert_eq!(answered, 1);
        paid.push(ms);
    }
    let (first, later) = paid.split_at(5);
    println!("paid for a frozen Redis: {first:?}, then {later:?} ms");
    // Half the far timeout: the breaker is open. One or two may meet a busy machine.
    assert!(later.iter().filter(|ms| **ms >= 25).count() <= 2, "{later:?}");
}

/// Who waits for another process when Redis goes is not told by Redis, but by the end of the subscription: at
/// once when the connection breaks, after a ping (0.5 s) and its timeout (0.5 s) when it is just silent.
pub async fn who_waits_for_another_process_when_redis_goes_is_answered() {
    for (gone, noticed) in [(Gone::Killed, 0), (Gone::Frozen, 1000)] {
        let mut fleet = Fleet::start_with(2, &[]).await;
        assert_eq!(fleet.workers[0].ask("hold k").await, "loading");
        let scripts = fleet.scripts();
        fleet.workers[1].order(&format!("fetch k 250 {LOAD}")).await;
        until(Duration::from_secs(5), async || fleet.scripts() > scripts).await;
        gone.befall(&mut fleet);
        let (answered, version, slowest) = fleet.workers[1].fetched().await;
        println!("{gone:?}: the slowest of 250 waiting waited {slowest} ms for a load of {LOAD}");
        assert_eq!((answered, version), (250, 1), "{gone:?}");
        assert!(slowest <= noticed + LOAD + ADDED + SLACK, "{gone:?}: {slowest} ms");
        fleet.workers[0].order("go").await;
        let landed = fleet.workers[0].answer().await;
        assert!(landed.starts_with("landed 1"), "{gone:?}: {landed}");
        assert_eq!(fleet.loads_by_process("k").await, [1, 1], "{gone:?}");
    }
}

/// Just below the far timeout: each command is waited for, the read, the lease, the commit.
pub async fn a_slow_redis_adds_three_commands() {
    let mut fleet = Fleet::start_with(0, &[]).await;
    let proxy = Proxy::start(fleet.redis.port()).expect("a proxy");
    fleet.join(&format!("redis://127.0.0.1:{}/", proxy.port()), &[]).await;
    proxy.delay(Duration::from_millis(20));
    for round in 0..10 {
        let key = format!("slow-{round}");
        let slowest = fleet.round(&key, 250, LOAD).await;
        println!("40 ms of latency: {slowest:?} ms for a load of {LOAD}");
        assert_eq!(fleet.loads(&key).await, 1);
        assert!(slowest[0] <= LOAD + 3 * 50 + SLACK, "{slowest:?}");
    }
}

pub async fn two_seconds_of_latency_cost_no_more_than_an_outage() {
    let mut fleet = Fleet::start_with(0, &[]).await;
    let proxy = Proxy::start(fleet.redis.port()).expect("a proxy");
    let far = format!("redis://127.0.0.1:{}/", proxy.port());
    for _ in 0..2 {
        fleet.join(&far, &[]).await;
    }
    proxy.delay(Duration::from_secs(2));
    for round in 0..10 {
        let key = format!("late-{round}");
        let slowest = fleet.round(&key, 250, LOAD).await;
        println!("two seconds of latency: {slowest:?} ms for a load of {LOAD}");
        assert_eq!(fleet.loads_by_process(&key).await, [1, 1], "each for itself");
        assert!(slowest.iter().all(|ms| *ms <= LOAD + ADDED + SLACK), "{slowest:?}");
    }
    proxy.resume();
    let took = fleet.shared_again("after").await;
    println!("after two seconds of latency: one load for all after {took:?}");
    assert!(took < Duration::from_secs(3), "{took:?}");
}

pub async fn a_process_that_is_cut_off_goes_on_alone_and_comes_back() {
    let mut fleet = Fleet::start_with(1, &[]).await;
    let proxy = Proxy::start(fleet.redis.port()).expect("a proxy");
    fleet.join(&format!("redis://127.0.0.1:{}/", proxy.port()), &[]).await;
    fleet.round("row", 1, 0).await;
    fleet.round("mine", 1, 0).await;

    proxy.cut();
    for round in 0..10 {
        let key = format!("cut-{round}");
        let slowest = fleet.round(&key, 250, LOAD).await;
        assert_eq!(fleet.loads_by_process(&key).await, [1, 1], "round {round}");
        assert!(slowest.iter().all(|ms| *ms <= LOAD + ADDED + SLACK), "{slowest:?}");
    }
    // It hears nothing of the others' invalidations, so it keeps nothing for long.
    assert_eq!(fleet.workers[1].version("row").await, 1);
    fleet.update("row", 2).await;
    fleet.update("mine", 2).await;
    let [connected, cut_off] = &mut fleet.workers[..] else { panic!() };
    acknowledged(connected, "invalidate row 2").await;
    assert_eq!(connected.version("row").await, 2);
    let near_outage_ttl = Duration::from_millis(500 + 2 * SLACK);
    let took = until(near_outage_ttl, async || cut_off.version("row").await == 2).await;
    println!("cut off: the new row after {took:?}");
    // What it says itself holds for it at once, and for the others when it is back.
    let done = cut_off.ask("invalidate mine 2").await;
    assert!(done.starts_with("invalidated Err"), "{done}");
    assert_eq!(cut_off.version("mine").await, 2);

    proxy.resume();
    let took = fleet.shared_again("after").await;
    println!("after a cut: one load for all after {took:?}");
    assert!(took < Duration::from_millis(1000 + 2 * SLACK), "{took:?}");
    for worker in &mut fleet.workers {
        assert_eq!((worker.version("mine").await, worker.version("row").await), (2, 2));
    }
}

pub async fn a_process_behind_a_dead_network_is_behind_for_a_near_ttl_at_most() {
    let mut fleet = Fleet::start_with(1, &[]).await;
    let proxy = Proxy::start(fleet.redis.port()).expect("a proxy");
    fleet.join(&format!("redis://127.0.0.1:{}/", proxy.port()), &[]).await;
    fleet.round("row", 1, 0).await;

    // Nobody is told that the connections are dead.
    proxy.stall();
    fleet.update("row", 2).await;
    let done = acknowledged(&mut fleet.workers[0], "invalidate row 2").await;
    assert_eq!(done, "invalidated Ok(Unconfirmed)");
    assert_eq!(fleet.workers[1].fetch("alone", 10, 10).await.0, 10);
    for round in 0..5 {
        let key = format!("dead-{round}");
        let slowest = fleet.round(&key, 250, LOAD).await;
        assert_eq!(fleet.loads_by_process(&key).await, [1, 1], "round {round}");
        assert!(slowest.iter().all(|ms| *ms <= LOAD + ADDED + SLACK), "{slowest:?}");
    }
    let dead = &mut fleet.workers[1];
    let near_ttl = Duration::from_millis(5000 + SLACK);
    let took = until(near_ttl, async || dead.version("row").await == 2).await;
    println!("behind a dead network: the new row after {took:?}");
    // What it had sent arrives late: a lease for nobody, and its release.
    let scripts = fleet.scripts();
    proxy.resume();
    until(Duration::from_secs(5), async || fleet.scripts() > scripts).await;
    let (_, _, ms) = fleet.workers[0].fetch("alone", 10, 10).await;
    println!("behind a dead network: its late lease cost another process {ms} ms");
    assert!(ms < 1000, "a lease of nobody: {ms} ms");
    let took = fleet.shared_again("after").await;
    println!("behind a dead network: one load for all after {took:?}");
    assert!(took < Duration::from_millis(1000 + 2 * SLACK), "{took:?}");
    for worker in &mut fleet.workers {
        assert_eq!(worker.version("row").await, 2);
    }
}

pub async fn a_failover_ends_nobody() {
    let group = RedisSentinel::start().expect("a group");
    let far = format!("sentinel={},{}", group.master_name(), group.sentinel_urls().join(","));
    let mut fleet = Fleet::start_with(0, &[]).await;
    for _ in 0..2 {
        fleet.join(&far, &[]).await;
    }
    let took = fleet.shared_again("before").await;
    assert!(took < Duration::from_millis(1000 + 2 * SLACK), "{took:?}");

    let RedisSentinel { mut primary, replicas: _replicas, sentinels: _sentinels } = group;
    primary.kill();
    for round in 0..5 {
        let slowest = fleet.round(&format!("during-{round}"), 250, LOAD).await;
        println!("failover: {slowest:?} ms for a load of {LOAD}");
        assert!(slowest.iter().all(|ms| *ms <= LOAD + ADDED + SLACK), "{slowest:?}");
    }
    // The Sentinels take half a second to miss it and a few more to agree on another.
    let took = fleet.shared_again("after").await;
    println!("failover: one load for all after {took:?}");
    assert!(took < Duration::from_secs(15), "{took:?}");
}

/// Asked again if a busy machine takes longer than the far timeout.
async fn acknowledged(worker: &mut Worker, invalidation: &str) -> String {
    let mut done = String::new();
    until(Duration::from_secs(5), async || {
        done = worker.ask(invalidation).await;
        done.starts_with("invalidated Ok")
    })
    .await;
    done
}
