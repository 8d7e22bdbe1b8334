//! P2 never backwards, P3 no resurrection, P4 fresh for those who come later.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use cattleguard::{
    Clock, Error, Guard, Loaded, Outcome, Tier, Version, Write,
    far::{Attempt, Event, Far, Invalidated, Token},
    memory::MemoryFar,
};
use tokio::time::Instant;

use crate::{
    answer, answers, builder, caller, callers, guard_on, idle, memory, ms,
    origin::{Origin, Reply, row_at},
    plain, secs, version_of,
    wire::{Break, Call},
    wired, wired_with,
};

#[tokio::test(start_paused = true)]
async fn a_put_is_what_the_next_fetch_gets() {
    let far = memory();
    let (a, b) = (guard_on(far.clone()), guard_on(far));
    let origin = Origin::new();
    for guard in [&a, &b] {
        assert_eq!(version_of(&guard.fetch("k", origin.load()).await), 1);
    }
    assert_eq!(a.put("k", row_at(2)).await.expect("the far tier"), Write::Stored);
    for guard in [&a, &b] {
        let fetched = guard.fetch("k", origin.load()).await.expect("a value");
        assert_eq!(fetched.value().map(String::as_str), Some("v2"));
        assert_eq!(fetched.outcome(), Outcome::Hit(Tier::Far));
    }
    assert_eq!(origin.loads(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_older_put_is_refused() {
    let far = memory();
    let (a, b) = (guard_on(far.clone()), guard_on(far));
    let origin = Origin::new();
    assert_eq!(a.put("k", row_at(5)).await.expect("the far tier"), Write::Stored);
    for guard in [&a, &b] {
        let minimum = Version::new(5);
        let refused = guard.put("k", row_at(4)).await.expect("the far tier");
        assert_eq!(refused, Write::Older { minimum });
        assert_eq!(version_of(&guard.fetch("k", origin.load()).await), 5);
    }
    assert_eq!(a.put("k", row_at(5)).await.expect("the far tier"), Write::Stored, "idempotent");
    assert_eq!(origin.loads(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_older_put_is_refused_after_the_value_has_expired() {
    let guard = guard_on(memory());
    let _ = guard.put("k", row_at(5).ttl(secs(1))).await.expect("the far tier");
    tokio::time::advance(secs(10)).await;
    let refused = guard.put("k", row_at(4)).await.expect("the far tier");
    assert_eq!(refused, Write::Older { minimum: Version::new(5) });
}

#[tokio::test(start_paused = true)]
async fn a_put_during_a_load_revokes_its_lease() {
    let far = memory();
    let (guard, other) = (guard_on(far.clone()), guard_on(far.clone()));
    let (origin, gate) = Origin::gated();
    let aboard = callers(&guard, 10, "k", &origin);
    origin.begun(1).await;
    assert_eq!(guard.put("k", row_at(6)).await.expect("the far tier"), Write::Stored);
    assert_eq!((guard.flights(), far.lease_count()), (0, 0));
    gate.open();

    // The newer value is known by then, so those aboard get it too.
    for answer in answers(aboard).await {
        assert_eq!(version_of(&answer), 6);
    }
    for guard in [&guard, &other] {
        assert_eq!(version_of(&guard.fetch("k", origin.load()).await), 6);
    }
    assert_eq!((origin.loads(), far.lease_count()), (1, 0));
}

/// Without versions only the revoked lease tells the put from the load before it.
#[tokio::test(start_paused = true)]
async fn an_unversioned_put_during_a_load_is_not_overwritten_by_it() {
    let far = memory();
    let (guard, elsewhere) = (guard_on(far.clone()), guard_on(far.clone()));
    let (origin, gate) = Origin::gated();
    origin.next(Reply::Loaded(Loaded::unversioned("old".to_owned())));
    let aboard = caller(&guard, "k", &origin);
    origin.begun(1).await;
    let put = elsewhere.put("k", Loaded::unversioned("new".to_owned())).await;
    assert_eq!(put.expect("the far tier"), Write::Stored);
    gate.open();
    answer(aboard).await.expect("a value");
    let far = far.read("k").await.expect("the far tier").expect("an entry");
    assert_eq!(far.value().map(String::as_str), Some("new"));
    for guard in [&guard, &elsewhere] {
        let fetched = guard.fetch("k", origin.load()).await.expect("a value");
        assert_eq!(fetched.value().map(String::as_str), Some("new"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_put_by_another_guard_during_a_load_wins() {
    let far = memory();
    let (loading, writing) = (guard_on(far.clone()), guard_on(far.clone()));
    let (origin, gate) = Origin::gated();
    let aboard = callers(&loading, 10, "k", &origin);
    origin.begun(1).await;
    let _ = writing.put("k", row_at(6)).await.expect("the far tier");
    let late = callers(&loading, 10, "k", &origin);
    idle().await;
    gate.open();
    for answer in answers(aboard).await.into_iter().chain(answers(late).await) {
        assert_eq!(version_of(&answer), 6);
    }
    assert_eq!(version_of(&loading.fetch("k", origin.load()).await), 6);
    assert_eq!((origin.loads(), far.lease_count()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_failing_load_after_a_put_does_not_hide_the_put() {
    let guard = guard_on(memory());
    let (origin, gate) = Origin::gated();
    origin.next(Reply::Fail);
    let aboard = caller(&guard, "k", &origin);
    origin.begun(1).await;
    let _ = guard.put("k", row_at(6)).await.expect("the far tier");
    assert_eq!(version_of(&guard.fetch("k", origin.load()).await), 6);
    gate.open();
    // Its load has failed, and there is a fresh answer all the same.
    assert_eq!(version_of(&answer(aboard).await), 6);
    assert_eq!(version_of(&guard.fetch("k", origin.load()).await), 6);
}

#[tokio::test(start_paused = true)]
async fn an_unversioned_put_is_what_the_next_fetch_gets() {
    let far = memory();
    let guard = guard_on(far);
    let origin = Origin::new();
    origin.next(Reply::Loaded(Loaded::unversioned("old".to_owned())));
    guard.fetch("k", origin.load()).await.expect("a value");
    let put = guard.put("k", Loaded::unversioned("new".to_owned())).await;
    assert_eq!(put.expect("the far tier"), Write::Stored);
    let fetched = guard.fetch("k", origin.load()).await.expect("a value");
    assert_eq!(fetched.value().map(String::as_str), Some("new"));
}

#[tokio::test(start_paused = true)]
async fn an_unversioned_put_drops_the_near_entry_of_another_guard() {
    let far = memory();
    let (a, b) = (guard_on(far.clone()), guard_on(far));
    let origin = Origin::new();
    origin.next(Reply::Loaded(Loaded::unversioned("old".to_owned())));
    b.fetch("k", origin.load()).await.expect("a value");
    let _ = a.put("k", Loaded::unversioned("new".to_owned())).await.expect("the far tier");
    let fetched = b.fetch("k", origin.load()).await.expect("a value");
    assert_eq!(fetched.value().map(String::as_str), Some("new"));
}

#[tokio::test(start_paused = true)]
async fn an_absence_that_is_put_is_what_the_next_fetch_gets() {
    let guard = guard_on(memory());
    let origin = Origin::new();
    guard.fetch("k", origin.load()).await.expect("a value");
    let _ = guard.put("k", Loaded::absent()).await.expect("the far tier");
    let fetched = guard.fetch("k", origin.load()).await.expect("an answer");
    assert_eq!((fetched.value(), origin.loads()), (None, 1));
}

#[tokio::test(start_paused = true)]
async fn an_absence_that_is_put_drops_the_near_entry_of_another_guard() {
    let far = memory();
    let (a, b) = (guard_on(far.clone()), guard_on(far));
    let origin = Origin::new();
    b.fetch("k", origin.load()).await.expect("a value");
    let _ = a.put("k", Loaded::absent()).await.expect("the far tier");
    let fetched = b.fetch("k", origin.load()).await.expect("an answer");
    assert_eq!((fetched.value(), origin.loads()), (None, 1));
}

#[tokio::test(start_paused = true)]
async fn an_absence_that_is_put_drops_what_was_read_while_it_was_under_way() {
    let far = memory();
    let origin = Origin::new();
    guard_on(far.clone()).fetch("k", origin.load()).await.expect("a value");
    let (guard, wire) = wired(&far);
    wire.lose_messages();
    let under_way = wire.hold_before(Call::Put);
    let put = tokio::spawn({
        let guard = guard.clone();
        async move { guard.put("k", Loaded::absent()).await }
    });
    idle().await;
    guard.fetch("k", origin.load()).await.expect("the old value, which is right until then");
    under_way.open();
    let _ = put.await.expect("no panic").expect("the far tier");
    let fetched = guard.fetch("k", origin.load()).await.expect("an answer");
    assert_eq!((fetched.value(), origin.loads()), (None, 1));
}

#[tokio::test(start_paused = true)]
async fn invalidated_entries_are_gone_from_every_tier() {
    let far = memory();
    let (a, b) = (guard_on(far.clone()), guard_on(far.clone()));
    let origin = Origin::new();
    for guard in [&a, &b] {
        guard.fetch("k", origin.load()).await.expect("a value");
    }
    origin.write(2);
    assert_eq!(a.invalidate("k").await.expect("the far tier"), Invalidated::Everywhere);
    assert!(a.peek("k").is_none() && b.peek("k").is_none());
    assert!(far.read("k").await.expect("the far tier").is_none());
    for guard in [&b, &a] {
        assert_eq!(version_of(&guard.fetch("k", origin.load()).await), 2);
    }
    assert_eq!(origin.loads(), 2);
}

#[tokio::test(start_paused = true)]
async fn who_comes_after_an_invalidation_does_not_join_the_load_before_it() {
    for elsewhere in [false, true] {
        let far = memory();
        let guard = guard_on(far.clone());
        let invalidating = if elsewhere { guard_on(far.clone()) } else { guard.clone() };
        let (origin, gate) = Origin::gated();
        let before = callers(&guard, 10, "k", &origin);
        origin.begun(1).await;
        origin.write(2);
        invalidating.invalidate("k").await.expect("the far tier");
        let after = callers(&guard, 10, "k", &origin);
        origin.begun(2).await;

        // The later load ends first: the earlier one finds the newer value, or none of its own.
        gate.let_one_pass();
        gate.let_one_pass();
        for answer in answers(before).await {
            assert!(version_of(&answer) >= 1);
        }
        for answer in answers(after).await {
            assert_eq!(version_of(&answer), 2);
        }
        assert_eq!(version_of(&guard.fetch("k", origin.load()).await), 2);
        let far_entry = far.read("k").await.expect("the far tier").expect("an entry");
        assert_eq!(far_entry.version(), Version::new(2));
        assert_eq!((origin.loads(), guard.flights(), far.lease_count()), (2, 0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn an_invalidated_load_answers_those_before_and_fills_nothing() {
    for elsewhere in [false, true] {
        let far = memory();
        let guard = guard_on(far.clone());
        let invalidating = if elsewhere { guard_on(far.clone()) } else { guard.clone() };
        let (origin, gate) = Origin::gated();
        let before = callers(&guard, 10, "k", &origin);
        origin.begun(1).await;
        origin.write(2);
        invalidating.invalidate("k").await.expect("the far tier");
        assert_eq!((guard.flights(), far.lease_count()), (0, 0));
        gate.open();
        for answer in answers(before).await {
            assert_eq!(version_of(&answer), 1);
        }
        assert!(guard.peek("k").is_none());
        assert!(far.read("k").await.expect("the far tier").is_none());
        assert_eq!(origin.loads(), 1);
        assert_eq!(version_of(&guard.fetch("k", origin.load()).await), 2);
    }
}

/// Two loads of one process around an invalidation must not pass for each other.
#[tokio::test(start_paused = true)]
async fn the_load_before_an_invalidation_cannot_commit_under_the_lease_of_the_one_after() {
    let far = memory();
    let guard = guard_on(far.clone());
    let (old, old_gate) = Origin::gated();
    let (new, new_gate) = Origin::gated();
    new.write(2);
    let before = caller(&guard, "k", &old);
    old.begun(1).await;
    guard.invalidate("k").await.expect("the far tier");
    let after = caller(&guard, "k", &new);
    new.begun(1).await;

    old_gate.open();
    assert_eq!(version_of(&answer(before).await), 1);
    assert!(guard.peek("k").is_none(), "not near");
    assert!(far.read("k").await.expect("the far tier").is_none(), "not far");
    assert_eq!((guard.flights(), far.lease_count()), (1, 1), "the later load is untouched");

    new_gate.open();
    assert_eq!(version_of(&answer(after).await), 2);
    assert_eq!(version_of(&guard.fetch("k", new.load()).await), 2);
    assert_eq!((old.loads(), new.loads(), far.lease_count()), (1, 1, 0));
}

/// As above, without versions: only the token tells old from new.
#[tokio::test(start_paused = true)]
async fn unversioned_loads_around_an_invalidation_do_not_pass_for_each_other() {
    let far = memory();
    let (guard, other) = (guard_on(far.clone()), guard_on(far.clone()));
    let (old, old_gate) = Origin::gated();
    let (new, new_gate) = Origin::gated();
    old.next(Reply::Loaded(Loaded::unversioned("old".to_owned())));
    new.next(Reply::Loaded(Loaded::unversioned("new".to_owned())));
    let before = caller(&guard, "k", &old);
    old.begun(1).await;
    guard.invalidate("k").await.expect("the far tier");
    let after = caller(&other, "k", &new);
    new.begun(1).await;
    new_gate.open();
    answer(after).await.expect("a value");
    old_gate.open();
    answer(before).await.expect("a value");
    for guard in [&guard, &other] {
        let fetched = guard.fetch("k", new.load()).await.expect("a value");
        assert_eq!(fetched.value().map(String::as_str), Some("new"));
    }
}

#[tokio::test(start_paused = true)]
async fn the_error_of_a_load_before_an_invalidation_does_not_end_the_one_after() {
    let far = memory();
    let guard = guard_on(far.clone());
    let (old, old_gate) = Origin::gated();
    let (new, new_gate) = Origin::gated();
    old.next(Reply::Fail);
    let before = caller(&guard, "k", &old);
    old.begun(1).await;
    guard.invalidate("k").await.expect("the far tier");
    let after = callers(&guard, 10, "k", &new);
    new.begun(1).await;
    old_gate.open();
    assert!(answer(before).await.is_err());
    assert_eq!((guard.flights(), far.lease_count()), (1, 1));
    new_gate.open();
    for answer in answers(after).await {
        assert_eq!(version_of(&answer), 1);
    }
    assert_eq!((new.loads(), guard.flights(), far.lease_count()), (1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_far_read_from_before_an_invalidation_is_not_kept_near() {
    for elsewhere in [false, true] {
        let far = memory();
        let origin = Origin::new();
        let loading = guard_on(far.clone());
        loading.fetch("k", origin.load()).await.expect("a value");
        let (guard, wire) = wired(&far);
        let invalidating = if elsewhere { loading } else { guard.clone() };

        let on_its_way = wire.hold_after(Call::Read);
        let before = caller(&guard, "k", &origin);
        idle().await;
        wire.heal();
        origin.write(2);
        invalidating.invalidate("k").await.expect("the far tier");
        on_its_way.open();
        assert_eq!(version_of(&answer(before).await), 1);
        assert!(guard.peek("k").is_none());
        assert_eq!(version_of(&guard.fetch("k", origin.load()).await), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_far_read_does_not_replace_a_newer_near_entry() {
    let far = memory();
    let origin = Origin::new();
    guard_on(far.clone()).fetch("k", origin.load()).await.expect("a value");
    let (guard, wire) = wired(&far);
    let on_its_way = wire.hold_after(Call::Read);
    let before = caller(&guard, "k", &origin);
    idle().await;
    wire.heal();
    let _ = guard.put("k", row_at(2)).await.expect("the far tier");
    assert_eq!(version_of(&guard.fetch("k", origin.load()).await), 2);
    on_its_way.open();
    assert_eq!(version_of(&answer(before).await), 1);
    let near = guard.peek("k").expect("a near entry");
    assert_eq!(near.version(), Version::new(2));
}

#[tokio::test(start_paused = true)]
async fn a_caller_from_after_the_read_goes_round_again() {
    let far = memory();
    let origin = Origin::new();
    guard_on(far.clone()).fetch("k", origin.load()).await.expect("a value");
    // Without a near tier there is nothing but the flight that could answer the late ones.
    let wire = crate::Wire::to(&far);
    let guard = builder().near_capacity(0).far(wire.clone()).build();
    let on_its_way = wire.hold_after(Call::Read);
    let early = caller(&guard, "k", &origin);
    idle().await;
    wire.lose_messages();
    let _ = guard_on(far).put("k", row_at(2)).await.expect("the far tier");
    let late = callers(&guard, 10, "k", &origin);
    idle().await;
    wire.heal();
    on_its_way.open();
    assert_eq!(version_of(&answer(early).await), 1);
    for late in answers(late).await {
        assert_eq!(version_of(&late), 2);
    }
    assert_eq!(wire.all_calls(), 2, "one more for all the late ones");
}

#[tokio::test(start_paused = true)]
async fn a_waiters_answer_is_for_those_who_boarded_before_its_look_up() {
    let far = memory();
    let holder = guard_on(far.clone());
    let wire = crate::Wire::to(&far);
    let guard = builder().near_capacity(0).far(wire.clone()).build();
    let (origin, gate) = Origin::gated();
    let leader = caller(&holder, "k", &origin);
    origin.begun(1).await;
    let early = caller(&guard, "k", &origin);
    idle().await;
    let on_its_way = wire.hold_after(Call::LookUp);
    gate.open();
    answer(leader).await.expect("a value");
    idle().await;
    // The look-up has found version 1 and is on its way back; now version 2 is written.
    wire.lose_messages();
    let _ = holder.put("k", row_at(2)).await.expect("the far tier");
    let late = callers(&guard, 5, "k", &origin);
    idle().await;
    wire.heal();
    on_its_way.open();
    assert_eq!(version_of(&answer(early).await), 1);
    for late in answers(late).await {
        assert_eq!(version_of(&late), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_load_answers_only_those_who_boarded_before_it_began() {
    let far = memory();
    let (guard, wire) = wired(&far);
    wire.fault(Call::Renew, Break::Error);
    let (origin, gate) = Origin::gated();
    let early = caller(&guard, "k", &origin);
    origin.begun(1).await;
    let late = callers(&guard, 10, "k", &origin);
    idle().await;

    // The lease ends unrenewed and another takes it, so the load will be refused.
    tokio::time::sleep(secs(2)).await;
    let other = Token::random();
    let attempt =
        far.look_up_or_lease("k", other, secs(2), Duration::ZERO).await.expect("the far tier");
    assert!(matches!(attempt, Attempt::Granted(_)));
    origin.write(2);
    gate.open();
    assert_eq!(version_of(&answer(early).await), 1);
    assert!(guard.peek("k").is_none());
    idle().await;
    assert_eq!((origin.loads(), guard.flights()), (1, 1), "the late ones wait for the holder");

    far.release("k", other).await.expect("the far tier");
    for late in answers(late).await {
        assert_eq!(version_of(&late), 2);
    }
    assert_eq!(origin.loads(), 2, "one more for all the late ones");
}

#[tokio::test(start_paused = true)]
async fn a_lagging_load_is_refused_and_asked_again() {
    let far = memory();
    let guard = guard_on(far.clone());
    let (a, b) = (guard_on(far.clone()), guard_on(far.clone()));
    let origin = Origin::new();
    a.invalidate_at("k", 6).await.expect("the far tier");
    for version in [5, 5, 6] {
        origin.next(Reply::Version(version));
    }
    let mut herd = callers(&guard, 10, "k", &origin);
    herd.extend(callers(&b, 10, "k", &origin));
    for answer in answers(herd).await {
        assert_eq!(version_of(&answer), 6);
    }
    assert_eq!((origin.loads(), origin.most_at_once(), far.lease_count()), (3, 1, 0));
    assert_eq!(version_of(&guard.fetch("k", origin.load()).await), 6);
}

#[tokio::test(start_paused = true)]
async fn an_origin_that_stays_behind_is_outdated_at_the_load_timeout() {
    let far = memory();
    let policy = plain().load_timeout(secs(3));
    let guard = builder().policy(policy).far(far.clone()).build();
    guard.invalidate_at("k", 6).await.expect("the far tier");
    let origin = Origin::new();
    origin.write(5);
    let begin = Instant::now();
    for answer in answers(callers(&guard, 10, "k", &origin)).await {
        match answer {
            Err(Error::Outdated { loaded, minimum }) => {
                assert_eq!((loaded, minimum), (Version::new(5), Version::new(6)));
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(begin.elapsed() <= secs(3) + ms(10), "{:?}", begin.elapsed());
    assert!((5..=30).contains(&origin.loads()), "{} loads: too few or too many", origin.loads());
    assert_eq!((guard.flights(), far.lease_count()), (0, 0));
    assert!(guard.peek("k").is_none());
    origin.write(6);
    assert_eq!(version_of(&guard.fetch("k", origin.load()).await), 6);
}

#[tokio::test(start_paused = true)]
async fn who_boards_between_lagging_loads_is_not_forgotten() {
    let guard = guard_on(memory());
    guard.invalidate_at("k", 6).await.expect("the far tier");
    let origin = Origin::taking(ms(20));
    for version in [5, 5, 5, 6] {
        origin.next(Reply::Version(version));
    }
    let mut herd = Vec::new();
    for _ in 0..30 {
        herd.push(caller(&guard, "k", &origin));
        tokio::time::sleep(ms(5)).await;
    }
    for answer in answers(herd).await {
        assert_eq!(version_of(&answer), 6);
    }
    assert_eq!(origin.loads(), 4);
}

#[tokio::test(start_paused = true)]
async fn the_lease_is_kept_between_lagging_loads() {
    let far = memory();
    let policy = plain().lease_ttl(ms(200));
    let (a, _) = wired_with(&far, policy.clone());
    let (b, _) = wired_with(&far, policy);
    a.invalidate_at("k", 6).await.expect("the far tier");
    let origin = Origin::taking(ms(20));
    // The pauses between them grow to 500 ms.
    for version in [5, 5, 5, 5, 5, 5, 5, 5, 6] {
        origin.next(Reply::Version(version));
    }
    let mut herd = callers(&a, 5, "k", &origin);
    origin.begun(1).await;
    let another_origin = Origin::new();
    herd.extend(callers(&b, 5, "k", &another_origin));
    for answer in answers(herd).await {
        assert_eq!(version_of(&answer), 6);
    }
    assert_eq!((origin.loads(), another_origin.loads(), far.lease_count()), (9, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_put_ends_the_wait_for_a_lagging_origin() {
    let far = memory();
    let (guard, elsewhere) = (guard_on(far.clone()), guard_on(far.clone()));
    guard.invalidate_at("k", 6).await.expect("the far tier");
    let origin = Origin::new();
    origin.write(5);
    let aboard = callers(&guard, 10, "k", &origin);
    idle().await;
    let put = Instant::now();
    let _ = elsewhere.put("k", row_at(6)).await.expect("the far tier");
    for answer in answers(aboard).await {
        assert_eq!(version_of(&answer), 6, "{:?} after the put", put.elapsed());
    }
    assert!(put.elapsed() <= secs(2), "{:?}", put.elapsed());
}

#[tokio::test(start_paused = true)]
async fn news_do_not_lengthen_the_load_timeout() {
    let far = memory();
    let (guard, wire) = wired_with(&far, plain().load_timeout(secs(3)));
    guard.invalidate_at("k", 6).await.expect("the far tier");
    let origin = Origin::new();
    origin.write(5);
    let begin = Instant::now();
    let aboard = callers(&guard, 10, "k", &origin);
    let news = tokio::spawn(async move {
        loop {
            tokio::time::sleep(ms(400)).await;
            wire.tell(Event::Released { name: "k" });
        }
    });
    for answer in answers(aboard).await {
        assert!(
            matches!(answer, Err(Error::Outdated { .. } | Error::LoadTimeout { .. })),
            "{answer:?}"
        );
    }
    assert!(begin.elapsed() <= secs(3) + ms(10), "{:?}", begin.elapsed());
    // Messages that leave it the lease do not shorten the pauses between its loads.
    assert!((5..=15).contains(&origin.loads()), "{} loads", origin.loads());
    news.abort();
    idle().await;
    assert_eq!((guard.flights(), far.lease_count()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_entry_at_or_above_the_invalidated_version_stays() {
    let far = memory();
    let (a, b) = (guard_on(far.clone()), guard_on(far));
    let origin = Origin::new();
    origin.write(7);
    for guard in [&a, &b] {
        guard.fetch("k", origin.load()).await.expect("a value");
    }
    a.invalidate_at("k", 6).await.expect("the far tier");
    a.invalidate_at("k", 7).await.expect("the far tier");
    for guard in [&a, &b] {
        let hit = guard.fetch("k", origin.load()).await.expect("a value");
        assert_eq!(hit.outcome(), Outcome::Hit(Tier::Near));
    }
    a.invalidate_at("k", 8).await.expect("the far tier");
    origin.write(8);
    for guard in [&a, &b] {
        assert_eq!(version_of(&guard.fetch("k", origin.load()).await), 8);
    }
    assert_eq!(origin.loads(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_at_a_version_revokes_the_load_in_the_air() {
    let far = memory();
    let guard = guard_on(far.clone());
    let (origin, gate) = Origin::gated();
    origin.write(5);
    let before = caller(&guard, "k", &origin);
    origin.begun(1).await;
    guard.invalidate_at("k", 6).await.expect("the far tier");
    origin.write(6);
    let after = caller(&guard, "k", &origin);
    origin.begun(2).await;
    gate.open();
    assert!(version_of(&answer(before).await) >= 5);
    assert_eq!(version_of(&answer(after).await), 6);
    let entry = far.read("k").await.expect("the far tier").expect("an entry");
    assert_eq!(entry.version(), Version::new(6));
    assert_eq!(version_of(&guard.fetch("k", origin.load()).await), 6);
}

#[tokio::test(start_paused = true)]
async fn an_unversioned_absence_is_not_held_back_by_a_tombstone() {
    let guard = guard_on(memory());
    guard.invalidate_at("k", 6).await.expect("the far tier");
    let origin = Origin::new();
    origin.next(Reply::Loaded(Loaded::absent()));
    let absent = guard.fetch("k", origin.load()).await.expect("an answer");
    assert_eq!((absent.value(), origin.loads()), (None, 1));
}

#[tokio::test(start_paused = true)]
async fn an_absence_with_an_older_version_is_refused() {
    let guard = guard_on(memory());
    guard.invalidate_at("k", 6).await.expect("the far tier");
    let origin = Origin::new();
    origin.next(Reply::Loaded(Loaded::absent().version(5))).next(Reply::Version(6));
    let fetched = guard.fetch("k", origin.load()).await;
    assert_eq!((version_of(&fetched), origin.loads()), (6, 2));
}

#[tokio::test(start_paused = true)]
async fn after_an_invalidation_elsewhere_the_waiters_load_afresh() {
    let far = memory();
    let guards: Vec<_> = (0..3).map(|_| guard_on(far.clone())).collect();
    let (origin, gate) = Origin::gated();
    let holder = caller(&guards[0], "k", &origin);
    origin.begun(1).await;
    let waiter = caller(&guards[1], "k", &origin);
    idle().await;
    origin.write(2);
    let revoked = Instant::now();
    guards[2].invalidate("k").await.expect("the far tier");
    // The waiter is woken by the revocation; it waits neither for the old load nor for its lease.
    origin.begun(2).await;
    assert_eq!(revoked.elapsed(), Duration::ZERO);
    gate.open();
    assert!(version_of(&answer(holder).await) >= 1);
    assert_eq!(version_of(&answer(waiter).await), 2);
    for guard in &guards {
        assert_eq!(version_of(&guard.fetch("k", origin.load()).await), 2);
    }
    assert_eq!((origin.loads(), far.lease_count()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_put_whose_future_is_dropped_has_forgotten_in_this_process() {
    let (guard, wire) = wired(&memory());
    let origin = Origin::new();
    guard.fetch("k", origin.load()).await.expect("a value");
    let _held = wire.hold_before(Call::Put);
    let given_up = tokio::time::timeout(ms(10), guard.put("k", row_at(2))).await;
    assert!(given_up.is_err());
    assert!(guard.peek("k").is_none());
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_whose_future_is_dropped_has_forgotten_in_this_process() {
    let (guard, wire) = wired(&memory());
    let (origin, gate) = Origin::gated();
    let before = caller(&guard, "k", &origin);
    origin.begun(1).await;
    let _held = wire.hold_before(Call::Invalidate);
    let given_up = tokio::time::timeout(ms(10), guard.invalidate("k")).await;
    assert!(given_up.is_err());
    gate.open();
    assert_eq!(version_of(&answer(before).await), 1);
    assert!(guard.peek("k").is_none(), "the flight before it was closed");
    wire.heal();
    guard.invalidate("k").await.expect("the far tier");
}

#[tokio::test(start_paused = true)]
async fn a_flight_that_began_while_an_invalidation_was_under_way_is_not_joined_after_it() {
    let far = memory();
    let (guard, wire) = wired(&far);
    let origin = Origin::new();
    guard_on(far.clone()).fetch("k", origin.load()).await.expect("a value");
    // Not even the message helps: our own acknowledgement must do.
    wire.lose_messages();

    let under_way = wire.hold_before(Call::Invalidate);
    let invalidation = tokio::spawn({
        let guard = guard.clone();
        async move { guard.invalidate("k").await }
    });
    idle().await;
    let reading = wire.hold_after(Call::Read);
    let between = caller(&guard, "k", &origin);
    idle().await;
    origin.write(2);
    wire.heal();
    under_way.open();
    invalidation.await.expect("no panic").expect("the far tier");
    let after = caller(&guard, "k", &origin);
    idle().await;
    reading.open();
    assert_eq!(version_of(&answer(between).await), 1);
    assert_eq!(version_of(&answer(after).await), 2);
    assert_eq!(version_of(&guard.fetch("k", origin.load()).await), 2);
}

#[tokio::test(start_paused = true)]
async fn a_near_fill_while_an_invalidation_is_under_way_is_dropped_when_it_returns() {
    let far = memory();
    let (guard, wire) = wired(&far);
    let origin = Origin::new();
    guard_on(far.clone()).fetch("k", origin.load()).await.expect("a value");
    wire.lose_messages();
    let under_way = wire.hold_before(Call::Invalidate);
    let invalidation = tokio::spawn({
        let guard = guard.clone();
        async move { guard.invalidate("k").await }
    });
    idle().await;
    assert_eq!(version_of(&guard.fetch("k", origin.load()).await), 1);
    assert!(guard.peek("k").is_some());
    origin.write(2);
    under_way.open();
    invalidation.await.expect("no panic").expect("the far tier");
    assert_eq!(version_of(&guard.fetch("k", origin.load()).await), 2);
}

#[tokio::test(start_paused = true)]
async fn a_near_fill_while_a_put_is_under_way_is_dropped_when_it_returns() {
    for fails in [false, true] {
        let far = memory();
        let (guard, wire) = wired(&far);
        let origin = Origin::new();
        guard_on(far.clone()).fetch("k", origin.load()).await.expect("a value");
        wire.lose_messages();
        let under_way = wire.hold_before(Call::Put);
        if fails {
            wire.fault(Call::Put, Break::Hang);
        }
        let put = tokio::spawn({
            let guard = guard.clone();
            async move { guard.put("k", row_at(2)).await }
        });
        idle().await;
        assert_eq!(version_of(&guard.fetch("k", origin.load()).await), 1);
        assert!(guard.peek("k").is_some());
        under_way.open();
        assert_eq!(put.await.expect("no panic").is_err(), fails);
        assert!(guard.peek("k").is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_storm_lets_everyone_land() {
    let far = memory();
    let guard = guard_on(far.clone());
    let origin = Origin::taking(ms(50));
    let mut herd = Vec::new();
    for round in 1..=100 {
        herd.extend(callers(&guard, 3, "k", &origin));
        tokio::time::sleep(ms(10)).await;
        origin.write(round);
        guard.invalidate("k").await.expect("the far tier");
    }
    for answer in answers(herd).await {
        assert!(version_of(&answer) >= 1);
    }
    assert_eq!((guard.flights(), far.lease_count()), (0, 0));
    let last = guard.fetch("k", origin.load()).await;
    assert_eq!(version_of(&last), 100);
}

#[tokio::test(start_paused = true)]
async fn what_may_not_be_kept_is_refused_too_if_it_is_older_than_an_invalidation() {
    let guard = guard_on(memory());
    let origin = Origin::new();
    guard.invalidate_at("k", 10).await.expect("an invalidation");
    let lagging = || Reply::Loaded(row_at(9).uncacheable());
    origin.next(lagging()).next(lagging()).next(Reply::Loaded(row_at(10).uncacheable()));
    assert_eq!(version_of(&guard.fetch("k", origin.load()).await), 10);
    assert_eq!(origin.loads(), 3);
}

/// A value whose drop panics.
struct Bomb(Arc<AtomicBool>);

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(!self.0.load(Ordering::SeqCst), "a drop panics");
    }
}

#[tokio::test(start_paused = true)]
async fn a_value_whose_drop_panics_does_not_stop_the_messages() {
    let far: MemoryFar<Bomb> = MemoryFar::with(1_000, Clock::tokio());
    let armed = Arc::new(AtomicBool::new(false));
    let guard: Guard<str, Bomb> = builder_of().far(far.clone()).build();
    let other: Guard<str, Bomb> = builder_of().far(far).build();
    for key in ["a", "b"] {
        let bomb = armed.clone();
        let load = move || {
            let bomb = Bomb(bomb.clone());
            async move { Ok::<_, std::io::Error>(Loaded::found(bomb, 1)) }
        };
        guard.fetch(key, load).await.expect("a value");
    }
    armed.store(true, Ordering::SeqCst);
    // The invalidation drops the last pointers, and goes through all the same.
    assert!(other.invalidate("a").await.is_ok());
    armed.store(false, Ordering::SeqCst);
    assert!(guard.peek("a").is_none());
    assert!(other.invalidate("b").await.is_ok());
    assert!(guard.peek("b").is_none());
}

fn builder_of<V>() -> cattleguard::GuardBuilder<str, V> {
    Guard::builder().policy(plain())
}
