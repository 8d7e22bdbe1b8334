//! Early refresh (XFetch) and jitter: entries are renewed before anybody waits, and not all at one time.

use std::{collections::BTreeMap, time::Duration};

use cattleguard::{
    Outcome, Policy, Tier,
    far::{Event, Far},
};
use tokio::time::Instant;

use crate::{
    builder, guard_on, memory, ms,
    origin::{Origin, Reply},
    plain, secs, version_of,
    wire::{Call, Wire},
    wired_with,
};

/// Loads take 100 ms, entries are fresh for 10 s, and nothing stale is served: who comes late waits.
fn eager() -> Policy {
    plain().ttl(secs(10)).near_ttl(secs(60)).early_refresh(1.0)
}

const LOAD: Duration = ms(100);

#[tokio::test(start_paused = true)]
async fn a_hot_key_is_refreshed_before_its_end_and_nobody_waits() {
    let (guard, _) = wired_with(&memory(), eager());
    let origin = Origin::taking(LOAD);
    guard.fetch("k", origin.load()).await.expect("a value");
    let begun = Instant::now();
    let mut longest = Duration::ZERO;
    while begun.elapsed() < secs(100) {
        let asked = Instant::now();
        let fetched = guard.fetch("k", origin.load()).await.expect("a value");
        assert_eq!(fetched.outcome(), Outcome::Hit(Tier::Near));
        longest = longest.max(asked.elapsed());
        tokio::time::sleep(ms(1)).await;
    }
    assert_eq!(longest, Duration::ZERO);
    // Refreshed a few load times before the end, not all the time.
    assert!((10..=16).contains(&origin.loads()), "{}", origin.loads());
}

#[tokio::test(start_paused = true)]
async fn one_process_in_the_fleet_refreshes_early() {
    let far = memory();
    let guards: Vec<_> =
        (0..4).map(|_| builder().policy(eager()).far(far.clone()).build()).collect();
    let origin = Origin::taking(LOAD);
    let begun = Instant::now();
    while begun.elapsed() < secs(60) {
        for guard in &guards {
            guard.fetch("k", origin.load()).await.expect("a value");
        }
        tokio::time::sleep(ms(1)).await;
    }
    assert!((6..=12).contains(&origin.loads()), "{} loads by four processes", origin.loads());
    assert_eq!(origin.most_at_once(), 1);
}

#[tokio::test(start_paused = true)]
async fn without_a_near_tier_a_far_hit_refreshes_early() {
    let guard = builder().policy(eager()).near_capacity(0).far(memory()).build();
    let origin = Origin::taking(LOAD);
    guard.fetch("k", origin.load()).await.expect("a value");
    let begun = Instant::now();
    while begun.elapsed() < secs(50) {
        let asked = Instant::now();
        let fetched = guard.fetch("k", origin.load()).await.expect("a value");
        assert!(matches!(fetched.outcome(), Outcome::Hit(Tier::Far) | Outcome::Followed));
        assert_eq!(asked.elapsed(), Duration::ZERO);
        tokio::time::sleep(ms(1)).await;
    }
    assert!((5..=9).contains(&origin.loads()), "{}", origin.loads());
}

#[tokio::test(start_paused = true)]
async fn the_chance_grows_with_the_load_time_and_beta_zero_turns_it_off() {
    let mut ends = BTreeMap::new();
    for (beta, takes) in [(1.0, ms(10)), (1.0, ms(500)), (4.0, ms(500)), (0.0, ms(500))] {
        // The mean of many: how long before its end an entry is refreshed.
        let mut before = Duration::ZERO;
        for _ in 0..20 {
            let guard = builder().policy(eager().early_refresh(beta)).far(memory()).build();
            let origin = Origin::taking(takes);
            guard.fetch("k", origin.load()).await.expect("a value");
            let end = Instant::now() + secs(10);
            while origin.loads() == 1 && Instant::now() < end {
                guard.fetch("k", origin.load()).await.expect("a value");
                tokio::time::sleep(ms(5)).await;
            }
            before += end.saturating_duration_since(Instant::now());
        }
        ends.insert((format!("{beta}"), takes), before / 20);
    }
    let ends: Vec<_> = ends.into_values().collect();
    // beta 0; beta 1 and a short load; beta 1; beta 4.
    assert_eq!(ends[0], Duration::ZERO);
    assert!(ends.windows(2).all(|pair| pair[0] < pair[1]), "{ends:?}");
    // δ·β·ln(requests), where some of the requests come in δ: around 50 ms and 2.5 s.
    assert!(ends[1] < ms(150) && ends[2] > secs(1) && ends[2] < secs(5), "{ends:?}");
}

#[tokio::test(start_paused = true)]
async fn an_early_refresh_that_fails_pauses_and_harms_nobody() {
    let (guard, wire) = wired_with(&memory(), eager().failure_backoff(secs(1)));
    let origin = Origin::taking(LOAD);
    guard.fetch("k", origin.load()).await.expect("a value");
    for _ in 0..1_000 {
        origin.next(Reply::Fail);
    }
    let begun = Instant::now();
    while begun.elapsed() < ms(9_950) {
        let fetched = guard.fetch("k", origin.load()).await.expect("a value");
        assert_eq!(fetched.outcome(), Outcome::Hit(Tier::Near));
        tokio::time::sleep(ms(1)).await;
    }
    assert!((2..=4).contains(&origin.loads()), "{}", origin.loads());
    assert_eq!(wire.calls(Call::Fail), origin.loads() - 1);
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_during_an_early_refresh_wins() {
    let guard = builder().policy(eager().early_refresh(1e6)).far(memory()).build();
    let origin = Origin::taking(LOAD);
    guard.fetch("k", origin.load()).await.expect("a value");
    guard.fetch("k", origin.load()).await.expect("a hit that refreshes");
    origin.begun(2).await;
    origin.write(2);
    guard.invalidate("k").await.expect("the far tier");
    assert_eq!(version_of(&guard.fetch("k", origin.load()).await), 2);
    tokio::time::sleep(secs(1)).await;
    assert_eq!(version_of(&guard.fetch("k", origin.load()).await), 2);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_outlasts_the_entry_is_waited_for_then() {
    for near_capacity in [0, 100] {
        let policy = eager().early_refresh(1e6).load_timeout(secs(60));
        let guard = builder().policy(policy).near_capacity(near_capacity).far(memory()).build();
        let origin = Origin::taking(secs(15));
        guard.fetch("k", origin.load()).await.expect("a value");
        origin.write(2);
        let begun = Instant::now();
        for after in [Duration::ZERO, ms(9_900)] {
            tokio::time::sleep(after).await;
            assert_eq!(version_of(&guard.fetch("k", origin.load()).await), 1);
        }
        tokio::time::sleep(ms(200)).await;
        let fetched = guard.fetch("k", origin.load()).await.expect("a value");
        assert_eq!((fetched.version(), fetched.outcome()), (2.into(), Outcome::Followed));
        assert_eq!((begun.elapsed(), origin.loads()), (secs(15), 2));
    }
}

#[tokio::test(start_paused = true)]
async fn when_messages_stop_nobody_is_answered_from_before_a_refresh() {
    for near_capacity in [0, 100] {
        let far = memory();
        let wire = Wire::to(&far);
        let policy = eager().early_refresh(1e6);
        let guard = builder().policy(policy).near_capacity(near_capacity).far(wire.clone()).build();
        let origin = Origin::taking(secs(1));
        guard.fetch("k", origin.load()).await.expect("a value");
        assert_eq!(version_of(&guard.fetch("k", origin.load()).await), 1);
        origin.begun(2).await;
        origin.write(2);
        wire.lose_messages();
        guard_on(far).invalidate("k").await.expect("the far tier");
        wire.tell(Event::Disconnected);
        assert_eq!(version_of(&guard.fetch("k", origin.load()).await), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn the_load_time_travels_with_the_entry() {
    let far = memory();
    let guard = builder().policy(eager()).far(far.clone()).build();
    guard.fetch("k", Origin::taking(LOAD).load()).await.expect("a value");
    let entry = far.read("k").await.expect("the far tier").expect("an entry");
    assert!(entry.load_time() >= LOAD && entry.load_time() < LOAD + ms(10), "{entry:?}");
}

/// The most loads in any 100 ms, when a thousand entries written together come to their end.
async fn most_loads_in_100_ms(jitter: f64) -> usize {
    let policy = plain().ttl(secs(10)).jitter(jitter).max_concurrent_loads(1_000);
    let guard = builder().policy(policy).near_capacity(2_000).far(memory()).build();
    let origin = Origin::new();
    let keys: Vec<String> = (0..1_000).map(|n| format!("k{n}")).collect();
    for key in &keys {
        guard.fetch(key, origin.load()).await.expect("a value");
    }
    let mut most = 0;
    for _ in 0..110 {
        let before = origin.loads();
        for key in &keys {
            guard.fetch(key, origin.load()).await.expect("a value");
        }
        most = most.max(origin.loads() - before);
        tokio::time::advance(ms(100)).await;
    }
    most
}

#[tokio::test(start_paused = true)]
async fn a_thousand_keys_written_together_expire_together_without_jitter_and_spread_with_it() {
    assert_eq!(most_loads_in_100_ms(0.0).await, 1_000);
    // A fifth of 10 s is twenty times 100 ms: about 50 in each.
    let most = most_loads_in_100_ms(0.2).await;
    assert!(most <= 120, "{most} loads in 100 ms");
}
