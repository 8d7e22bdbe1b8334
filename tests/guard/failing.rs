//! An origin that fails: one shared error or something stale, and then a pause.

use std::time::Duration;

use cattleguard::{Error, Loaded, Outcome, Policy, StaleReason, Tier, far::Event};
use tokio::time::Instant;

use crate::{
    Answer, answer, answers, builder, caller, callers, guard_on, memory, ms,
    origin::{Broken, Origin, Reply, row_at},
    plain, secs, version_of,
    wire::{Break, Call},
    wired_with,
};

const INSTEAD: Outcome = Outcome::StaleIfError(StaleReason::Failed);

/// Fresh for 10 s, stale for 5 s, and then there in case of an error for a minute. Pauses of 1, 2, 4, 4 s.
pub(crate) fn forgiving() -> Policy {
    plain()
        .ttl(secs(10))
        .grace(secs(5))
        .stale_if_error(secs(60))
        .failure_backoff(secs(1))
        .max_failure_backoff(secs(4))
}

fn is_broken(answer: &Answer) -> bool {
    matches!(answer, Err(Error::Origin(error)) if error.is::<Broken>())
}

/// An origin that only fails.
fn failing(takes: Duration) -> Origin {
    let origin = Origin::taking(takes);
    for _ in 0..1_000 {
        origin.next(Reply::Fail);
    }
    origin
}

#[tokio::test(start_paused = true)]
async fn without_anything_stale_a_thousand_callers_share_one_error_and_do_not_queue() {
    let guard = builder().policy(forgiving()).far(memory()).build();
    let origin = failing(ms(50));
    let begun = Instant::now();
    let herd = callers(&guard, 1_000, "k", &origin);
    assert!(answers(herd).await.iter().all(is_broken));
    // Those who come during the pause neither load nor wait.
    assert!(answers(callers(&guard, 1_000, "k", &origin)).await.iter().all(is_broken));
    assert_eq!((origin.loads(), begun.elapsed()), (1, ms(50)));
}

#[tokio::test(start_paused = true)]
async fn a_waiter_in_another_process_shares_the_failure_and_does_not_try_in_turn() {
    let far = memory();
    let guards: Vec<_> =
        (0..4).map(|_| builder().policy(forgiving()).far(far.clone()).build()).collect();
    let origin = failing(ms(50));
    let begun = Instant::now();
    let herds: Vec<_> = guards.iter().flat_map(|guard| callers(guard, 250, "k", &origin)).collect();
    let answers = answers(herds).await;
    let elsewhere = |answer: &Answer| matches!(answer, Err(Error::FailedElsewhere { .. }));
    assert_eq!(answers.iter().filter(|answer| is_broken(answer)).count(), 250);
    assert_eq!(answers.iter().filter(|answer| elsewhere(answer)).count(), 750);
    assert_eq!((origin.loads(), begun.elapsed()), (1, ms(50)));
    assert_eq!(guards.iter().map(cattleguard::Guard::flights).sum::<usize>(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_failing_origin_is_asked_once_per_pause_which_doubles_up_to_the_longest() {
    let far = memory();
    let guards: Vec<_> =
        (0..2).map(|_| builder().policy(forgiving()).far(far.clone()).build()).collect();
    let origin = failing(Duration::ZERO);
    let begun = Instant::now();
    let mut attempts = Vec::new();
    while begun.elapsed() < secs(16) {
        for guard in &guards {
            let loads = origin.loads();
            assert!(guard.fetch("k", origin.load()).await.is_err());
            if origin.loads() > loads {
                attempts.push(begun.elapsed());
            }
        }
        tokio::time::advance(ms(10)).await;
    }
    // After 1, 2, 4, 4, 4 s, less a quarter at most, in the two processes together.
    let pauses: Vec<_> = attempts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    for (pause, full) in pauses.iter().zip([1, 2, 4, 4, 4]) {
        assert!(*pause >= secs(full).mul_f64(0.75) && *pause <= secs(full) + ms(20), "{pauses:?}");
    }
    assert!((4..=6).contains(&pauses.len()), "{pauses:?}");
}

#[tokio::test(start_paused = true)]
async fn failures_in_a_row_count_whichever_process_they_are_in() {
    let far = memory();
    let guards: Vec<_> =
        (0..3).map(|_| builder().policy(forgiving()).far(far.clone()).build()).collect();
    let failing = failing(Duration::ZERO);
    // Each process fails for its first time.
    for (guard, pause) in guards.iter().zip([1, 2, 4]) {
        let loads = failing.loads();
        assert!(guard.fetch("k", failing.load()).await.is_err());
        tokio::time::advance(secs(pause).mul_f64(0.74)).await;
        assert!(guard.fetch("k", failing.load()).await.is_err());
        assert_eq!(failing.loads(), loads + 1, "after a pause of {pause} s");
        tokio::time::advance(secs(pause).mul_f64(0.26)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_success_the_first_pause_is_short_again() {
    let guard =
        builder().policy(forgiving().ttl(ms(1)).grace(Duration::ZERO)).far(memory()).build();
    let origin = Origin::new();
    for reply in [Reply::Fail, Reply::Fail, Reply::Row, Reply::Fail, Reply::Row] {
        origin.next(reply);
    }
    for wait in [1, 2, 0, 1] {
        let _ = guard.fetch("k", origin.load()).await;
        tokio::time::advance(secs(wait) + ms(2)).await;
    }
    // Fail, fail, row, fail have been asked for; the pause after the last is one of 1 s, and over.
    assert_eq!(origin.loads(), 4);
    guard.fetch("k", origin.load()).await.expect("a value");
    assert_eq!(origin.loads(), 5);
}

#[tokio::test(start_paused = true)]
async fn an_expired_entry_is_served_while_the_origin_fails_and_not_beyond_its_window() {
    let guard = builder().policy(forgiving()).far(memory()).build();
    let origin = Origin::new();
    guard.fetch("k", origin.load()).await.expect("a value");
    tokio::time::advance(secs(15)).await;
    let failing = failing(Duration::ZERO);
    let begun = Instant::now();
    while begun.elapsed() < secs(59) {
        let fetched = guard.fetch("k", failing.load()).await.expect("something stale");
        assert_eq!((fetched.outcome(), fetched.version()), (INSTEAD, 1.into()));
        tokio::time::advance(ms(100)).await;
    }
    // 1 + 2 s, then every four, less a quarter at most.
    assert!((15..=22).contains(&failing.loads()), "{}", failing.loads());
    tokio::time::advance(secs(6)).await;
    assert!(is_broken(&guard.fetch("k", failing.load()).await));
}

#[tokio::test(start_paused = true)]
async fn within_grace_a_failing_refresh_pauses_and_callers_go_on() {
    let (guard, wire) = wired_with(&memory(), forgiving().grace(secs(60)).near_ttl(secs(120)));
    guard.fetch("k", Origin::new().load()).await.expect("a value");
    tokio::time::advance(secs(10)).await;
    let failing = failing(ms(10));
    let begun = Instant::now();
    while begun.elapsed() < ms(700) {
        let fetched = guard.fetch("k", failing.load()).await.expect("something stale");
        assert_eq!(fetched.outcome(), Outcome::Stale(Tier::Near));
        tokio::time::sleep(ms(1)).await;
    }
    assert_eq!((failing.loads(), wire.calls(Call::Fail)), (1, 1));
    assert_eq!(wire.calls(Call::LookUp), 2, "a paused key is not even asked for");
}

#[tokio::test(start_paused = true)]
async fn an_invalidated_entry_is_never_served_in_place_of_an_error() {
    let far = memory();
    let (guard, other) = (
        builder().policy(forgiving()).far(far.clone()).build(),
        builder().policy(forgiving()).far(far.clone()).build(),
    );
    let origin = Origin::new();
    guard.fetch("k", origin.load()).await.expect("a value");
    tokio::time::advance(secs(20)).await;
    let failing = failing(Duration::ZERO);
    assert_eq!(guard.fetch("k", failing.load()).await.expect("stale").outcome(), INSTEAD);
    // The pause holds on to the entry, and lets go of it.
    other.invalidate_at("k", 2).await.expect("the far tier");
    assert!(is_broken(&guard.fetch("k", failing.load()).await));
    assert!(guard.fetch("k", failing.load()).await.is_err());
    assert_eq!(failing.loads(), 2);
}

#[tokio::test(start_paused = true)]
async fn when_messages_may_be_lost_a_pause_lets_go_of_its_entry() {
    for event in [Event::Disconnected, Event::Connected] {
        let far = memory();
        let (guard, wire) = wired_with(&far, forgiving());
        guard.fetch("k", Origin::new().load()).await.expect("a value");
        tokio::time::advance(secs(20)).await;
        let failing = failing(Duration::ZERO);
        assert_eq!(guard.fetch("k", failing.load()).await.expect("stale").outcome(), INSTEAD);
        wire.lose_messages();
        guard_on(far).invalidate("k").await.expect("the far tier");
        wire.tell(event);
        assert!(guard.fetch("k", failing.load()).await.is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_holds_on_to_its_entry_no_longer_than_the_near_tier_would() {
    let far = memory();
    let policy = forgiving().near_ttl(ms(700)).failure_backoff(secs(4));
    let (guard, wire) = wired_with(&far, policy);
    guard.fetch("k", Origin::new().load()).await.expect("a value");
    tokio::time::advance(secs(20)).await;
    let failing = failing(Duration::ZERO);
    let stale = async || guard.fetch("k", failing.load()).await.expect("stale").outcome();
    assert_eq!(stale().await, INSTEAD);
    let reads = wire.calls(Call::Read);
    assert_eq!((stale().await, wire.calls(Call::Read)), (INSTEAD, reads));
    tokio::time::advance(ms(800)).await;
    assert_eq!((stale().await, wire.calls(Call::Read) > reads), (INSTEAD, true));
    assert_eq!(failing.loads(), 1, "a look is no load");

    tokio::time::advance(ms(800)).await;
    wire.lose_messages();
    guard_on(far).invalidate("k").await.expect("the far tier");
    assert!(guard.fetch("k", failing.load()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_user_who_panics_over_an_error_costs_nobody_an_answer() {
    let guard = builder()
        .policy(forgiving())
        .counts_as_failure(|_| panic!("in the user's closure"))
        .far(memory())
        .build();
    let origin = failing(ms(50));
    assert!(answers(callers(&guard, 10, "k", &origin)).await.iter().all(is_broken));
    assert!(is_broken(&guard.fetch("k", origin.load()).await));
    assert_eq!(origin.loads(), 1, "it counts");
}

#[tokio::test(start_paused = true)]
async fn a_load_that_fails_after_an_invalidation_does_not_bring_the_old_entry_back() {
    let far = memory();
    let guard = builder().policy(forgiving()).far(far.clone()).build();
    guard.fetch("k", Origin::new().load()).await.expect("a value");
    tokio::time::advance(secs(20)).await;
    let (origin, gate) = Origin::gated();
    origin.next(Reply::Fail);
    let aboard = caller(&guard, "k", &origin);
    origin.begun(1).await;
    guard.invalidate("k").await.expect("the far tier");
    gate.open();
    assert!(is_broken(&answer(aboard).await));
}

#[tokio::test(start_paused = true)]
async fn news_of_the_key_end_the_pause() {
    let far = memory();
    let guards: Vec<_> =
        (0..2).map(|_| builder().policy(forgiving()).far(far.clone()).build()).collect();
    for write in 0..3 {
        let failing = failing(Duration::ZERO);
        for guard in &guards {
            assert!(guard.fetch("k", failing.load()).await.is_err());
        }
        assert_eq!(failing.loads(), 1);
        let version = 10 * (write + 1);
        match write {
            0 => drop(guards[1].put("k", row_at(version)).await.expect("the far tier")),
            1 => drop(guards[1].invalidate("k").await.expect("the far tier")),
            _ => drop(guards[1].invalidate_at("k", version).await.expect("the far tier")),
        }
        let origin = Origin::new();
        origin.write(version);
        for guard in &guards {
            assert_eq!(version_of(&guard.fetch("k", origin.load()).await), version);
        }
        guards[0].invalidate_at("k", version + 1).await.expect("the far tier");
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_that_does_not_count_pauses_nothing_and_is_not_hidden() {
    let far = memory();
    let guard = builder()
        .policy(forgiving())
        .counts_as_failure(|error| !matches!(error, Error::Origin(error) if error.is::<Broken>()))
        .far(far.clone())
        .build();
    guard.fetch("k", Origin::new().load()).await.expect("a value");
    tokio::time::advance(secs(20)).await;
    let origin = Origin::new();
    origin.next(Reply::Fail).next(Reply::Panic);
    assert!(is_broken(&guard.fetch("k", origin.load()).await));
    // A panic counts.
    assert_eq!(guard.fetch("k", origin.load()).await.expect("stale").outcome(), INSTEAD);
    assert_eq!((origin.loads(), far.lease_count()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn with_the_far_tier_down_too_a_failure_is_shared_and_pauses() {
    let (guard, wire) = wired_with(&memory(), forgiving());
    wire.fault_all(&Break::Error);
    let failing = failing(ms(50));
    assert!(answers(callers(&guard, 250, "k", &failing)).await.iter().all(is_broken));
    assert!(answers(callers(&guard, 250, "k", &failing)).await.iter().all(is_broken));
    assert_eq!(failing.loads(), 1);
}

#[tokio::test(start_paused = true)]
async fn with_the_far_tier_down_this_process_counts_the_failures_itself() {
    let (guard, wire) = wired_with(&memory(), forgiving());
    wire.fault_all(&Break::Error);
    let failing = failing(Duration::ZERO);
    let begun = Instant::now();
    while begun.elapsed() < secs(15) {
        assert!(guard.fetch("k", failing.load()).await.is_err());
        tokio::time::advance(ms(10)).await;
    }
    // At once, and after 1, 2, 4, 4 s, less a quarter at most.
    assert!((5..=6).contains(&failing.loads()), "{}", failing.loads());
}

#[tokio::test(start_paused = true)]
async fn a_load_timeout_and_a_lagging_origin_count_as_failures() {
    let policy = forgiving().load_timeout(secs(1)).stale_if_error(Duration::ZERO);
    let guard = builder().policy(policy).far(memory()).build();
    let origin = Origin::new();
    origin.next(Reply::Never);
    for _ in 0..2 {
        let answer = guard.fetch("never", origin.load()).await;
        assert!(matches!(answer, Err(Error::LoadTimeout { .. })), "{answer:?}");
    }
    assert_eq!(origin.loads(), 1);
    guard.invalidate_at("old", 5).await.expect("the far tier");
    for _ in 0..2 {
        let answer = guard.fetch("old", origin.load()).await;
        assert!(matches!(answer, Err(Error::Outdated { .. })), "{answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_uncacheable_answer_after_a_failure_is_still_an_answer() {
    let guard = builder().policy(forgiving()).far(memory()).build();
    let origin = Origin::new();
    origin.next(Reply::Fail).next(Reply::Loaded(Loaded::found("v".to_owned(), 1).uncacheable()));
    assert!(guard.fetch("k", origin.load()).await.is_err());
    tokio::time::advance(secs(1)).await;
    assert!(guard.fetch("k", origin.load()).await.is_ok());
}
