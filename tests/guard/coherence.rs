//! Messages keep the near tiers of all processes together; without them near entries live shortly.

use cattleguard::{Outcome, Tier, Version, far::Event};
use std::time::Duration;

use crate::{
    answer, answers, caller, callers, guard_on, idle, memory, ms,
    origin::{Origin, row_at},
    plain, secs, version_of,
    wire::{Break, Call},
    wired, wired_with,
};

#[tokio::test(start_paused = true)]
async fn a_newer_commit_drops_the_older_near_entry_of_another_guard() {
    let far = memory();
    let (a, _) = wired_with(&far, plain().ttl(secs(10)).near_ttl(secs(60)));
    let (b, wire) = wired_with(&far, plain().ttl(secs(10)).near_ttl(secs(60)));
    let origin = Origin::new();
    for guard in [&a, &b] {
        guard.fetch("k", origin.load()).await.expect("a value");
    }
    wire.tell(Event::Committed { name: "k", version: Version::new(1) });
    assert!(b.peek("k").is_some(), "not older");
    wire.tell(Event::Committed { name: "other", version: Version::new(2) });
    assert!(b.peek("k").is_some(), "another key");
    wire.tell(Event::Committed { name: "k", version: Version::new(2) });
    assert!(b.peek("k").is_none());
    assert!(a.peek("k").is_some(), "nobody told A");
    let _ = a.put("k", row_at(2)).await.expect("the far tier");
    assert!(a.peek("k").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_far_read_overtaken_by_a_put_elsewhere_is_not_kept_near() {
    let far = memory();
    let origin = Origin::new();
    let elsewhere = guard_on(far.clone());
    elsewhere.fetch("k", origin.load()).await.expect("a value");
    let (guard, wire) = wired(&far);
    let on_its_way = wire.hold_after(Call::Read);
    let reading = caller(&guard, "k", &origin);
    idle().await;
    let _ = elsewhere.put("k", row_at(2)).await.expect("the far tier");
    wire.heal();
    on_its_way.open();
    assert_eq!(version_of(&answer(reading).await), 1);
    assert!(guard.peek("k").is_none());
    assert_eq!(version_of(&guard.fetch("k", origin.load()).await), 2);
}

#[tokio::test(start_paused = true)]
async fn a_far_read_overtaken_by_a_commit_elsewhere_is_not_kept_near() {
    for beside in [false, true] {
        let far = memory();
        let origin = Origin::new();
        guard_on(far.clone()).fetch("k", origin.load()).await.expect("a value");
        let (guard, wire) = wired(&far);
        let mut on_its_way = wire.hold_after(Call::Read);
        let mut reading = caller(&guard, "k", &origin);
        idle().await;
        if beside {
            // The read of a flight, beside the first caller's.
            wire.heal();
            on_its_way = wire.hold_after(Call::LookUp);
            reading = caller(&guard, "k", &origin);
            idle().await;
        }
        wire.tell(Event::Committed { name: "k", version: Version::new(2) });
        wire.tell(Event::Committed { name: "k", version: Version::new(1) });
        on_its_way.open();
        assert_eq!(version_of(&answer(reading).await), 1);
        assert!(guard.peek("k").is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_far_read_does_not_end_the_one_after_an_invalidation() {
    let far = memory();
    let origin = Origin::new();
    let elsewhere = guard_on(far.clone());
    elsewhere.fetch("k", origin.load()).await.expect("a value");
    let (guard, wire) = wired(&far);
    let before = wire.hold_after(Call::Read);
    let old = caller(&guard, "k", &origin);
    idle().await;
    origin.write(2);
    elsewhere.invalidate("k").await.expect("the far tier");
    elsewhere.fetch("k", origin.load()).await.expect("a value");
    let after = wire.hold_after(Call::Read);
    let new = caller(&guard, "k", &origin);
    idle().await;

    before.open();
    assert_eq!(version_of(&answer(old).await), 1);
    assert!(guard.peek("k").is_none());
    assert_eq!(guard.flights(), 1);
    after.open();
    assert_eq!(version_of(&answer(new).await), 2);
    assert_eq!(guard.peek("k").expect("a near entry").version(), Version::new(2));
}

#[tokio::test(start_paused = true)]
async fn a_disconnection_drops_near_entries_and_keeps_new_ones_shortly() {
    let (guard, wire) = wired(&memory());
    let origin = Origin::new();
    guard.fetch("k", origin.load()).await.expect("a value");
    wire.tell(Event::Disconnected);
    assert!(guard.peek("k").is_none());

    let hit = guard.fetch("k", origin.load()).await.expect("a value");
    assert_eq!(hit.outcome(), Outcome::Hit(Tier::Far), "reads go on");
    tokio::time::advance(ms(499)).await;
    assert!(guard.peek("k").is_some());
    tokio::time::advance(ms(1)).await;
    assert!(guard.peek("k").is_none(), "kept for the outage ttl");
    assert_eq!(origin.loads(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_reconnection_drops_near_entries_and_keeps_new_ones_long() {
    let (guard, wire) = wired(&memory());
    let origin = Origin::new();
    wire.tell(Event::Disconnected);
    guard.fetch("k", origin.load()).await.expect("a value");
    assert!(guard.peek("k").is_some());
    wire.tell(Event::Connected);
    assert!(guard.peek("k").is_none(), "a message about it may have been lost");
    guard.fetch("k", origin.load()).await.expect("a value");
    tokio::time::advance(ms(4_999)).await;
    assert!(guard.peek("k").is_some());
    assert_eq!(origin.loads(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_was_read_before_a_reconnection_is_not_kept_near() {
    let far = memory();
    let origin = Origin::new();
    let elsewhere = guard_on(far.clone());
    elsewhere.fetch("k", origin.load()).await.expect("a value");
    let (guard, wire) = wired(&far);
    wire.tell(Event::Disconnected);
    let on_its_way = wire.hold_after(Call::Read);
    let reading = caller(&guard, "k", &origin);
    idle().await;
    // What this message says is lost in the outage.
    wire.lose_messages();
    elsewhere.invalidate("k").await.expect("the far tier");
    origin.write(2);
    wire.tell(Event::Connected);
    wire.heal();
    on_its_way.open();
    assert_eq!(version_of(&answer(reading).await), 1);
    assert!(guard.peek("k").is_none());
    assert_eq!(version_of(&guard.fetch("k", origin.load()).await), 2);
}

#[tokio::test(start_paused = true)]
async fn a_load_that_ends_while_disconnected_is_kept_shortly() {
    let (guard, wire) = wired(&memory());
    let (origin, gate) = Origin::gated();
    let leader = caller(&guard, "k", &origin);
    origin.begun(1).await;
    wire.tell(Event::Disconnected);
    gate.open();
    answer(leader).await.expect("a value");
    tokio::time::advance(ms(500)).await;
    assert!(guard.peek("k").is_none());
}

#[tokio::test(start_paused = true)]
async fn an_outage_ttl_of_zero_turns_the_near_tier_off_while_disconnected() {
    let (guard, wire) = wired_with(&memory(), plain().near_outage_ttl(Duration::ZERO));
    let origin = Origin::new();
    wire.tell(Event::Disconnected);
    for _ in 0..3 {
        guard.fetch("k", origin.load()).await.expect("a value");
        assert!(guard.peek("k").is_none());
    }
    assert_eq!((origin.loads(), wire.calls(Call::Read)), (1, 3));
}

#[tokio::test(start_paused = true)]
async fn a_stale_value_is_served_no_longer_than_the_outage_ttl_when_messages_are_lost() {
    let far = memory();
    let (guard, wire) = wired(&far);
    let origin = Origin::new();
    wire.tell(Event::Disconnected);
    wire.lose_messages();
    guard.fetch("k", origin.load()).await.expect("a value");
    origin.write(2);
    guard_on(far).invalidate("k").await.expect("the far tier");
    tokio::time::advance(ms(500)).await;
    assert_eq!(version_of(&guard.fetch("k", origin.load()).await), 2);
}

#[tokio::test(start_paused = true)]
async fn a_waiter_looks_again_when_messages_stop() {
    let far = memory();
    let holder = guard_on(far.clone());
    let (guard, wire) = wired(&far);
    let (origin, gate) = Origin::gated();
    let leader = caller(&holder, "k", &origin);
    origin.begun(1).await;
    let waiter = caller(&guard, "k", &origin);
    idle().await;
    let look_ups = wire.calls(Call::LookUp);
    for event in [Event::Disconnected, Event::Connected] {
        wire.tell(event);
        idle().await;
    }
    assert_eq!(wire.calls(Call::LookUp), look_ups + 2);
    gate.open();
    assert_eq!(version_of(&answer(leader).await), 1);
    assert_eq!(version_of(&answer(waiter).await), 1);
    assert_eq!(origin.loads(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_guard_that_is_gone_is_told_nothing_and_harms_no_one() {
    let far = memory();
    let (gone, stays) = (guard_on(far.clone()), guard_on(far));
    let origin = Origin::new();
    gone.fetch("k", origin.load()).await.expect("a value");
    drop(gone);
    stays.invalidate("k").await.expect("the far tier");
    assert_eq!(version_of(&stays.fetch("k", origin.load()).await), 1);
}

#[tokio::test(start_paused = true)]
async fn without_messages_a_flight_takes_newcomers_no_longer_than_a_near_entry_lives() {
    let policy = plain().near_outage_ttl(ms(500)).load_timeout(secs(60));
    let (guard, wire) = wired_with(&memory(), policy);
    // Cut off: this process loads alone.
    wire.tell(Event::Disconnected);
    wire.fault_all(&Break::Error);
    let origin = Origin::taking(secs(4));
    let first = caller(&guard, "k", &origin);
    origin.begun(1).await;
    // Another process writes and invalidates: no message tells.
    origin.write(2);
    tokio::time::sleep(ms(400)).await;
    let early = caller(&guard, "k", &origin);
    tokio::time::sleep(ms(200)).await;
    let late = callers(&guard, 10, "k", &origin);
    assert_eq!(version_of(&answer(early).await), 1);
    assert_eq!(version_of(&answer(first).await), 1);
    for late in answers(late).await {
        assert_eq!(version_of(&late), 2);
    }
    assert_eq!((origin.loads(), guard.flights()), (2, 0));
}
