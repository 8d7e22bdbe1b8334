//! One test per clause of the contract in `cattleguard::lock`, for any implementer.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use cattleguard::{
    FaultKind,
    lock::{Attempt, BoxLock, Lease, Lock, Reentrant, acquire_many},
};
use futures::FutureExt;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::kind::Kind;

pub const TTL: Duration = Duration::from_secs(30);
/// A lease that shall end while the test waits.
pub const SHORT: Duration = Duration::from_millis(600);
/// Within this a waiter is woken by a message or finds out by itself; far below `TTL`.
const SOON: Duration = Duration::from_secs(3);
pub const LONG: Duration = Duration::from_secs(20);

/// A name that no other test uses: all share one server.
pub fn fresh_name() -> String {
    format!("n/{{{}}}%:ä", fastrand::u64(..))
}

pub fn soon() -> Instant {
    Instant::now() + LONG
}

pub async fn granted(lock: &BoxLock, name: &str, ttl: Duration) -> Option<Lease> {
    match lock.try_acquire(name, ttl).await.expect("an answer") {
        Attempt::Granted(lease) => Some(lease),
        _ => None,
    }
}

/// What the system adds to the ttl before a dead holder's lock is free.
pub fn adds(kind: &Kind) -> Duration {
    match kind.name() {
        // The session's timeout instead of the ttl, and the server looks now and then.
        "zookeeper" => Duration::from_millis(2500),
        // Whole seconds, and at least one.
        "mysql-session" => Duration::from_secs(1),
        _ => Duration::ZERO,
    }
}

async fn open(kind: &Kind) -> BoxLock {
    kind.open().await.expect("a lock")
}

/// Clauses 1 and 2.
pub async fn one_holder_and_fences_grow(kind: Kind) {
    const CONTENDERS: u32 = 8;
    const ROUNDS: u32 = 12;
    let name: Arc<str> = fresh_name().into();
    let inside = Arc::new(AtomicBool::new(false));
    // Read and written apart: an overlap would lose some.
    let (counter, fences) =
        (Arc::new(AtomicU32::new(0)), Arc::new(parking_lot::Mutex::new(vec![])));
    let mut contenders = JoinSet::new();
    for _ in 0..CONTENDERS {
        let lock = open(&kind).await;
        let (name, inside, counter, fences) =
            (name.clone(), inside.clone(), counter.clone(), fences.clone());
        contenders.spawn(async move {
            for _ in 0..ROUNDS {
                let lease = lock.acquire(&name, TTL, soon() + LONG).await.expect("the lock");
                assert!(!inside.swap(true, Ordering::SeqCst), "two are inside");
                let read = counter.load(Ordering::SeqCst);
                fences.lock().push(lease.fence());
                tokio::task::yield_now().await;
                counter.store(read + 1, Ordering::SeqCst);
                assert!(inside.swap(false, Ordering::SeqCst), "two were inside");
                lease.release().await.expect("a release");
            }
        });
    }
    while let Some(done) = contenders.join_next().await {
        done.expect("no overlap");
    }
    assert_eq!(counter.load(Ordering::SeqCst), CONTENDERS * ROUNDS);
    let fences = fences.lock();
    assert!(fences.is_sorted_by(|a, b| a < b), "{fences:?}");
}

pub async fn an_attempt_at_a_held_name_is_told_so_at_once(kind: Kind) {
    let (mine, other, name) = (open(&kind).await, open(&kind).await, fresh_name());
    let lease = granted(&mine, &name, TTL).await.expect("a free name");
    assert!(!lease.is_lost());
    assert!(lease.expires_at() <= Instant::now() + TTL);
    assert!(granted(&other, &name, TTL).await.is_none());
    assert!(granted(&mine, &name, TTL).await.is_none(), "a lock is not reentrant by itself");
    assert!(granted(&other, &fresh_name(), TTL).await.is_some(), "names are apart");
    lease.release().await.expect("a release");
    assert!(granted(&other, &name, TTL).await.is_some());
}

/// Clauses 3, 4 and 6.
pub async fn a_lease_ends_unless_renewed(kind: Kind) {
    let (mine, other, name) = (open(&kind).await, open(&kind).await, fresh_name());
    let lease = granted(&mine, &name, SHORT).await.expect("a free name");
    let lost = lease.lost();
    let end = lease.expires_at();
    timeout(SHORT + SOON, lost).await.expect("lost at its end");
    assert!(Instant::now() >= end && lease.is_lost());
    assert_eq!(lease.renew().await.expect_err("too late").kind(), FaultKind::Lost);
    let begin = Instant::now();
    let next = other.acquire(&name, TTL, soon()).await.expect("a free name");
    assert!(begin.elapsed() < adds(&kind) + SOON, "{:?}", begin.elapsed());
    assert!(next.fence() > lease.fence());
    // Clause 5: what was lost is nothing to release.
    drop(lease);
    sleep(Duration::from_millis(100)).await;
    assert!(granted(&mine, &name, TTL).await.is_none(), "the next holder's lease was released");
    assert!(!next.is_lost());
}

/// Clause 4.
pub async fn a_lease_kept_alive_outlives_its_ttl(kind: Kind) {
    let (mine, other, name) = (open(&kind).await, open(&kind).await, fresh_name());
    let lease = granted(&mine, &name, SHORT).await.expect("a free name");
    lease.keep_alive();
    assert!(timeout(SHORT * 3 + adds(&kind), lease.lost()).await.is_err(), "lost while kept alive");
    assert!(granted(&other, &name, SHORT).await.is_none());
    lease.renew().await.expect("still ours");
    drop(lease);
    // Clause 5, by dropping.
    let _ = timeout(SOON, other.acquire(&name, TTL, soon()))
        .await
        .expect("freed soon")
        .expect("the lock");
}

pub async fn work_keeps_its_lease_and_ends_with_it(kind: Kind) {
    let (mine, name) = (open(&kind).await, fresh_name());
    let lease = granted(&mine, &name, SHORT).await.expect("a free name");
    let done = lease.run(async {
        sleep(SHORT * 2).await;
        7
    });
    assert_eq!(done.await.expect("kept alive while it runs"), 7);
    lease.release().await.expect("a release");
}

/// Clauses 7 and 9.
pub async fn a_waiter_has_the_name_soon_after_its_release(kind: Kind) {
    let (mine, other, name) = (open(&kind).await, open(&kind).await, fresh_name());
    let lease = granted(&mine, &name, TTL).await.expect("a free name");
    let waiting = tokio::spawn({
        let name = name.clone();
        async move { other.acquire(&name, TTL, soon()).await.map(|lease| (Instant::now(), lease)) }
    });
    sleep(Duration::from_millis(300)).await;
    assert!(!waiting.is_finished());
    let begin = Instant::now();
    lease.release().await.expect("a release");
    let (at, _lease) = waiting.await.expect("a task").expect("the lock");
    assert!(at - begin < Duration::from_secs(1), "{:?}", at - begin);
}

/// For locks that promise it.
pub async fn waiters_are_served_in_turn(kind: Kind) {
    let (mine, name) = (open(&kind).await, fresh_name());
    let lease = granted(&mine, &name, TTL).await.expect("a free name");
    let served = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let mut waiters = JoinSet::new();
    for number in 0..5 {
        let (other, name, served) = (open(&kind).await, name.clone(), served.clone());
        // The connection is there, so that the next step is the queue.
        drop(other.try_acquire(&name, TTL).await.expect("an answer"));
        waiters.spawn(async move {
            let lease = other.acquire(&name, TTL, soon()).await.expect("the lock");
            served.lock().push(number);
            lease.release().await.expect("a release");
        });
        sleep(Duration::from_millis(250)).await;
    }
    lease.release().await.expect("a release");
    while let Some(done) = waiters.join_next().await {
        done.expect("served");
    }
    assert_eq!(*served.lock(), [0, 1, 2, 3, 4]);
}

/// Clause 9.
pub async fn a_deadline_ends_the_wait(kind: Kind) {
    let (mine, other, name) = (open(&kind).await, open(&kind).await, fresh_name());
    let _lease = granted(&mine, &name, TTL).await.expect("a free name");
    let begin = Instant::now();
    let deadline = begin + Duration::from_millis(400);
    let late = other.acquire(&name, TTL, deadline).await.expect_err("held by another");
    assert_eq!(late.kind(), FaultKind::Held, "{late:?}");
    assert!(Instant::now() >= deadline && begin.elapsed() < SOON, "{:?}", begin.elapsed());
    // One that has passed already, which leaves a slow server no time to tell why.
    let late = other.acquire(&name, TTL, begin).await.expect_err("held by another");
    assert!(matches!(late.kind(), FaultKind::Held | FaultKind::Timeout), "{late:?}");
    assert!(begin.elapsed() < SOON * 2, "{:?}", begin.elapsed());
}

/// Clause 7: a release races a wait.
pub async fn no_wake_up_is_lost(kind: Kind, rounds: u32) {
    let name: Arc<str> = fresh_name().into();
    let (mine, other) = (open(&kind).await, open(&kind).await);
    let mut slow = Vec::new();
    for round in 0..rounds {
        let lease = mine.acquire(&name, TTL, soon()).await.expect("the lock");
        let waiting = tokio::spawn({
            let (other, name) = (other.clone(), name.clone());
            async move {
                let lease = other.acquire(&name, TTL, soon()).await.expect("the lock");
                let at = Instant::now();
                lease.release().await.expect("a release");
                at
            }
        });
        // At every moment of the other's steps, one after the other.
        for _ in 0..round % 50 {
            tokio::task::yield_now().await;
        }
        let pause = Duration::from_micros(fastrand::u64(..400));
        let until = std::time::Instant::now() + pause;
        while std::time::Instant::now() < until {
            tokio::task::yield_now().await;
        }
        let begin = Instant::now();
        lease.release().await.expect("a release");
        let took = waiting.await.expect("a task").saturating_duration_since(begin);
        if took > Duration::from_millis(150) {
            // The second look comes a quarter of a second later; a busy machine may delay some.
            slow.push(took);
            assert!(slow.len() as u32 <= rounds / 100, "by round {round} of {rounds}: {slow:?}");
        }
    }
}

/// Clause 10: at every step of a wait.
pub async fn a_cancelled_acquire_leaves_nothing_behind(kind: Kind) {
    let name = fresh_name();
    let (mine, other, third) = (open(&kind).await, open(&kind).await, open(&kind).await);
    // The connection is there.
    drop(other.acquire(&fresh_name(), SHORT, soon()).await.expect("a lock"));
    for polls in [0, 1, 2, 3, 5, 8, 40] {
        let lease = mine.acquire(&name, TTL, soon()).await.expect("the lock");
        abandon(other.acquire(&name, TTL, soon()), polls).await;
        abandon(other.try_acquire(&name, TTL), polls).await;
        let mut waiting = Box::pin(other.acquire(&name, TTL, soon()));
        assert!(timeout(Duration::from_millis(30 * polls), &mut waiting).await.is_err());
        drop(waiting);
        lease.release().await.expect("a release");
        // A cancelled caller neither blocks the others nor takes the lock.
        let begin = Instant::now();
        let lease = third.acquire(&name, TTL, soon()).await.expect("the lock");
        // A waiter that was left behind would count as alive for a second there.
        let queued = kind.name().starts_with("redis");
        let limit = if queued { Duration::from_millis(800) } else { SOON };
        assert!(begin.elapsed() < limit, "{polls} polls: {:?}", begin.elapsed());
        lease.release().await.expect("a release");
        // A free lock, in the midst of being taken.
        abandon(other.acquire(&name, TTL, soon()), polls as u32 as u64).await;
    }
    let lease =
        timeout(SOON, mine.acquire(&name, TTL, soon())).await.expect("freed").expect("a lock");
    lease.release().await.expect("a release");
}

pub async fn a_reentrant_owner_counts(kind: Kind) {
    let (lock, other, name) = (open(&kind).await, open(&kind).await, fresh_name());
    let (owner, stranger) = (Reentrant::new(lock.clone()), Reentrant::new(lock));
    let outer = owner.acquire(&name, TTL, soon()).await.expect("the lock");
    let inner = owner.clone().acquire(&name, TTL, soon()).await.expect("again");
    let third = match owner.try_acquire(&name, TTL).await.expect("an answer") {
        Attempt::Granted(lease) => lease,
        _ => panic!("held by its own owner"),
    };
    assert_eq!((outer.fence(), third.fence()), (inner.fence(), inner.fence()));
    assert!(matches!(stranger.try_acquire(&name, TTL).await, Ok(Attempt::Held { .. })));
    outer.release().await.expect("a release");
    drop(third);
    assert!(granted(&other, &name, TTL).await.is_none(), "one is left");
    assert!(!inner.is_lost());
    inner.release().await.expect("a release");
    let _ = granted(&other, &name, TTL).await.expect("the last one frees the lock");
    // Two tasks of one owner at once.
    let name = fresh_name();
    let both = tokio::join!(owner.acquire(&name, TTL, soon()), owner.acquire(&name, TTL, soon()));
    assert_eq!(both.0.expect("the lock").fence(), both.1.expect("the lock").fence());
}

pub async fn many_names_in_opposite_orders_do_not_deadlock(kind: Kind) {
    let names: Vec<String> = (0..4).map(|_| fresh_name()).collect();
    let mut callers = JoinSet::new();
    for caller in 0..4 {
        let (lock, mut names) = (open(&kind).await, names.clone());
        names.rotate_left(caller);
        if caller % 2 == 1 {
            names.reverse();
        }
        // A repeated name.
        names.push(names[0].clone());
        callers.spawn(async move {
            for _ in 0..5 {
                let leases = acquire_many(&lock, &names, TTL, soon()).await.expect("all locks");
                assert_eq!(leases.iter().count(), 4);
                leases.release().await.expect("a release");
            }
        });
    }
    while let Some(done) = callers.join_next().await {
        done.expect("all had their turns");
    }
    // All or none.
    let (lock, other) = (open(&kind).await, open(&kind).await);
    let mut sorted = names.clone();
    sorted.sort();
    let _last = granted(&other, &sorted[3], TTL).await.expect("a free name");
    let deadline = Instant::now() + Duration::from_millis(300);
    let failed = acquire_many(&lock, &names, TTL, deadline).await.expect_err("one is held");
    assert_eq!(failed.kind(), FaultKind::Held);
    let _ = granted(&other, &sorted[0], TTL).await.expect("the first was given back");
}

/// Clause 11.
pub async fn errors_show_no_names(kind: Kind) {
    let (mine, other) = (open(&kind).await, open(&kind).await);
    let lease = granted(&mine, "secret-name", TTL).await.expect("a free name");
    let late = other.acquire("secret-name", TTL, Instant::now()).await.expect_err("held");
    for text in [format!("{late} {late:?}"), format!("{lease:?} {:?}", lease.renew().await)] {
        assert!(!text.contains("secret"), "{text}");
    }
    lease.release().await.expect("a release");
}

/// Polls a future a few times and drops it.
async fn abandon<T>(future: impl Future<Output = T>, polls: u64) {
    let mut future = Box::pin(future);
    for _ in 0..polls {
        if (&mut future).now_or_never().is_some() {
            return;
        }
        tokio::task::yield_now().await;
    }
}
