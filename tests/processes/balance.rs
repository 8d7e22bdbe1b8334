//! What a process holds: live bytes, tasks, flights.

use std::{
    alloc::System,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use cattleguard::{Guard, Loaded, far};
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
    stats.bytes_allocated as i64 - stats.bytes_deallocated as i64 + stats.bytes_reallocated as i64
}

/// Fetches so many distinct keys through a guard of its own, whose tiers hold far fewer: `sweep BEFORE TENTH
/// END AFTER`, live bytes before there was a guard, after a tenth of the keys, at the end, and when the
/// guard is gone.
pub async fn sweep(keys: u64) -> String {
    let before = live_bytes();
    let far = far::Memory::<u64>::with(20_000, cattleguard::Clock::system());
    let guard: Guard<u64, u64> = Guard::builder().far(far.clone()).near_capacity(10_000).build();
    fetch_all(&guard, 0..keys / 10).await;
    let tenth = live_bytes();
    fetch_all(&guard, keys / 10..keys).await;
    let end = live_bytes();
    assert_eq!(guard.flights(), 0);
    drop((guard, far));
    format!("sweep {before} {tenth} {end} {}", live_bytes())
}

async fn fetch_all(guard: &Guard<u64, u64>, keys: std::ops::Range<u64>) {
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
                let load = move || async move { Ok::<_, std::io::Error>(Loaded::found(key, 1)) };
                guard.fetch(&key, load).await.expect("a value");
            }
        });
    }
    callers.join_all().await;
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
