//! Soft timeouts and deadlines: who cannot wait any longer, and the load that goes on.

use cattleguard::{
    Error, Outcome, StaleReason, Tier,
    far::{Event, Far},
};
use tokio::time::Instant;

use crate::{
    answers, bounded, builder, callers,
    failing::forgiving,
    guard_on, idle, memory, ms,
    origin::{Broken, Gate, Origin, row_at},
    secs, version_of,
    wire::{Break, Call, FAR_TIMEOUT},
    wired, wired_with,
};

#[tokio::test(start_paused = true)]
async fn beyond_the_soft_timeout_callers_get_something_stale_and_the_load_goes_on() {
    let far = memory();
    let policy = forgiving().soft_timeout(ms(100)).near_ttl(secs(60));
    let guards: Vec<_> =
        (0..2).map(|_| builder().policy(policy.clone()).far(far.clone()).build()).collect();
    let origin = Origin::taking(secs(2));
    guards[0].fetch("k", origin.load()).await.expect("a value");
    tokio::time::advance(secs(20)).await;
    origin.write(2);

    let begun = Instant::now();
    let slow = Outcome::StaleIfError(StaleReason::Slow);
    // In the process that loads and in the one that waits for it.
    let herd = guards.iter().flat_map(|guard| callers(guard, 100, "k", &origin)).collect();
    for answer in answers(herd).await {
        let fetched = answer.expect("something stale");
        assert_eq!((fetched.outcome(), fetched.version()), (slow, 1.into()));
    }
    assert_eq!(begun.elapsed(), ms(100));
    // Nobody waits twice.
    assert_eq!(guards[0].fetch("k", origin.load()).await.expect("stale").outcome(), slow);
    assert_eq!(begun.elapsed(), ms(100));
    tokio::time::sleep(secs(2)).await;
    for guard in &guards {
        assert_eq!(version_of(&guard.fetch("k", origin.load()).await), 2);
    }
    assert_eq!(origin.loads(), 2);
}

#[tokio::test(start_paused = true)]
async fn after_the_soft_timeout_an_invalidation_still_closes_the_flight() {
    let guard = builder().policy(forgiving().soft_timeout(ms(100))).far(memory()).build();
    let origin = Origin::taking(secs(2));
    guard.fetch("k", origin.load()).await.expect("a value");
    tokio::time::advance(secs(20)).await;
    assert_eq!(version_of(&guard.fetch("k", origin.load()).await), 1);
    origin.write(2);
    guard.invalidate_at("k", 2).await.expect("the far tier");
    assert_eq!(version_of(&guard.fetch("k", origin.load()).await), 2);
}

#[tokio::test(start_paused = true)]
async fn the_callers_deadline_goes_over_everything() {
    let far = memory();
    let guard = guard_on(far.clone());
    let origin = Origin::taking(secs(2));
    let begun = Instant::now();
    let answer = guard.fetch_by("k", begun + ms(300), origin.load()).await;
    assert!(matches!(answer, Err(Error::DeadlineExceeded)), "{answer:?}");
    assert_eq!(begun.elapsed(), ms(300));
    // The load goes on, and a deadline changes nothing for who is in time.
    let answer = guard.fetch_by("k", begun + secs(3), origin.load()).await;
    assert_eq!((version_of(&answer), origin.loads()), (1, 1));
    assert_eq!(begun.elapsed(), secs(2));
    // Also while another process holds the lease, which outlasts it.
    let other = guard_on(far.clone());
    let gate = Gate::closed();
    let held = tokio::spawn({
        let gate = gate.clone();
        async move {
            other
                .fetch("h", move || {
                    let gate = gate.clone();
                    async move {
                        gate.pass().await;
                        Ok::<_, Broken>(row_at(1))
                    }
                })
                .await
        }
    });
    idle().await;
    let begun = Instant::now();
    let answer = guard.fetch_by("h", begun + ms(300), origin.load()).await;
    assert!(matches!(answer, Err(Error::DeadlineExceeded)), "{answer:?}");
    assert_eq!(begun.elapsed(), ms(300));
    gate.open();
    bounded(held).await.expect("a task").expect("a value");
}

#[tokio::test(start_paused = true)]
async fn at_the_deadline_something_stale_is_better_than_an_error() {
    let far = memory();
    let guard = builder().policy(forgiving()).far(far.clone()).build();
    let origin = Origin::taking(secs(2));
    guard.fetch("k", origin.load()).await.expect("a value");
    tokio::time::advance(secs(20)).await;
    let begun = Instant::now();
    let fetched =
        guard.fetch_by("k", begun + ms(300), origin.load()).await.expect("something stale");
    assert_eq!(fetched.outcome(), Outcome::StaleIfError(StaleReason::Slow));
    assert_eq!(begun.elapsed(), ms(300));
    assert!(far.read("k").await.expect("the far tier").is_some());
}

#[tokio::test(start_paused = true)]
async fn a_deadline_in_the_past_still_gives_a_hit() {
    let guard = guard_on(memory());
    let origin = Origin::new();
    guard.fetch("k", origin.load()).await.expect("a value");
    let past = Instant::now();
    tokio::time::advance(secs(1)).await;
    let fetched = guard.fetch_by("k", past, origin.load()).await.expect("a hit");
    assert_eq!(fetched.outcome(), Outcome::Hit(Tier::Near));
    assert!(matches!(guard.fetch_by("x", past, origin.load()).await, Err(Error::DeadlineExceeded)));
}

#[tokio::test(start_paused = true)]
async fn a_hundred_callers_at_their_deadlines_read_the_far_tier_once() {
    let (guard, wire) = wired_with(&memory(), forgiving());
    let origin = Origin::taking(secs(2));
    guard.fetch("k", origin.load()).await.expect("a value");
    tokio::time::advance(secs(20)).await;
    let reads = wire.calls(Call::Read);
    let by = Instant::now() + ms(300);
    let herd: Vec<_> = (0..100)
        .map(|_| {
            let (guard, load) = (guard.clone(), origin.load());
            tokio::spawn(async move { guard.fetch_by("k", by, load).await })
        })
        .collect();
    for caller in herd {
        let fetched = bounded(caller).await.expect("a task").expect("something stale");
        assert_eq!(fetched.outcome(), Outcome::StaleIfError(StaleReason::Slow));
    }
    assert_eq!((wire.calls(Call::Read) - reads, origin.loads()), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn the_load_of_a_lone_caller_goes_on_after_a_deadline_that_a_hung_read_outlasts() {
    let (guard, wire) = wired(&memory());
    let origin = Origin::new();
    wire.fault(Call::Read, Break::Hang);
    let by = Instant::now() + FAR_TIMEOUT / 2;
    let answer = guard.fetch_by("k", by, origin.load()).await;
    assert!(matches!(answer, Err(Error::DeadlineExceeded)), "{answer:?}");
    idle().await;
    assert_eq!(origin.loads(), 1);
    assert_eq!(
        guard.fetch("k", origin.load()).await.expect("a value").outcome(),
        Outcome::Hit(Tier::Near)
    );
}

#[tokio::test(start_paused = true)]
async fn what_was_found_for_a_deadline_is_forgotten_when_messages_stop() {
    let far = memory();
    let (guard, wire) = wired_with(&far, forgiving());
    let origin = Origin::taking(secs(2));
    guard.fetch("k", origin.load()).await.expect("a value");
    tokio::time::advance(secs(20)).await;
    // Finds what has expired, and waits for the load.
    let aboard = callers(&guard, 1, "k", &origin);
    origin.begun(2).await;
    wire.lose_messages();
    guard_on(far).invalidate("k").await.expect("the far tier");
    wire.tell(Event::Disconnected);
    let late = guard.fetch_by("k", Instant::now() + ms(300), origin.load()).await;
    assert!(matches!(late, Err(Error::DeadlineExceeded)), "{late:?}");
    answers(aboard).await;
}

#[tokio::test(start_paused = true)]
async fn beyond_the_soft_timeout_nobody_waits_however_long_the_load_takes() {
    let policy = forgiving().soft_timeout(ms(100)).near_ttl(ms(600));
    let guard = builder().policy(policy.load_timeout(secs(60))).far(memory()).build();
    let origin = Origin::taking(secs(8));
    guard.fetch("k", origin.load()).await.expect("a value");
    tokio::time::advance(secs(20)).await;
    guard.fetch("k", origin.load()).await.expect("something stale");
    for _ in 0..70 {
        tokio::time::sleep(ms(100)).await;
        let begun = Instant::now();
        let fetched = guard.fetch("k", origin.load()).await.expect("something stale");
        assert_eq!(fetched.outcome(), Outcome::StaleIfError(StaleReason::Slow));
        assert_eq!(begun.elapsed(), ms(0));
    }
    assert_eq!(origin.loads(), 2);
}
