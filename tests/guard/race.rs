//! Real threads: what paused time cannot interleave.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use cattleguard::{Clock, Guard, Loaded, Policy, memory::MemoryFar};

use crate::{ms, secs};

const READS: usize = 4_000;

/// One writer per key; each acknowledged invalidation is a promise to every later fetch.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_fetch_is_never_older_than_the_invalidations_acknowledged_before_it() {
    invalidations_race_fetches(Policy::default().ttl(secs(60))).await;
}

/// The same where every entry is stale soon: what is invalidated is not served stale either.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_stale_answer_is_never_older_than_the_invalidations_acknowledged_before_it() {
    invalidations_race_fetches(Policy::default().ttl(Duration::from_micros(1))).await;
}

async fn invalidations_race_fetches(policy: Policy) {
    let far = MemoryFar::with(1_000, Clock::system());
    let guards: Vec<Guard<u64, u64>> =
        (0..3).map(|_| Guard::builder().policy(policy.clone()).far(far.clone()).build()).collect();
    for at_version in [false, true] {
        let keys: Vec<_> = (0..2).map(|key| key + 10 * u64::from(at_version)).collect();
        let mut tasks = Vec::new();
        for key in keys {
            let row = Arc::new(AtomicU64::new(1));
            let acknowledged = Arc::new(AtomicU64::new(1));
            let done = Arc::new(AtomicU64::new(0));
            for guard in &guards {
                let (guard, row) = (guard.clone(), row.clone());
                let (acknowledged, done) = (acknowledged.clone(), done.clone());
                tasks.push(tokio::spawn(async move {
                    for _ in 0..READS {
                        let at_least = acknowledged.load(Ordering::SeqCst);
                        let row = row.clone();
                        let fetched = guard
                            .fetch(&key, move || {
                                let row = row.clone();
                                async move {
                                    let version = row.load(Ordering::SeqCst);
                                    // The row is read; others run before the load returns.
                                    for _ in 0..fastrand::usize(0..4) {
                                        tokio::task::yield_now().await;
                                    }
                                    Ok::<_, std::io::Error>(Loaded::found(version, version))
                                }
                            })
                            .await
                            .expect("a value");
                        assert!(
                            fetched.version().high() >= at_least,
                            "{} where {at_least} was acknowledged, {:?}",
                            fetched.version(),
                            fetched.outcome()
                        );
                        assert_eq!(fetched.value(), Some(&fetched.version().high()));
                        if fastrand::u8(..) < 64 {
                            tokio::task::yield_now().await;
                        }
                    }
                    done.fetch_add(1, Ordering::SeqCst);
                }));
            }
            let (writer, readers) = (guards[0].clone(), guards.len() as u64);
            tasks.push(tokio::spawn(async move {
                while done.load(Ordering::SeqCst) < readers {
                    let version = row.fetch_add(1, Ordering::SeqCst) + 1;
                    let invalidated = if at_version {
                        writer.invalidate_at(&key, version).await
                    } else {
                        writer.invalidate(&key).await
                    };
                    invalidated.expect("the far tier");
                    acknowledged.store(version, Ordering::SeqCst);
                    for _ in 0..fastrand::usize(0..20) {
                        tokio::task::yield_now().await;
                    }
                }
            }));
        }
        for task in tasks {
            crate::bounded(task).await.expect("no panic");
        }
    }
    // A refresh may be in the air still.
    let mut patience = 1_000;
    while guards.iter().any(|guard| guard.flights() > 0) && patience > 0 {
        tokio::time::sleep(ms(5)).await;
        patience -= 1;
    }
    assert!(guards.iter().all(|guard| guard.flights() == 0));
}
