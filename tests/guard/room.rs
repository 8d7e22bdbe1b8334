//! Leases, places in the bulkhead and refreshes: none is held by a load that could not run anyway.

use std::{sync::Arc, time::Duration};

use cattleguard::{Bypass, Clock, Error, Outcome, Policy, Tier, memory::MemoryFar};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    Answer, Caller, TestGuard, answer, answers, answers_by, bounded, builder, caller, callers,
    guard_on, idle, memory, ms,
    origin::{Broken, Origin, Reply, row_at},
    plain, secs, version_of,
    wire::{Break, Call},
    wired_with,
};

/// One load at a time, however long it takes.
fn narrow() -> Policy {
    plain().max_concurrent_loads(1).slow_load_after(Duration::MAX)
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

/// Fetches of as many keys of one kind.
fn polls(guard: &TestGuard, count: usize, kind: &str, origin: &Origin) -> Vec<Caller> {
    let poll = |n| {
        let (guard, load, key) = (guard.clone(), origin.load(), format!("{kind} {n}"));
        tokio::spawn(async move { (guard.fetch(&*key, load).await, Instant::now()) })
    };
    (0..count).map(poll).collect()
}

#[tokio::test(start_paused = true)]
async fn slow_loads_hold_up_others_for_a_second_at_most() {
    let guard = guard_on(memory());
    let (slow, quick) = (Origin::taking(secs(9)), Origin::taking(ms(10)));
    let slow_ones = polls(&guard, 64, "slow", &slow);
    slow.begun(64).await;
    let begun = Instant::now();
    let cold = polls(&guard, 100, "cold", &quick);
    let (cold, last) = answers_by(cold).await;
    assert!(cold.iter().all(Result::is_ok));
    assert!(last - begun <= ms(1_050), "{:?}", last - begun);
    // From then on there is room.
    let asked = Instant::now();
    answers(polls(&guard, 64, "later", &quick)).await;
    assert!(asked.elapsed() <= ms(50), "{:?}", asked.elapsed());
    for answer in answers(slow_ones).await {
        assert_eq!(version_of(&answer), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn twice_the_places_is_the_bound_of_all_loads_and_comes_back_as_they_end() {
    let guard = guard_on(memory());
    let slow = Origin::taking(secs(9));
    let slow_ones = answers(polls(&guard, 300, "slow", &slow)).await;
    // 64 at once, 64 after a second, 64 when the first end; then the others have waited for the load timeout.
    let overloaded = |answer: &&Answer| matches!(answer, Err(Error::Overloaded { .. }));
    assert_eq!(slow_ones.iter().filter(overloaded).count(), 300 - 3 * 64);
    assert_eq!((slow.loads(), slow.most_at_once(), slow.running()), (3 * 64, 128, 0));
    // All places are back, and the room beside them.
    idle().await;
    let (gated, gate) = Origin::gated();
    let again = polls(&guard, 300, "again", &gated);
    gated.begun(64).await;
    idle().await;
    assert_eq!(gated.loads(), 64);
    tokio::time::sleep(secs(1)).await;
    assert_eq!(gated.loads(), 128);
    tokio::time::sleep(secs(5)).await;
    assert_eq!(gated.loads(), 128);
    gate.open();
    assert!(answers(again).await.iter().all(Result::is_ok));
    assert_eq!(gated.most_at_once(), 128);
}

#[tokio::test(start_paused = true)]
async fn no_load_is_moved_without_one_that_waits_for_its_place() {
    let policy = plain().max_concurrent_loads(2);
    let guard = builder().policy(policy).far(memory()).build();
    let (slow, gate) = Origin::gated();
    let mut all = polls(&guard, 2, "slow", &slow);
    slow.begun(2).await;
    // Both have been slow for long. The one that has waits; those after it load at once.
    tokio::time::sleep(secs(5)).await;
    let begun = Instant::now();
    all.extend(polls(&guard, 2, "next", &slow));
    slow.begun(4).await;
    assert_eq!(begun.elapsed(), Duration::ZERO);
    // One beside ends, so that one that is slow by then can move.
    all.extend(polls(&guard, 2, "last", &slow));
    tokio::time::sleep(secs(2)).await;
    assert_eq!(slow.loads(), 4);
    gate.let_one_pass();
    slow.begun(5).await;
    assert_eq!(begun.elapsed(), secs(2));
    // The next one's turn does not pass unnoticed while there is no room beside.
    gate.let_one_pass();
    slow.begun(6).await;
    assert_eq!((begun.elapsed(), slow.most_at_once()), (secs(2), 4));
    gate.open();
    assert!(answers(all).await.iter().all(Result::is_ok));
}

#[tokio::test(start_paused = true)]
async fn room_beside_is_used_when_the_oldest_turns_slow_after_it_was_there() {
    let policy = plain().max_concurrent_loads(1);
    let guard = builder().policy(policy).far(memory()).build();
    let (slow, gate) = Origin::gated();
    let mut all = polls(&guard, 1, "first", &slow);
    tokio::time::sleep(secs(5)).await;
    all.extend(polls(&guard, 1, "second", &slow));
    slow.begun(2).await;
    let begun = Instant::now();
    // It sees that there is no room beside. Then there is, but the load is not slow yet.
    all.extend(polls(&guard, 1, "third", &slow));
    idle().await;
    gate.let_one_pass();
    slow.begun(3).await;
    assert_eq!(begun.elapsed(), secs(1));
    gate.open();
    assert!(answers(all).await.iter().all(Result::is_ok));
    assert_eq!(slow.most_at_once(), 2);
}

#[tokio::test(start_paused = true)]
async fn one_of_the_queue_that_leaves_leaves_its_watch_to_the_next() {
    let policy = plain().max_concurrent_loads(1);
    let guard = builder().policy(policy).far(memory()).build();
    let (slow, gate) = Origin::gated();
    // Callers' own loads: dropped, they leave the queue.
    for key in ["k 0", "k 1"] {
        let passing = Origin::new();
        passing.next(Reply::Loaded(row_at(1).uncacheable()));
        guard.fetch(key, passing.load()).await.expect("a value");
    }
    let mut all = polls(&guard, 1, "slow", &slow);
    slow.begun(1).await;
    let begun = Instant::now();
    let [first, second] = <[Caller; 2]>::try_from(polls(&guard, 2, "k", &slow)).expect("two");
    idle().await;
    first.abort();
    slow.begun(2).await;
    assert_eq!(begun.elapsed(), secs(1));
    gate.open();
    all.push(second);
    assert!(answers(all).await.iter().all(Result::is_ok));
}

#[tokio::test(start_paused = true)]
async fn what_is_never_slow_has_one_bound() {
    let policy = plain().max_concurrent_loads(2).slow_load_after(Duration::MAX);
    let guard = builder().policy(policy).far(memory()).build();
    let slow = Origin::taking(secs(3));
    let all = answers(polls(&guard, 6, "slow", &slow)).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(slow.most_at_once(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_room_in_vain_ends_at_the_deadline_or_after_the_load_timeout() {
    let guard = builder().policy(narrow()).far(memory()).build();
    let slow = Origin::taking(secs(9));
    let begun = Instant::now();
    let mut all = polls(&guard, 3, "slow", &slow);
    idle().await;
    let in_time = guard.fetch_by("k", begun + secs(5), slow.load()).await;
    assert!(matches!(in_time, Err(Error::DeadlineExceeded)), "{in_time:?}");
    assert_eq!(begun.elapsed(), secs(5));
    let (third, at) = bounded(all.pop().expect("three")).await.expect("a task");
    assert!(matches!(third, Err(Error::Overloaded { .. })), "{third:?}");
    assert_eq!((at - begun).as_secs(), 10);
    assert!(answers(all).await.iter().all(Result::is_ok));
}

#[tokio::test(start_paused = true)]
async fn an_origin_that_hangs_and_fails_has_twice_the_places_at_most() {
    let guard = guard_on(memory());
    let failing = Origin::taking(secs(5));
    for _ in 0..300 {
        failing.next(Reply::Fail);
    }
    let all = answers(polls(&guard, 300, "k", &failing)).await;
    assert!(all.iter().all(Result::is_err));
    assert_eq!((failing.most_at_once(), failing.running()), (128, 0));
}
