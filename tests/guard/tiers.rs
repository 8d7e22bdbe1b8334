//! Outcomes, the tiers in their order, how long they keep, and what a miss costs the far tier.

use std::{collections::HashSet, time::Duration};

use cattleguard::{Guard, Loaded, Outcome, Policy, Tier, Version, far::Far};
use tokio::time::Instant;

use crate::{
    answer, answers, builder, caller, callers, guard_on, idle, memory, ms,
    origin::{Origin, Reply, row_at},
    plain, secs, version_of,
    wire::Call,
    wired, wired_with,
};

fn outcome(answer: &crate::Answer) -> Outcome {
    answer.as_ref().expect("an answer").outcome()
}

#[tokio::test(start_paused = true)]
async fn a_miss_is_loaded_and_a_near_hit_asks_nobody() {
    let (guard, wire) = wired(&memory());
    let origin = Origin::new();

    let miss = guard.fetch("k", origin.load()).await.expect("a value");
    assert_eq!((miss.outcome(), miss.version()), (Outcome::Loaded, Version::new(1)));
    assert_eq!(miss.value().map(String::as_str), Some("v1"));

    let before = wire.all_calls();
    let hit = guard.fetch("k", origin.load()).await.expect("a value");
    assert_eq!(hit.outcome(), Outcome::Hit(Tier::Near));
    assert!(std::sync::Arc::ptr_eq(hit.entry(), miss.entry()));
    assert_eq!((wire.all_calls(), origin.loads()), (before, 1));
}

#[tokio::test(start_paused = true)]
async fn what_one_guard_loaded_is_a_far_hit_for_another_and_then_near() {
    let far = memory();
    let origin = Origin::new();
    guard_on(far.clone()).fetch("k", origin.load()).await.expect("a value");

    let (other, wire) = wired(&far);
    let hit = other.fetch("k", origin.load()).await.expect("a value");
    assert_eq!(hit.outcome(), Outcome::Hit(Tier::Far));
    assert_eq!((wire.calls(Call::Read), wire.all_calls()), (1, 1), "one command per far hit");
    let hit = other.fetch("k", origin.load()).await.expect("a value");
    assert_eq!(hit.outcome(), Outcome::Hit(Tier::Near));
    assert_eq!(origin.loads(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_comes_along_followed_and_who_waits_for_another_guard_awaited() {
    let far = memory();
    let (a, b) = (guard_on(far.clone()), guard_on(far));
    let (origin, gate) = Origin::gated();

    let leader = caller(&a, "k", &origin);
    origin.begun(1).await;
    let follower = caller(&a, "k", &origin);
    let waiter = caller(&b, "k", &origin);
    idle().await;
    let waiters_follower = caller(&b, "k", &origin);
    idle().await;
    gate.open();

    assert_eq!(outcome(&answer(leader).await), Outcome::Loaded);
    assert_eq!(outcome(&answer(follower).await), Outcome::Followed);
    assert_eq!(outcome(&answer(waiter).await), Outcome::Awaited);
    assert_eq!(outcome(&answer(waiters_follower).await), Outcome::Followed);
    assert_eq!(origin.loads(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_waiter_is_woken_by_the_commit_and_not_by_a_timer() {
    let far = memory();
    let (a, b) = (guard_on(far.clone()), guard_on(far));
    let (origin, gate) = Origin::gated();
    let leader = caller(&a, "k", &origin);
    origin.begun(1).await;
    let waiter = caller(&b, "k", &origin);
    idle().await;

    let commit = Instant::now();
    gate.open();
    version_of(&answer(leader).await);
    version_of(&answer(waiter).await);
    assert_eq!(commit.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_commit_during_the_look_up_still_wakes_the_waiter() {
    let far = memory();
    let a = guard_on(far.clone());
    let (b, wire) = wired(&far);
    let (origin, gate) = Origin::gated();
    let leader = caller(&a, "k", &origin);
    origin.begun(1).await;

    // "Held" is on its way back to B while A commits.
    let held_on_its_way = wire.hold_after(Call::LookUp);
    let waiter = caller(&b, "k", &origin);
    idle().await;
    gate.open();
    version_of(&answer(leader).await);
    wire.heal();

    let told = Instant::now();
    held_on_its_way.open();
    let waited = answer(waiter).await;
    assert_eq!(outcome(&waited), Outcome::Awaited);
    assert_eq!(told.elapsed(), Duration::ZERO, "the message was lost, only the lease's end woke");
}

#[tokio::test(start_paused = true)]
async fn a_failed_load_hands_the_lease_to_a_waiter_at_once() {
    let far = memory();
    let (a, b) = (guard_on(far.clone()), guard_on(far.clone()));
    let (origin, gate) = Origin::gated();
    origin.next(Reply::Fail);
    let leader = caller(&a, "k", &origin);
    origin.begun(1).await;
    let waiter = caller(&b, "k", &origin);
    idle().await;

    let failed = Instant::now();
    gate.open();
    assert!(answer(leader).await.is_err());
    assert_eq!(outcome(&answer(waiter).await), Outcome::Loaded);
    assert_eq!(failed.elapsed(), Duration::ZERO);
    assert_eq!((origin.loads(), far.lease_count()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_lost_message_costs_a_waiter_no_more_than_the_lease() {
    let far = memory();
    let a = guard_on(far.clone());
    let (b, wire) = wired(&far);
    wire.lose_messages();
    let (origin, gate) = Origin::gated();
    let leader = caller(&a, "k", &origin);
    origin.begun(1).await;
    let waiter = caller(&b, "k", &origin);
    idle().await;

    let commit = Instant::now();
    gate.open();
    version_of(&answer(leader).await);
    assert_eq!(outcome(&answer(waiter).await), Outcome::Awaited);
    assert!(commit.elapsed() <= secs(2) + ms(20), "{:?}", commit.elapsed());
    assert_eq!(origin.loads(), 1);
}

#[tokio::test(start_paused = true)]
async fn callers_who_come_during_a_far_read_cost_at_most_one_call_more() {
    let far = memory();
    let origin = Origin::new();
    guard_on(far.clone()).fetch("k", origin.load()).await.expect("a value");

    let (guard, wire) = wired(&far);
    let on_its_way = wire.hold_after(Call::Read);
    let first = caller(&guard, "k", &origin);
    idle().await;
    let late = callers(&guard, 100, "k", &origin);
    idle().await;
    wire.heal();
    on_its_way.open();

    assert_eq!(outcome(&answer(first).await), Outcome::Hit(Tier::Far));
    let late = answers(late).await;
    let followed = late.iter().filter(|late| outcome(late) == Outcome::Followed).count();
    assert!(followed >= 99, "{followed} followed");
    assert_eq!(origin.loads(), 1);
    assert!(wire.all_calls() <= 2, "{} calls", wire.all_calls());
}

#[tokio::test(start_paused = true)]
async fn far_calls_per_miss_grow_with_guards_and_never_with_callers() {
    for count in [1, 10, 1_000] {
        let far = memory();
        let guards: Vec<_> = (0..4).map(|_| wired(&far)).collect();
        let origin = Origin::taking(ms(50));
        let herd: Vec<_> =
            guards.iter().flat_map(|(guard, _)| callers(guard, count, "k", &origin)).collect();
        for answer in answers(herd).await {
            assert_eq!(version_of(&answer), 1);
        }
        assert_eq!(origin.loads(), 1);
        let wires = guards.iter().map(|(_, wire)| wire);
        let calls: Vec<_> =
            wires.map(|wire| (wire.calls(Call::Commit), wire.all_calls())).collect();
        assert_eq!(calls.iter().map(|(commits, _)| commits).sum::<usize>(), 1);
        assert!(calls.iter().all(|(_, all)| *all <= 3), "{count} callers each: {calls:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_near_tier_every_hit_is_far_and_the_herd_still_loads_once() {
    let guard = builder().far(memory()).near_capacity(0).build();
    let origin = Origin::taking(ms(50));
    let herd = callers(&guard, 100, "k", &origin);
    origin.begun(1).await;
    let late = callers(&guard, 100, "k", &origin);
    for answer in answers(herd).await.iter().chain(&answers(late).await) {
        assert_eq!(version_of(answer), 1);
    }
    let hit = guard.fetch("k", origin.load()).await.expect("a value");
    assert_eq!((hit.outcome(), origin.loads()), (Outcome::Hit(Tier::Far), 1));
}

#[tokio::test(start_paused = true)]
async fn a_full_near_tier_forgets_and_asks_the_far_tier() {
    let guard = builder().far(memory()).near_capacity(4).build();
    let origin = Origin::new();
    let keys: Vec<_> = (0..100).map(|n| format!("k{n}")).collect();
    for key in &keys {
        guard.fetch(key, origin.load()).await.expect("a value");
    }
    let near = keys.iter().filter(|key| guard.peek(key).is_some()).count();
    assert!(near <= 8, "{near} entries kept");
    for key in &keys {
        guard.fetch(key, origin.load()).await.expect("a value");
    }
    assert_eq!(origin.loads(), 100);
}

#[tokio::test(start_paused = true)]
async fn a_near_entry_lives_for_its_near_ttl_at_most() {
    let (guard, wire) = wired_with(&memory(), plain().ttl(secs(60)).near_ttl(secs(5)));
    let origin = Origin::new();
    guard.fetch("k", origin.load()).await.expect("a value");
    tokio::time::advance(ms(4_999)).await;
    assert!(guard.peek("k").is_some());
    tokio::time::advance(ms(1)).await;
    assert!(guard.peek("k").is_none());
    let reads = wire.calls(Call::Read);
    let hit = guard.fetch("k", origin.load()).await.expect("a value");
    assert_eq!((hit.outcome(), wire.calls(Call::Read)), (Outcome::Hit(Tier::Far), reads + 1));
}

#[tokio::test(start_paused = true)]
async fn a_value_is_loaded_again_after_its_ttl() {
    let guard = builder().policy(plain().ttl(secs(60))).far(memory()).build();
    let origin = Origin::new();
    guard.fetch("k", origin.load()).await.expect("a value");
    tokio::time::advance(ms(59_999)).await;
    guard.fetch("k", origin.load()).await.expect("a value");
    assert_eq!(origin.loads(), 1);
    tokio::time::advance(ms(1)).await;
    origin.write(2);
    let again = guard.fetch("k", origin.load()).await.expect("a value");
    assert_eq!((again.version(), origin.loads()), (Version::new(2), 2));
}

#[tokio::test(start_paused = true)]
async fn a_load_sets_its_own_ttl() {
    let guard = builder().policy(plain().ttl(secs(60))).far(memory()).build();
    let origin = Origin::new();
    origin.next(Reply::Loaded(row_at(1).ttl(secs(2))));
    guard.fetch("k", origin.load()).await.expect("a value");
    tokio::time::advance(ms(1_999)).await;
    assert!(guard.peek("k").is_some(), "fresh for as long as the load said");
    tokio::time::advance(ms(1)).await;
    guard.fetch("k", origin.load()).await.expect("a value");
    assert_eq!(origin.loads(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_ttl_without_end_is_kept() {
    let guard = builder().policy(plain().ttl(Duration::MAX)).far(memory()).build();
    let origin = Origin::new();
    let loaded = guard.fetch("k", origin.load()).await;
    assert_eq!(version_of(&loaded), 1);
    tokio::time::advance(secs(100_000)).await;
    guard.fetch("k", origin.load()).await.expect("a value");
    assert_eq!(origin.loads(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_absence_is_kept_for_its_negative_ttl_and_then_loaded_again() {
    let far = memory();
    let policy = plain().ttl(secs(60)).negative_ttl(secs(3)).near_ttl(secs(60));
    let (guard, _) = wired_with(&far, policy.clone());
    let (other, _) = wired_with(&far, policy);
    let origin = Origin::new();
    origin.next(Reply::Loaded(Loaded::absent()));

    let absent = guard.fetch("k", origin.load()).await.expect("an answer");
    assert_eq!((absent.value(), absent.outcome()), (None, Outcome::Loaded));
    tokio::time::advance(ms(2_999)).await;
    let near = guard.fetch("k", origin.load()).await.expect("an answer");
    assert_eq!((near.value(), near.outcome()), (None, Outcome::Hit(Tier::Near)));
    let far = other.fetch("k", origin.load()).await.expect("an answer");
    assert_eq!((far.value(), far.outcome()), (None, Outcome::Hit(Tier::Far)));

    tokio::time::advance(ms(1)).await;
    let found = guard.fetch("k", origin.load()).await.expect("an answer");
    assert_eq!(found.value().map(String::as_str), Some("v1"));
    assert_eq!(origin.loads(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_uncacheable_load_answers_those_who_asked_and_is_not_kept() {
    let far = memory();
    let guard = guard_on(far.clone());
    let origin = Origin::taking(ms(50));
    origin.next(Reply::Loaded(row_at(1).uncacheable()));

    let herd = callers(&guard, 50, "k", &origin);
    for answer in answers(herd).await {
        assert_eq!(version_of(&answer), 1);
    }
    assert_eq!((origin.loads(), far.lease_count()), (1, 0));
    assert!(guard.peek("k").is_none());
    assert!(far.read("k").await.expect("the far tier").is_none());
    guard.fetch("k", origin.load()).await.expect("a value");
    assert_eq!(origin.loads(), 2);
}

#[tokio::test(start_paused = true)]
async fn callers_that_come_during_an_uncacheable_load_load_for_themselves() {
    let guard = guard_on(memory());
    let (origin, gate) = Origin::gated();
    origin.next(Reply::Loaded(row_at(1).uncacheable()));
    let leader = caller(&guard, "k", &origin);
    origin.begun(1).await;
    origin.write(2);
    let late = callers(&guard, 20, "k", &origin);
    idle().await;
    gate.open();

    assert_eq!(version_of(&answer(leader).await), 1);
    for late in answers(late).await {
        assert_eq!(version_of(&late), 2);
    }
    assert_eq!(origin.loads(), 21, "one for the leader, and each that came later passes");
}

#[tokio::test(start_paused = true)]
async fn jitter_spreads_the_ends_of_entries_written_together() {
    let far = memory();
    let policy = plain().ttl(secs(100)).jitter(0.2);
    let guard = builder().policy(policy).far(far.clone()).build();
    let origin = Origin::new();
    let mut ends = HashSet::new();
    for n in 0..100 {
        let fetched = guard.fetch(&format!("k{n}"), origin.load()).await.expect("a value");
        let ttl = fetched.entry().fresh_until().since(Far::clock(&far).now());
        assert!(ttl > secs(80) && ttl <= secs(100), "{ttl:?}");
        ends.insert(ttl.as_millis());
    }
    assert!(ends.len() > 50, "{} different ends of 100", ends.len());
}

#[tokio::test(start_paused = true)]
async fn peek_waits_for_nothing_and_asks_nobody() {
    let (guard, wire) = wired(&memory());
    assert!(guard.peek("k").is_none());
    assert_eq!(wire.all_calls(), 0);
    guard.fetch("k", Origin::new().load()).await.expect("a value");
    let hit = guard.peek("k").expect("a near entry");
    assert_eq!(hit.outcome(), Outcome::Hit(Tier::Near));
    tokio::time::advance(secs(60)).await;
    assert!(guard.peek("k").is_none(), "dead entries are not shown");
}

#[tokio::test(start_paused = true)]
async fn a_guard_without_a_far_tier_has_one_of_its_own() {
    let guard: Guard<str, String> =
        Guard::builder().policy(Policy::default()).clock(cattleguard::Clock::tokio()).build();
    let origin = Origin::taking(ms(50));
    for answer in answers(callers(&guard, 100, "k", &origin)).await {
        assert_eq!(version_of(&answer), 1);
    }
    guard.fetch("k", origin.load()).await.expect("a value");
    assert_eq!(origin.loads(), 1);
}
