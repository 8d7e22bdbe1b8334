//! Grace: a stale entry is answered at once while one flight refreshes it.

use std::time::Duration;

use cattleguard::{Loaded, Outcome, Policy, Tier, Version, far::Far};
use tokio::time::Instant;

use crate::{
    Answer, answer, answers, builder, callers, guard_on, idle, memory, ms,
    origin::{Origin, Reply, row_at},
    plain, secs, version_of,
    wire::{Break, Call, FAR_TIMEOUT},
    wired_with,
};

/// Fresh for 10 s, stale for 30 s.
fn graceful() -> Policy {
    plain().ttl(secs(10)).grace(secs(30))
}

fn is(answer: &Answer, outcome: Outcome, version: u64) {
    let fetched = answer.as_ref().expect("an answer");
    assert_eq!((fetched.outcome(), fetched.version()), (outcome, Version::new(version)));
}

#[tokio::test(start_paused = true)]
async fn a_stale_near_entry_is_answered_at_once_while_one_load_refreshes() {
    let (guard, wire) = wired_with(&memory(), graceful().near_ttl(secs(60)));
    let origin = Origin::taking(ms(50));
    guard.fetch("k", origin.load()).await.expect("a value");
    tokio::time::advance(secs(10)).await;
    origin.write(2);

    let expired = Instant::now();
    for _ in 0..250 {
        is(&guard.fetch("k", origin.load()).await, Outcome::Stale(Tier::Near), 1);
    }
    for answer in answers(callers(&guard, 250, "k", &origin)).await {
        is(&answer, Outcome::Stale(Tier::Near), 1);
    }
    assert_eq!(expired.elapsed(), Duration::ZERO, "nobody waits");
    assert_eq!(guard.flights(), 1);

    tokio::time::sleep(ms(51)).await;
    is(&guard.fetch("k", origin.load()).await, Outcome::Hit(Tier::Near), 2);
    assert_eq!((origin.loads(), wire.calls(Call::Commit), guard.flights()), (2, 2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_stale_far_entry_is_answered_at_once_while_one_load_refreshes() {
    let far = memory();
    let guards: Vec<_> = (0..4).map(|_| wired_with(&far, graceful()).0).collect();
    let origin = Origin::taking(ms(50));
    guards[0].fetch("k", origin.load()).await.expect("a value");
    tokio::time::advance(secs(10)).await;
    origin.write(2);

    let expired = Instant::now();
    let herd = guards.iter().flat_map(|guard| callers(guard, 250, "k", &origin)).collect();
    for answer in answers(herd).await {
        is(&answer, Outcome::Stale(Tier::Far), 1);
    }
    // Also those who come while the refresh is in the air.
    idle().await;
    let late = guards.iter().flat_map(|guard| callers(guard, 250, "k", &origin)).collect();
    for answer in answers(late).await {
        is(&answer, Outcome::Stale(Tier::Far), 1);
    }
    assert!(expired.elapsed() <= ms(1), "nobody waits");

    tokio::time::sleep(ms(60)).await;
    for guard in &guards {
        is(&guard.fetch("k", origin.load()).await, Outcome::Hit(Tier::Near), 2);
    }
    assert_eq!((origin.loads(), far.lease_count()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn grace_zero_waits_for_the_load() {
    let guard = builder().policy(graceful().grace(Duration::ZERO)).far(memory()).build();
    let origin = Origin::taking(ms(50));
    guard.fetch("k", origin.load()).await.expect("a value");
    tokio::time::advance(secs(10)).await;
    origin.write(2);
    for answer in answers(callers(&guard, 100, "k", &origin)).await {
        assert_eq!(version_of(&answer), 2);
    }
    assert_eq!(origin.loads(), 2);
}

#[tokio::test(start_paused = true)]
async fn after_its_grace_an_entry_is_dead_and_callers_wait() {
    let guard = builder().policy(graceful().near_ttl(secs(600))).far(memory()).build();
    let origin = Origin::taking(ms(50));
    guard.fetch("k", origin.load()).await.expect("a value");
    tokio::time::advance(secs(40)).await;
    origin.write(2);
    is(&guard.fetch("k", origin.load()).await, Outcome::Loaded, 2);
    assert_eq!(origin.loads(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_stale_absence_is_answered_while_it_is_refreshed() {
    let policy = graceful().negative_ttl(secs(3)).near_ttl(secs(60));
    let guard = builder().policy(policy).far(memory()).build();
    let origin = Origin::new();
    origin.next(Reply::Loaded(Loaded::absent()));
    guard.fetch("k", origin.load()).await.expect("an answer");
    tokio::time::advance(secs(3)).await;
    let stale = guard.fetch("k", origin.load()).await.expect("an answer");
    assert_eq!((stale.value(), stale.outcome()), (None, Outcome::Stale(Tier::Near)));
    idle().await;
    is(&guard.fetch("k", origin.load()).await, Outcome::Hit(Tier::Near), 1);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_fails_leaves_the_stale_entry() {
    for reply in [Reply::Fail, Reply::Panic, Reply::PanicInClosure, Reply::Never] {
        let far = memory();
        let policy = graceful().load_timeout(secs(1));
        let guard = builder().policy(policy).far(far.clone()).build();
        let origin = Origin::new();
        guard.fetch("k", origin.load()).await.expect("a value");
        tokio::time::advance(secs(10)).await;
        origin.next(reply);
        is(&guard.fetch("k", origin.load()).await, Outcome::Stale(Tier::Far), 1);
        tokio::time::sleep(secs(2)).await;
        assert_eq!((guard.flights(), far.lease_count()), (0, 0));

        origin.write(2);
        is(&guard.fetch("k", origin.load()).await, Outcome::Stale(Tier::Far), 1);
        idle().await;
        is(&guard.fetch("k", origin.load()).await, Outcome::Hit(Tier::Near), 2);
        assert_eq!(origin.loads(), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stale_entry_is_answered_while_another_guard_refreshes_it() {
    let far = memory();
    let (a, _) = wired_with(&far, graceful());
    let (b, _) = wired_with(&far, graceful());
    let (origin, gate) = Origin::gated();
    let _ = a.put("k", row_at(1)).await.expect("the far tier");
    tokio::time::advance(secs(10)).await;
    origin.write(2);
    is(&a.fetch("k", origin.load()).await, Outcome::Stale(Tier::Far), 1);
    origin.begun(1).await;
    is(&b.fetch("k", origin.load()).await, Outcome::Stale(Tier::Far), 1);
    idle().await;
    assert_eq!((origin.loads(), b.flights()), (1, 1), "B waits for A's load and loads nothing");
    gate.open();
    idle().await;
    for guard in [&a, &b] {
        is(&guard.fetch("k", origin.load()).await, Outcome::Hit(Tier::Near), 2);
    }
    assert_eq!(origin.loads(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_invalidated_entry_is_never_served_stale() {
    let far = memory();
    let (guard, _) = wired_with(&far, graceful().near_ttl(secs(60)));
    let other = guard_on(far.clone());
    for invalidating in [&guard, &other] {
        let origin = Origin::new();
        guard.invalidate("k").await.expect("the far tier");
        let old = guard.fetch("k", origin.load()).await.expect("a value");
        tokio::time::advance(secs(12)).await;
        invalidating.invalidate("k").await.expect("the far tier");
        let fresh = guard.fetch("k", origin.load()).await.expect("a value");
        assert_eq!((old.outcome(), fresh.outcome()), (Outcome::Loaded, Outcome::Loaded));
        assert_eq!(origin.loads(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_during_a_refresh_ends_the_stale_answers() {
    let far = memory();
    let (guard, _) = wired_with(&far, graceful());
    let (origin, gate) = Origin::gated();
    let _ = guard.put("k", row_at(1)).await.expect("the far tier");
    tokio::time::advance(secs(10)).await;
    is(&guard.fetch("k", origin.load()).await, Outcome::Stale(Tier::Far), 1);
    origin.begun(1).await;
    origin.write(2);
    guard_on(far.clone()).invalidate("k").await.expect("the far tier");

    let after = callers(&guard, 10, "k", &origin);
    origin.begun(2).await;
    gate.open();
    for answer in answers(after).await {
        assert_eq!(version_of(&answer), 2);
    }
    is(&guard.fetch("k", origin.load()).await, Outcome::Hit(Tier::Near), 2);
    let entry = far.read("k").await.expect("the far tier").expect("an entry");
    assert_eq!((entry.version(), far.lease_count()), (Version::new(2), 0));
}

#[tokio::test(start_paused = true)]
async fn a_stale_entry_read_before_an_invalidation_answers_no_one_who_comes_after_it() {
    for (elsewhere, others_come_first) in
        [(false, false), (false, true), (true, false), (true, true)]
    {
        let far = memory();
        let (guard, wire) = wired_with(&far, graceful());
        let invalidating = if elsewhere { guard_on(far.clone()) } else { guard.clone() };
        let (origin, gate) = Origin::gated();
        let _ = guard.put("k", row_at(1)).await.expect("the far tier");
        tokio::time::advance(secs(10)).await;

        let on_its_way = wire.hold_after(Call::Read);
        let before = crate::caller(&guard, "k", &origin);
        idle().await;
        wire.heal();
        origin.write(2);
        invalidating.invalidate("k").await.expect("the far tier");
        let mut after = Vec::new();
        if others_come_first {
            after = callers(&guard, 10, "k", &origin);
            origin.begun(1).await;
        }
        on_its_way.open();
        is(&answer(before).await, Outcome::Stale(Tier::Far), 1);

        after.extend(callers(&guard, 10, "k", &origin));
        idle().await;
        gate.open();
        for answer in answers(after).await {
            assert_eq!(version_of(&answer), 2);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_comes_while_a_stale_entry_is_being_read_does_not_wait_for_the_load() {
    let far = memory();
    let (guard, wire) = wired_with(&far, graceful());
    let (origin, gate) = Origin::gated();
    let _ = guard.put("k", row_at(1)).await.expect("the far tier");
    tokio::time::advance(secs(10)).await;
    let on_its_way = wire.hold_after(Call::Read);
    let first = crate::caller(&guard, "k", &origin);
    idle().await;
    let beside = callers(&guard, 10, "k", &origin);
    idle().await;
    wire.heal();
    on_its_way.open();
    is(&answer(first).await, Outcome::Stale(Tier::Far), 1);
    for answer in answers(beside).await {
        is(&answer, Outcome::Stale(Tier::Far), 1);
    }
    assert_eq!((origin.loads(), guard.flights()), (1, 1));
    gate.open();
}

#[tokio::test(start_paused = true)]
async fn a_put_elsewhere_during_a_refresh_ends_the_stale_answers() {
    let far = memory();
    let (guard, _) = wired_with(&far, graceful());
    let (origin, gate) = Origin::gated();
    let _ = guard.put("k", row_at(1)).await.expect("the far tier");
    tokio::time::advance(secs(10)).await;
    is(&guard.fetch("k", origin.load()).await, Outcome::Stale(Tier::Far), 1);
    origin.begun(1).await;

    // The message has arrived here, and the far tier has a fresh value.
    let _ = guard_on(far).put("k", row_at(2)).await.expect("the far tier");
    let after = guard.fetch("k", origin.load()).await;
    gate.open();
    assert_eq!(version_of(&after), 2);
}

#[tokio::test(start_paused = true)]
async fn a_put_during_a_refresh_ends_the_stale_answers() {
    let (guard, _) = wired_with(&memory(), graceful());
    let (origin, gate) = Origin::gated();
    let _ = guard.put("k", row_at(1)).await.expect("the far tier");
    tokio::time::advance(secs(10)).await;
    is(&guard.fetch("k", origin.load()).await, Outcome::Stale(Tier::Far), 1);
    origin.begun(1).await;
    let _ = guard.put("k", row_at(2)).await.expect("the far tier");
    is(&guard.fetch("k", origin.load()).await, Outcome::Hit(Tier::Far), 2);
    gate.open();
    idle().await;
    is(&guard.fetch("k", origin.load()).await, Outcome::Hit(Tier::Near), 2);
}

#[tokio::test(start_paused = true)]
async fn a_stale_near_entry_is_answered_though_the_far_tier_hangs() {
    let (guard, wire) = wired_with(&memory(), graceful().near_ttl(secs(60)));
    let origin = Origin::new();
    guard.fetch("k", origin.load()).await.expect("a value");
    tokio::time::advance(secs(10)).await;
    origin.write(2);
    wire.fault_all(&Break::Hang);
    let begin = Instant::now();
    is(&guard.fetch("k", origin.load()).await, Outcome::Stale(Tier::Near), 1);
    assert_eq!(begin.elapsed(), Duration::ZERO);
    tokio::time::sleep(FAR_TIMEOUT + ms(1)).await;
    is(&guard.fetch("k", origin.load()).await, Outcome::Hit(Tier::Near), 2);
}

#[tokio::test(start_paused = true)]
async fn a_stale_far_entry_is_answered_though_the_lease_cannot_be_asked_for() {
    let (guard, wire) = wired_with(&memory(), graceful());
    let origin = Origin::new();
    let _ = guard.put("k", row_at(1)).await.expect("the far tier");
    tokio::time::advance(secs(10)).await;
    origin.write(2);
    wire.fault(Call::LookUp, Break::Error);
    let herd = callers(&guard, 20, "k", &origin);
    for answer in answers(herd).await {
        is(&answer, Outcome::Stale(Tier::Far), 1);
    }
    idle().await;
    is(&guard.fetch("k", origin.load()).await, Outcome::Hit(Tier::Near), 2);
    assert_eq!(origin.loads(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_leaves_before_the_stale_answer_still_refreshes() {
    let (guard, _) = wired_with(&memory(), graceful());
    let origin = Origin::taking(ms(50));
    let _ = guard.put("k", row_at(1)).await.expect("the far tier");
    tokio::time::advance(secs(10)).await;
    origin.write(2);
    let leaving = tokio::time::timeout(Duration::ZERO, guard.fetch("k", origin.load())).await;
    drop(leaving);
    tokio::time::sleep(ms(60)).await;
    is(&guard.fetch("k", origin.load()).await, Outcome::Hit(Tier::Near), 2);
    assert_eq!(origin.loads(), 1);
}

#[tokio::test(start_paused = true)]
async fn peek_shows_no_stale_entry() {
    let (guard, _) = wired_with(&memory(), graceful().near_ttl(secs(60)));
    let origin = Origin::new();
    guard.fetch("k", origin.load()).await.expect("a value");
    tokio::time::advance(secs(10)).await;
    assert!(guard.peek("k").is_none());
    assert_eq!(version_of(&answer(crate::caller(&guard, "k", &origin)).await), 1);
}

#[tokio::test(start_paused = true)]
async fn only_so_many_stale_entries_are_refreshed_at_one_time() {
    for near_ttl in [secs(60), Duration::ZERO] {
        let policy = graceful().near_ttl(near_ttl).max_refreshes(3);
        let (guard, _) = wired_with(&memory(), policy);
        let origin = Origin::taking(ms(50));
        let keys: Vec<_> = (0..10).map(|key| format!("k{key}")).collect();
        for key in &keys {
            guard.fetch(key, origin.load()).await.expect("a value");
        }
        tokio::time::advance(secs(10)).await;
        let before = origin.loads();
        for _ in 0..5 {
            for key in &keys {
                let answer = guard.fetch(key, origin.load()).await.expect("an answer");
                assert!(matches!(answer.outcome(), Outcome::Stale(_)), "{answer:?}");
            }
            idle().await;
        }
        assert_eq!((guard.flights(), origin.loads() - before), (3, 3));
        // A miss is not held up, and the others have their turn.
        guard.fetch("cold", origin.load()).await.expect("a value");
        for _ in 0..3 {
            for key in &keys {
                guard.fetch(key, origin.load()).await.expect("an answer");
            }
            tokio::time::sleep(ms(60)).await;
        }
        assert_eq!((guard.flights(), origin.loads() - before), (0, 11));
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_refresh_however_long_it_takes() {
    // Near entries live shorter than the refresh takes, as they do without messages; or not at all.
    for near_ttl in [ms(600), Duration::ZERO] {
        let policy = graceful().near_ttl(near_ttl).grace(secs(60)).load_timeout(secs(60));
        let (guard, wire) = wired_with(&memory(), policy);
        let origin = Origin::taking(secs(5));
        guard.fetch("k", origin.load()).await.expect("a value");
        tokio::time::advance(secs(10)).await;
        let (reads, loads) = (wire.calls(Call::Read), origin.loads());
        for _ in 0..40 {
            let begun = Instant::now();
            let fetched = guard.fetch("k", origin.load()).await.expect("something stale");
            assert!(matches!(fetched.outcome(), Outcome::Stale(_)), "{fetched:?}");
            assert_eq!(begun.elapsed(), Duration::ZERO);
            tokio::time::sleep(ms(100)).await;
        }
        assert_eq!(origin.loads(), loads + 1);
        assert!(wire.calls(Call::Read) - reads <= 10, "{}", wire.calls(Call::Read) - reads);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_looks_again_finds_out_that_its_entry_is_gone() {
    let policy = graceful().near_ttl(ms(600)).grace(secs(60)).load_timeout(secs(60));
    let far = memory();
    let (guard, wire) = wired_with(&far, policy);
    let origin = Origin::taking(secs(5));
    guard.fetch("k", origin.load()).await.expect("a value");
    tokio::time::advance(secs(10)).await;
    guard.fetch("k", origin.load()).await.expect("something stale");
    origin.begun(2).await;
    origin.write(2);
    wire.lose_messages();
    guard_on(far).invalidate_at("k", 2).await.expect("the far tier");
    tokio::time::sleep(ms(1_300)).await;
    assert_eq!(version_of(&guard.fetch("k", origin.load()).await), 2);
}
