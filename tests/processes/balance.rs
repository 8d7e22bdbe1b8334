//! What a process holds: live bytes, tasks, flights.

use std::{
    alloc::System,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use cattleguard::{Clock, Guard, Loaded, memory::MemoryFar};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tokio::{runtime::Handle, task::JoinSet};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// `balance BYTES TASKS FLIGHTS`
pub fn now(guard: &Guard<str, u64>) -> String {
    let tasks = Handle::current().metrics().num_alive_tasks();
    format!("balance {} {tasks} {}", live_bytes(), guard.flights())
}

fn live_bytes() -> i64 {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated as i64 - stats.bytes_deallocated as i64
}

/// Fetches so many distinct keys through a guard of its own, whose tiers hold far fewer: one by one, in
/// batches, and (for speed) most of them without keeping the value. On a busy machine it ends after so many
/// seconds. `sweep FETCHED BEFORE TENTH END AFTER`: how many keys it were; and live bytes before there was a
/// guard, after a tenth of the keys, at the end, and when the guard is gone.
pub async fn sweep(keys: u64, seconds: u64) -> String {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let before = settled().await;
    let guard = small();
    let mut fetched = 0;
    let mut at_tenth = 0;
    while fetched < keys && (Instant::now() < deadline || at_tenth == 0) {
        let next = fetched + keys / 100;
        let part = keys / 1000;
        fetch_one_by_one(&guard, fetched..fetched + part, Loaded::found).await;
        fetch_in_batch(&guard, fetched + part..fetched + 2 * part).await;
        let unkept = |key, version: u64| Loaded::found(key, version).uncacheable();
        fetch_one_by_one(&guard, fetched + 2 * part..next, unkept).await;
        fetched = next;
        if fetched == keys / 10 {
            at_tenth = settled().await;
        }
    }
    let end = settled().await;
    assert_eq!(guard.flights(), 0);
    drop(guard);
    format!("sweep {fetched} {before} {at_tenth} {end} {}", settled().await)
}

/// The least of some moments: what moka has let go is freed while others use it, and the last tasks may be on
/// their way out.
async fn settled() -> i64 {
    let mut least = i64::MAX;
    for _ in 0..20 {
        fetch_one_by_one(&small(), 0..100, Loaded::found).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
        least = least.min(live_bytes());
    }
    least
}

/// Full after a tenth of the keys.
fn small() -> Guard<u64, u64> {
    let far = MemoryFar::<u64>::with(4_000, Clock::system());
    Guard::builder().far(far).near_capacity(2_000).build()
}

async fn fetch_one_by_one(
    guard: &Guard<u64, u64>,
    keys: Range<u64>,
    loaded: fn(u64, u64) -> Loaded<u64>,
) {
    let next = Arc::new(AtomicU64::new(keys.start));
    let mut callers = JoinSet::new();
    for _ in 0..16 {
        let (guard, next, end) = (guard.clone(), next.clone(), keys.end);
        callers.spawn(async move {
            loop {
                let key = next.fetch_add(1, Ordering::Relaxed);
                if key >= end {
                    break;
                }
                let load = move || async move { Ok::<_, std::io::Error>(loaded(key, 1)) };
                guard.fetch(&key, load).await.expect("a value");
            }
        });
    }
    callers.join_all().await;
}

async fn fetch_in_batch(guard: &Guard<u64, u64>, keys: Range<u64>) {
    let load = |keys: Vec<u64>| async move {
        let found = keys.into_iter().map(|key| (key, Loaded::found(key, 1)));
        Ok::<_, std::io::Error>(found.collect())
    };
    let answers = guard.fetch_many(&keys.collect::<Vec<_>>(), load).await;
    assert!(answers.iter().all(Result::is_ok));
}

/// So many callers of so many keys, each dropped somewhere on its way: `abandon DROPPED LOADS`.
pub async fn abandon(guard: &Guard<str, u64>, callers: u64, keys: u64) -> String {
    static ROUND: AtomicU64 = AtomicU64::new(0);
    let round = ROUND.fetch_add(1, Ordering::Relaxed);
    let loads = Arc::new(AtomicU64::new(0));
    let dropped = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for caller in 0..callers {
        let (guard, loads, dropped) = (guard.clone(), loads.clone(), dropped.clone());
        tasks.spawn(async move {
            let load = move || {
                loads.fetch_add(1, Ordering::Relaxed);
                async {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    Ok::<_, std::io::Error>(Loaded::found(1, 1))
                }
            };
            let key = format!("abandoned-{round}-{}", caller * keys / callers);
            let mut fetch = std::pin::pin!(guard.fetch(&key, load));
            // Dropped after so many polls, or after a moment in the air.
            for _ in 0..=caller % 3 {
                if futures::poll!(fetch.as_mut()).is_ready() {
                    return;
                }
                tokio::task::yield_now().await;
            }
            let moment = Duration::from_millis(caller % 20);
            if tokio::time::timeout(moment, fetch).await.is_err() {
                dropped.fetch_add(1, Ordering::Relaxed);
            }
        });
        if tasks.len() >= 1_000 {
            tasks.join_next().await;
        }
    }
    tasks.join_all().await;
    format!("abandon {} {}", dropped.load(Ordering::Relaxed), loads.load(Ordering::Relaxed))
}
