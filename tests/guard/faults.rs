//! P6: the origin is safe, and callers are answered, when the far tier is not.

use std::time::Duration;

use cattleguard::{Bypass, Error, Outcome, Tier, far};
use tokio::time::Instant;

use crate::{
    answer, answers, answers_by, builder, caller, callers, guard_on, idle, memory, ms,
    origin::{Origin, Reply, row_at},
    plain, secs, version_of,
    wire::{Break, Call, FAR_TIMEOUT},
    wired, wired_with,
};

const BYPASSED: Outcome = Outcome::Bypassed(Bypass::FarUnavailable);

#[tokio::test(start_paused = true)]
async fn with_the_far_tier_down_a_herd_is_one_load_and_no_error() {
    for fault in [Break::Error, Break::Hang, Break::Mute] {
        let far = memory();
        let guards: Vec<_> = (0..2).map(|_| wired(&far)).collect();
        let origin = Origin::taking(ms(200));
        for (guard, wire) in guards {
            wire.fault_all(&fault);
            let loads = origin.loads();
            let begin = Instant::now();
            let (answers, last) = answers_by(callers(&guard, 250, "k", &origin)).await;
            for answer in answers {
                let fetched = answer.expect("no error that the origin did not give");
                assert_eq!((fetched.outcome(), fetched.version()), (BYPASSED, 1.into()));
            }
            assert!(last - begin <= ms(200 + 100), "{:?}", last - begin);
            assert_eq!((origin.loads(), guard.flights()), (loads + 1, 0));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn with_any_one_call_failing_a_herd_is_one_load_and_no_error() {
    for fault in [Break::Error, Break::Hang, Break::Mute] {
        for call in Call::ALL {
            let (guard, wire) = wired(&memory());
            wire.fault(call, fault.clone());
            // Long enough for a renewal.
            let origin = Origin::taking(secs(1));
            let begin = Instant::now();
            let (answers, last) = answers_by(callers(&guard, 250, "k", &origin)).await;
            for answer in answers {
                assert_eq!(version_of(&answer), 1, "{call:?}");
            }
            assert!(last - begin <= secs(1) + ms(100), "{call:?}: {:?}", last - begin);
            assert_eq!((origin.loads(), guard.flights()), (1, 0), "{call:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_failed_read_a_load_asks_the_far_tier_for_nothing() {
    let (guard, wire) = wired(&memory());
    wire.fault_all(&Break::Hang);
    let begin = Instant::now();
    let origin = Origin::taking(ms(200));
    let answer = guard.fetch("k", origin.load()).await.expect("a value");
    assert_eq!(answer.outcome(), BYPASSED);
    assert_eq!((wire.all_calls(), begin.elapsed()), (1, FAR_TIMEOUT + ms(200)));
}

#[tokio::test(start_paused = true)]
async fn a_failed_look_up_loads_without_a_lease() {
    let (guard, wire) = wired(&memory());
    wire.fault(Call::LookUp, Break::Error);
    let answer = guard.fetch("k", Origin::new().load()).await.expect("a value");
    assert_eq!(answer.outcome(), BYPASSED);
    assert_eq!((wire.calls(Call::Commit), wire.calls(Call::Put)), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_failed_commit_answers_and_is_kept_near_shortly() {
    let far = memory();
    let (guard, wire) = wired(&far);
    wire.fault(Call::Commit, Break::Error);
    let origin = Origin::new();
    for answer in answers(callers(&guard, 50, "k", &origin)).await {
        assert_eq!(answer.expect("a value").outcome(), BYPASSED);
    }
    tokio::time::advance(ms(400)).await;
    let near = guard.fetch("k", origin.load()).await.expect("a value");
    assert_eq!((near.outcome(), origin.loads()), (Outcome::Hit(Tier::Near), 1));
    tokio::time::advance(ms(101)).await;
    assert!(guard.peek("k").is_none(), "kept for 500 ms at most");
}

#[tokio::test(start_paused = true)]
async fn a_commit_whose_answer_was_lost_may_have_been_carried_out() {
    let far = memory();
    let (guard, wire) = wired(&far);
    wire.fault(Call::Commit, Break::Mute);
    let origin = Origin::new();
    assert_eq!(version_of(&guard.fetch("k", origin.load()).await), 1);
    let hit = guard_on(far).fetch("k", origin.load()).await.expect("a value");
    assert_eq!((hit.outcome(), origin.loads()), (Outcome::Hit(Tier::Far), 1));
}

#[tokio::test(start_paused = true)]
async fn a_value_loaded_alone_shields_the_origin_for_a_moment() {
    let (guard, wire) = wired(&memory());
    wire.fault_all(&Break::Error);
    let origin = Origin::new();
    let begin = Instant::now();
    while begin.elapsed() < secs(10) {
        guard.fetch("k", origin.load()).await.expect("a value");
        tokio::time::sleep(ms(10)).await;
    }
    assert!((15..=25).contains(&origin.loads()), "{} loads in 10 s at 500 ms", origin.loads());
}

#[tokio::test(start_paused = true)]
async fn a_load_alone_fails_with_the_origins_error_for_all() {
    let (guard, wire) = wired(&memory());
    wire.fault_all(&Break::Error);
    let origin = Origin::taking(ms(50));
    for reply in [Reply::Fail, Reply::Panic, Reply::PanicInClosure] {
        let loads = origin.loads();
        origin.next(reply.clone());
        for answer in answers(callers(&guard, 100, "k", &origin)).await {
            match (&reply, answer) {
                (Reply::Fail, Err(Error::Origin(_))) => {}
                (Reply::Panic | Reply::PanicInClosure, Err(Error::LoadPanicked)) => {}
                (_, other) => panic!("{other:?}"),
            }
        }
        assert_eq!((origin.loads(), guard.flights()), (loads + 1, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_load_alone_without_end_is_aborted_at_the_load_timeout() {
    let (guard, wire) = wired_with(&memory(), plain().load_timeout(secs(2)));
    wire.fault_all(&Break::Error);
    let origin = Origin::new();
    origin.next(Reply::Never);
    let (answers, _) = answers_by(callers(&guard, 10, "k", &origin)).await;
    assert!(answers.iter().all(|answer| matches!(answer, Err(Error::LoadTimeout { .. }))));
    idle().await;
    assert_eq!(origin.running(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_uncacheable_load_alone_is_not_kept() {
    let (guard, wire) = wired(&memory());
    wire.fault_all(&Break::Error);
    let origin = Origin::new();
    origin.next(Reply::Loaded(row_at(1).uncacheable()));
    guard.fetch("k", origin.load()).await.expect("a value");
    assert!(guard.peek("k").is_none());
}

#[tokio::test(start_paused = true)]
async fn who_comes_after_an_invalidation_does_not_join_a_load_alone() {
    let (guard, wire) = wired(&memory());
    wire.fault_all(&Break::Error);
    let (origin, gate) = Origin::gated();
    let before = caller(&guard, "k", &origin);
    origin.begun(1).await;
    origin.write(2);
    assert!(matches!(guard.invalidate("k").await, Err(Error::Far(_))));
    let after = caller(&guard, "k", &origin);
    origin.begun(2).await;
    gate.let_one_pass();
    assert_eq!(version_of(&answer(before).await), 1);
    gate.open();
    assert_eq!(version_of(&answer(after).await), 2);
    assert_eq!(version_of(&guard.fetch("k", origin.load()).await), 2);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_the_far_tier_did_not_take_is_an_error_and_forgotten_near() {
    for fault in [Break::Error, Break::Hang] {
        let (guard, wire) = wired(&memory());
        let origin = Origin::new();
        guard.fetch("k", origin.load()).await.expect("a value");
        wire.fault(Call::Put, fault.clone());
        wire.fault(Call::Invalidate, fault.clone());
        let begin = Instant::now();
        match guard.put("k", row_at(2)).await {
            Err(Error::Far(error)) => {
                assert!(matches!(
                    error.kind(),
                    cattleguard::FaultKind::Unreachable | cattleguard::FaultKind::Timeout
                ))
            }
            other => panic!("{other:?}"),
        }
        assert!(guard.peek("k").is_none());

        guard.fetch("k", origin.load()).await.expect("a value");
        assert!(matches!(guard.invalidate("k").await, Err(Error::Far(_))));
        assert!(guard.peek("k").is_none());
        assert!(begin.elapsed() <= FAR_TIMEOUT * 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_release_that_hangs_delays_the_error_by_the_far_timeout() {
    let (guard, wire) = wired(&memory());
    wire.fault(Call::Release, Break::Hang);
    let origin = Origin::new();
    origin.next(Reply::Fail);
    let begin = Instant::now();
    assert!(guard.fetch("k", origin.load()).await.is_err());
    assert!(begin.elapsed() <= FAR_TIMEOUT, "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn once_the_far_tier_is_back_it_is_used_again() {
    let far = memory();
    let (guard, wire) = wired(&far);
    wire.fault_all(&Break::Hang);
    let origin = Origin::new();
    guard.fetch("k", origin.load()).await.expect("a value");
    wire.heal();
    tokio::time::advance(ms(501)).await;
    let loaded = guard.fetch("k", origin.load()).await.expect("a value");
    assert_eq!(loaded.outcome(), Outcome::Loaded);
    assert!(builder().far(far).build().fetch("k", origin.load()).await.is_ok());
    assert_eq!(origin.loads(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_waiter_whose_far_tier_goes_down_loads_alone() {
    let far = memory();
    let holder = guard_on(far.clone());
    let (guard, wire) = wired(&far);
    let (stuck, gate) = Origin::gated();
    let held = caller(&holder, "k", &stuck);
    stuck.begun(1).await;
    let origin = Origin::new();
    let waiting = callers(&guard, 50, "k", &origin);
    idle().await;
    wire.fault_all(&Break::Hang);
    wire.tell(far::Event::Disconnected);
    let down = Instant::now();
    let (answers, last) = answers_by(waiting).await;
    for answer in answers {
        assert_eq!(answer.expect("a value").outcome(), BYPASSED);
    }
    assert!(last - down <= ms(100), "{:?}", last - down);
    assert_eq!(origin.loads(), 1);
    gate.open();
    answer(held).await.expect("a value");
}

#[tokio::test(start_paused = true)]
async fn a_caller_whose_far_read_failed_passes_when_it_goes_round_after_an_uncacheable_load() {
    let (guard, wire) = wired(&memory());
    let (origin, gate) = Origin::gated();
    origin.next(Reply::Loaded(row_at(1).uncacheable()));
    wire.fault(Call::Read, Break::Hang);
    let unlucky = caller(&guard, "k", &origin);
    idle().await;
    wire.heal();
    let leader = caller(&guard, "k", &origin);
    origin.begun(1).await;
    // Its read fails now, and it boards too late to share the uncacheable answer.
    tokio::time::sleep(FAR_TIMEOUT).await;
    gate.open();
    assert_eq!(version_of(&answer(leader).await), 1);
    let again = answer(unlucky).await.expect("a value");
    let passed = Outcome::Bypassed(Bypass::Uncacheable);
    assert_eq!((again.outcome(), wire.calls(Call::Commit)), (passed, 0));
    // An invalidation ends that, and the next load is leased again.
    guard.invalidate("k").await.expect("an invalidation");
    let leased = guard.fetch("k", origin.load()).await.expect("a value");
    assert_eq!((leased.outcome(), wire.calls(Call::Commit)), (Outcome::Loaded, 1));
}

#[tokio::test(start_paused = true)]
async fn near_hits_go_on_while_the_far_tier_hangs() {
    let (guard, wire) = wired(&memory());
    let origin = Origin::new();
    guard.fetch("k", origin.load()).await.expect("a value");
    wire.fault_all(&Break::Hang);
    let begin = Instant::now();
    for _ in 0..100 {
        let hit = guard.fetch("k", origin.load()).await.expect("a value");
        assert_eq!(hit.outcome(), Outcome::Hit(Tier::Near));
    }
    assert_eq!(begin.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_codec_that_panics_leaves_the_lease_to_the_others() {
    let far = memory();
    let (guard, wire) = wired(&far);
    let origin = Origin::taking(ms(50));
    wire.fault(Call::Commit, Break::Panic);
    let first = guard.fetch("k", origin.load()).await.expect("the value that was loaded");
    assert_eq!(first.outcome(), Outcome::Bypassed(Bypass::FarRefused));
    idle().await;
    let begun = Instant::now();
    let other = guard_on(far).fetch("k", origin.load()).await.expect("a value");
    assert_eq!((other.outcome(), begun.elapsed()), (Outcome::Loaded, ms(50)));
}
