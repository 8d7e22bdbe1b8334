//! What only several processes can show.

use std::{
    fs,
    time::{Duration, Instant},
};

use cattleguard::lock::Lock;

use crate::{
    contract::{self, TTL},
    kind::Kind,
    servers::Signal,
    worker::Worker,
};

const HELD_FOR: Duration = Duration::from_secs(1);

/// Clause 1.
pub async fn one_holder_among_eight_processes(kind: Kind) {
    const PROCESSES: u32 = 8;
    const ROUNDS: u32 = 15;
    let dir = tempfile::tempdir().expect("a folder");
    fs::write(dir.path().join("counter"), "0").expect("a counter");
    let (name, rounds) = (contract::fresh_name(), ROUNDS.to_string());
    let place = dir.path().to_str().expect("a readable path").to_owned();
    let start = || Worker::start("contend", &kind, &name, &[&rounds, &place]);
    let mut workers: Vec<Worker> = (0..PROCESSES).map(|_| start()).collect();
    let done = tokio::task::spawn_blocking(move || {
        workers.iter_mut().for_each(|worker| assert_eq!(worker.read_line(), "ready"));
        workers.iter_mut().for_each(|worker| assert_eq!(worker.read_line(), "done"));
    });
    done.await.expect("no overlap");
    let count = fs::read_to_string(dir.path().join("counter")).expect("a counter");
    assert_eq!(count, (PROCESSES * ROUNDS).to_string());
}

/// Clause 8.
pub async fn a_killed_holder_costs_its_ttl(kind: Kind) {
    let (lock, name) = (kind.open().await.expect("a lock"), contract::fresh_name());
    let (mut holder, fence) = held(&kind, &name);
    assert!(contract::granted(&lock, &name, TTL).await.is_none());
    let begin = Instant::now();
    holder.signal(Signal::KILL);
    assert_eq!(holder.read_line(), "");
    let lease = lock.acquire(&name, TTL, contract::soon()).await.expect("the lock");
    let took = begin.elapsed();
    assert!(took < HELD_FOR + contract::adds(&kind) + Duration::from_secs(1), "{took:?}");
    assert!(lease.fence() > fence);
}

/// Clauses 3, 6 and 8.
pub async fn a_frozen_holder_is_overtaken_and_knows(kind: Kind) {
    let (lock, name) = (kind.open().await.expect("a lock"), contract::fresh_name());
    let (mut holder, fence) = held(&kind, &name);
    holder.signal(Signal::STOP);
    let begin = Instant::now();
    let lease = lock.acquire(&name, TTL, contract::soon()).await.expect("the lock");
    let took = begin.elapsed();
    assert!(took < HELD_FOR + contract::adds(&kind) + Duration::from_secs(1), "{took:?}");
    assert!(lease.fence() > fence);
    holder.signal(Signal::CONT);
    let last = tokio::task::spawn_blocking(move || holder.read_line()).await.expect("a thread");
    assert_eq!(last, "lost");
    assert!(!lease.is_lost());
}

fn held(kind: &Kind, name: &str) -> (Worker, u64) {
    let ttl = HELD_FOR.as_millis().to_string();
    let mut holder = Worker::start("hold", kind, name, &[&ttl]);
    let said = holder.read_line();
    let fence = said.strip_prefix("held ").and_then(|fence| fence.parse().ok());
    (holder, fence.unwrap_or_else(|| panic!("it holds the lock: {said}")))
}
