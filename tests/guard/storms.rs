//! A thousand processes at once, in simulated time. Processes share a store; what each has to itself is its guard.

use std::{collections::HashMap, time::Duration};

use cattleguard::{Clock, Outcome, Tier, memory::MemoryFar};
use tokio::{task::JoinSet, time::Instant};

use crate::{
    TestGuard, builder, callers, guard_on, memory, ms, origin::Origin, plain, secs, version_of,
    wire::Call, wired,
};

/// How many of these moments are in the fullest millisecond.
fn peak(moments: impl Iterator<Item = Duration>) -> usize {
    let mut by_millisecond = HashMap::new();
    for moment in moments {
        *by_millisecond.entry(moment.as_millis()).or_insert(0) += 1;
    }
    by_millisecond.into_values().max().unwrap_or(0)
}

#[tokio::test(start_paused = true)]
async fn a_thousand_processes_that_wait_for_one_key_do_not_look_at_once() {
    const LOAD: Duration = ms(100);
    let far = memory();
    let fleet: Vec<_> = (0..1_000).map(|_| wired(&far)).collect();
    let origin = Origin::taking(LOAD);
    let begun = Instant::now();
    let waiting: Vec<_> =
        fleet.iter().flat_map(|(guard, _)| callers(guard, 1, "k", &origin)).collect();
    let mut answered = Vec::new();
    for caller in waiting {
        let (answer, at) = crate::bounded(caller).await.expect("the caller lives");
        assert_eq!(version_of(&answer), 1);
        answered.push(at - begun);
    }
    assert_eq!(origin.loads(), 1);
    let last = answered.iter().max().expect("an answer");
    assert!(*last <= LOAD + ms(50), "{last:?}");
    // Those that the lease notes look at once, the others spread.
    let peak = peak(answered.into_iter());
    assert!(peak <= 64 + 100, "{peak} in a millisecond");
    // Before the load, at its beginning, and after it.
    let calls: u64 = fleet.iter().map(|(_, wire)| wire.calls(Call::LookUp) as u64).sum();
    assert!(calls <= 2 * 1_000, "{calls} look-ups");
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_keys_that_expire_in_a_second_are_loaded_once_each() {
    const KEYS: usize = 10_000;
    const PROCESSES: usize = 4;
    let far = MemoryFar::with(20_000, Clock::tokio());
    // No near tier: all that a process asks for, it asks the store.
    let policy = plain().ttl(secs(10)).near_ttl(Duration::ZERO).max_concurrent_loads(64);
    let fleet: Vec<TestGuard> =
        (0..PROCESSES).map(|_| builder().policy(policy.clone()).far(far.clone()).build()).collect();
    let origin = Origin::taking(ms(5));
    let round = async || {
        let mut asking = JoinSet::new();
        for key in 0..KEYS {
            for guard in &fleet {
                let (guard, load) = (guard.clone(), origin.load());
                asking.spawn(async move {
                    tokio::time::sleep(Duration::from_micros(100 * key as u64)).await;
                    guard.fetch(&key.to_string(), load).await.expect("a row");
                });
            }
        }
        asking.join_all().await;
    };
    round().await;
    assert_eq!(origin.loads(), KEYS);
    tokio::time::sleep(secs(11)).await;
    round().await;
    assert_eq!(origin.loads(), 2 * KEYS, "once each, whoever asks");
    assert!(origin.most_at_once() <= 64 * PROCESSES, "{}", origin.most_at_once());
}

#[tokio::test(start_paused = true)]
async fn a_rolling_restart_loads_nothing() {
    const KEYS: [&str; 5] = ["a", "b", "c", "d", "e"];
    let far = memory();
    let origin = Origin::taking(ms(10));
    let mut fleet: Vec<TestGuard> = (0..200).map(|_| guard_on(far.clone())).collect();
    for key in KEYS {
        fleet[0].fetch(key, origin.load()).await.expect("a row");
    }
    for process in &mut fleet {
        *process = guard_on(far.clone());
        for key in KEYS {
            let fetched = process.fetch(key, origin.load()).await.expect("a row");
            assert_eq!(fetched.outcome(), Outcome::Hit(Tier::Far));
        }
    }
    assert_eq!(origin.loads(), KEYS.len());
}
