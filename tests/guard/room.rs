//! Leases, places in the bulkhead and refreshes: none is held by a load that could not run anyway.

use std::{sync::Arc, time::Duration};

use cattleguard::{Bypass, Clock, Outcome, Policy, Tier, memory::MemoryFar};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    answer, answers, bounded, builder, caller, callers, guard_on, idle, memory, ms,
    origin::{Broken, Origin, Reply, row_at},
    plain, secs, version_of,
    wire::{Break, Call},
    wired_with,
};

fn narrow() -> Policy {
    plain().max_concurrent_loads(1)
}

#[tokio::test(start_paused = true)]
async fn a_load_that_queues_for_a_place_keeps_no_lease_from_another_process() {
    let far = memory();
    let (busy, wire) = wired_with(&far, narrow());
    let (slow, gate) = Origin::gated();
    let first = caller(&busy, "first", &slow);
    slow.begun(1).await;
    let queued = callers(&busy, 5, "k", &slow);
    let batch = tokio::spawn({
        let busy = busy.clone();
        async move {
            let rows = async |_: Vec<&'static str>| Err::<Vec<_>, _>(Broken);
            busy.fetch_many(&["a", "b"], rows).await
        }
    });
    idle().await;

    let idle_process = guard_on(far);
    let origin = Origin::taking(ms(10));
    let begun = Instant::now();
    for key in ["k", "a", "b"] {
        assert_eq!(version_of(&idle_process.fetch(key, origin.load()).await), 1, "{key}");
    }
    assert!(begun.elapsed() <= ms(40), "{:?}", begun.elapsed());
    // What the other process has loaded is the answer, without a place.
    for answer in answers(queued).await {
        assert_eq!(version_of(&answer), 1);
    }
    assert_eq!((slow.loads(), origin.loads()), (1, 3));
    gate.open();
    assert_eq!(version_of(&answer(first).await), 1);
    for answer in bounded(batch).await.expect("a task") {
        assert_eq!(version_of(&answer), 1);
    }
    idle().await;
    assert_eq!((busy.flights(), wire.calls(Call::Renew)), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn two_processes_without_room_do_not_pass_a_lease_to_and_fro() {
    let far = memory();
    let (one, first_wire) = wired_with(&far, narrow());
    let (two, second_wire) = wired_with(&far, narrow());
    let (slow, gate) = Origin::gated();
    let busy = [caller(&one, "first", &slow), caller(&two, "second", &slow)];
    slow.begun(2).await;
    let waiting = [caller(&one, "k", &slow), caller(&two, "k", &slow)];
    tokio::time::sleep(secs(5)).await;
    let calls = |call| first_wire.calls(call) + second_wire.calls(call);
    assert_eq!((calls(Call::LookUp), calls(Call::Release)), (4, 2));
    gate.open();
    for caller in busy.into_iter().chain(waiting) {
        assert_eq!(version_of(&answer(caller).await), 1);
    }
    assert_eq!(slow.loads(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_without_room_asks_the_far_tier_nothing() {
    let policy = narrow().ttl(secs(10)).grace(secs(60)).near_ttl(secs(60));
    let (guard, wire) = wired_with(&memory(), policy);
    let origin = Origin::new();
    guard.fetch("k", origin.load()).await.expect("a value");
    tokio::time::advance(secs(10)).await;
    let (slow, gate) = Origin::gated();
    let other = caller(&guard, "other", &slow);
    slow.begun(1).await;
    let calls = wire.all_calls();
    for _ in 0..500 {
        let stale = guard.fetch("k", origin.load()).await.expect("something stale");
        assert!(matches!(stale.outcome(), Outcome::Stale(_)), "{stale:?}");
        tokio::task::yield_now().await;
    }
    idle().await;
    assert_eq!((wire.all_calls() - calls, origin.loads()), (0, 1));
    gate.open();
    assert_eq!(version_of(&answer(other).await), 1);
    // With room again it is refreshed.
    guard.fetch("k", origin.load()).await.expect("something stale");
    idle().await;
    assert_eq!(origin.loads(), 2);
}

#[tokio::test(start_paused = true)]
async fn callers_of_a_stale_key_do_not_wait_although_enough_are_refreshed() {
    // The near tier has nothing: each first caller reads by itself, the others come while it does.
    let policy = plain().ttl(secs(10)).grace(secs(60)).near_ttl(Duration::ZERO).max_refreshes(2);
    let (guard, wire) = wired_with(&memory(), policy.near_outage_ttl(ms(500)));
    let keys = ["k0", "k1", "k2", "k3", "k4", "k5"];
    let origin = Origin::new();
    for key in keys {
        guard.fetch(key, origin.load()).await.expect("a value");
    }
    tokio::time::advance(secs(10)).await;
    let (slow, gate) = Origin::gated();
    // A read is answered before the look-up that is sent after it.
    wire.fault(Call::Read, Break::Slow(ms(1)));
    wire.fault(Call::LookUp, Break::Slow(ms(1)));
    for _ in 0..3 {
        let herd: Vec<_> = keys.iter().flat_map(|key| callers(&guard, 10, key, &slow)).collect();
        let begun = Instant::now();
        for answer in answers(herd).await {
            let fetched = answer.expect("something stale");
            assert!(matches!(fetched.outcome(), Outcome::Stale(_)), "{fetched:?}");
        }
        assert!(begun.elapsed() <= ms(5), "{:?}", begun.elapsed());
    }
    assert!(slow.most_at_once() <= 2, "{} at once", slow.most_at_once());
    gate.open();
}

/// On the system's clock, whose steps are coarser than a timer's: at the end of the ttl it may say that the entry
/// is still fresh.
#[tokio::test]
async fn an_entry_that_is_refreshed_early_is_served_beyond_its_end() {
    for near_capacity in [0, 100] {
        let policy = plain().ttl(ms(300)).grace(secs(30)).early_refresh(1e6);
        let far = MemoryFar::with(100, Clock::system());
        let guard = builder().policy(policy).near_capacity(near_capacity).far(far).build();
        guard.fetch("k", Origin::taking(ms(50)).load()).await.expect("a value");
        let (slow, gate) = Origin::gated();
        let begun = Instant::now();
        while begun.elapsed() < ms(1_500) {
            let asked = Instant::now();
            guard.fetch("k", slow.load()).await.expect("a value");
            assert!(asked.elapsed() < ms(500), "{near_capacity}: {:?}", asked.elapsed());
            tokio::time::sleep(ms(10)).await;
        }
        assert_eq!(slow.loads(), 1);
        gate.open();
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_together_is_asked_again_together() {
    let guard = guard_on(memory());
    let keys: Vec<_> = (0..200).map(|key| format!("k{key}")).collect();
    for key in &keys {
        guard.invalidate_at(key.as_str(), 2).await.expect("an invalidation");
    }
    let asked = Arc::new(Mutex::new(Vec::new()));
    let lagging = {
        let asked = asked.clone();
        move |keys: Vec<String>| {
            let version = if asked.lock().len() < 3 { 1 } else { 2 };
            asked.lock().push(keys.len());
            async move { Ok::<_, Broken>(keys.into_iter().map(|key| (key, row_at(version))).collect()) }
        }
    };
    for answer in bounded(guard.fetch_many(&keys, lagging)).await {
        assert_eq!(version_of(&answer), 2);
    }
    assert_eq!(*asked.lock(), [200; 4]);
}

#[tokio::test(start_paused = true)]
async fn what_may_not_be_kept_does_not_queue_the_fleet() {
    let far = memory();
    let guards: Vec<_> = (0..6).map(|_| guard_on(far.clone())).collect();
    let origin = Origin::taking(ms(100));
    for _ in 0..500 {
        origin.next(Reply::Loaded(row_at(1).uncacheable()));
    }
    // Each process learns it by a load of its own.
    for guard in &guards {
        guard.fetch("k", origin.load()).await.expect("a value");
    }
    let mut took = Vec::new();
    for _ in 0..10 {
        let begun = Instant::now();
        let herd: Vec<_> =
            guards.iter().flat_map(|guard| callers(guard, 3, "k", &origin)).collect();
        for caller in herd {
            let (answer, at) = bounded(caller).await.expect("a task");
            assert_eq!(version_of(&answer), 1);
            took.push(at - begun);
        }
    }
    took.sort();
    let p50 = took[took.len() / 2];
    assert!(p50 <= ms(110), "{p50:?}");
    // One in a while loads under the lease, for each process.
    assert!(took[took.len() - 1] <= ms(700), "{:?}", took.last());
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_ends_a_pass_and_what_is_cacheable_again_is_kept() {
    let far = memory();
    let (one, two) = (guard_on(far.clone()), guard_on(far));
    let origin = Origin::new();
    for _ in 0..2 {
        origin.next(Reply::Loaded(row_at(1).uncacheable()));
    }
    one.fetch("k", origin.load()).await.expect("a value");
    let passed = one.fetch("k", origin.load()).await.expect("a value");
    assert_eq!(passed.outcome(), Outcome::Bypassed(Bypass::Uncacheable));
    // By another process; the origin lags behind it twice.
    two.invalidate_at("k", 3).await.expect("an invalidation");
    for version in [1, 2, 3] {
        origin.next(Reply::Loaded(row_at(version).uncacheable()));
    }
    assert_eq!(version_of(&one.fetch("k", origin.load()).await), 3);
    // Older than what this process knows: for a flight, which asks again.
    origin.next(Reply::Loaded(row_at(2).uncacheable()));
    origin.write(3);
    assert_eq!(version_of(&one.fetch("k", origin.load()).await), 3);
    idle().await;
    let kept = one.fetch("k", origin.load()).await.expect("a value");
    assert_eq!(kept.outcome(), Outcome::Hit(Tier::Near));
}

#[tokio::test(start_paused = true)]
async fn a_load_keeps_its_place_when_the_far_tier_breaks_meanwhile() {
    let (guard, wire) = wired_with(&memory(), narrow());
    let (slow, gate) = Origin::gated();
    let first = caller(&guard, "a", &slow);
    slow.begun(1).await;
    let queued = caller(&guard, "b", &slow);
    idle().await;
    wire.fault_all(&Break::Error);
    gate.open();
    // A second place beside its own would never be free.
    for caller in [first, queued] {
        assert_eq!(version_of(&answer(caller).await), 1);
    }
    assert_eq!((slow.loads(), guard.flights()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn time_in_the_queue_is_not_the_loads() {
    let policy = narrow().load_timeout(ms(200));
    let (guard, _) = wired_with(&memory(), policy);
    let origin = Origin::taking(ms(150));
    let first = caller(&guard, "a", &origin);
    origin.begun(1).await;
    let queued = caller(&guard, "b", &origin);
    for caller in [first, queued] {
        assert_eq!(version_of(&answer(caller).await), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_pass_whose_load_fails_ends_and_the_next_failure_makes_all_back_off() {
    let guard = builder().policy(plain().failure_backoff(secs(5))).far(memory()).build();
    let origin = Origin::new();
    for _ in 0..2 {
        origin.next(Reply::Loaded(row_at(1).uncacheable()));
    }
    guard.fetch("k", origin.load()).await.expect("a value");
    let passed = guard.fetch("k", origin.load()).await.expect("a value");
    assert_eq!(passed.outcome(), Outcome::Bypassed(Bypass::Uncacheable));
    for _ in 0..500 {
        origin.next(Reply::Fail);
    }
    for _ in 0..100 {
        guard.fetch("k", origin.load()).await.expect_err("the origin fails");
    }
    assert_eq!(origin.loads(), 2 + 2);
}

#[tokio::test(start_paused = true)]
async fn a_long_load_without_messages_is_not_kept_longer_than_a_short_one() {
    let policy = plain().near_ttl(secs(60)).near_outage_ttl(ms(500));
    let (guard, wire) = wired_with(&memory(), policy);
    wire.lose_messages();
    wire.fault_all(&Break::Error);
    let origin = Origin::taking(secs(4));
    // Read at the begin of the load: four seconds old at its end.
    let first = guard.fetch("k", origin.load()).await.expect("a value");
    assert_eq!(first.outcome(), Outcome::Bypassed(Bypass::FarUnavailable));
    let again = guard.fetch("k", origin.load()).await.expect("a value");
    assert_eq!((again.outcome(), origin.loads()), (first.outcome(), 2));
}
