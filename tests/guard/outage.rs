//! P6 at length: the bulkhead, the breaker, and what becomes of writes while the far tier is away.

use std::time::Duration;

use cattleguard::{
    Bypass, Clock, Error, FaultKind, Outcome, Policy, StaleReason, Tier, Version,
    far::{Far, Invalidated},
    memory::MemoryFar,
};
use tokio::time::Instant;

use crate::{
    answer, answers, answers_by, builder, caller, callers, guard_on, idle, memory, ms,
    origin::{Origin, Reply, row_at},
    plain, secs, version_of,
    wire::{Break, Call, FAR_TIMEOUT},
    wired, wired_with,
};

const BYPASSED: Outcome = Outcome::Bypassed(Bypass::FarUnavailable);
const REFUSED: Outcome = Outcome::Bypassed(Bypass::FarRefused);
const KEYS: [&str; 8] = ["k0", "k1", "k2", "k3", "k4", "k5", "k6", "k7"];

fn narrow() -> Policy {
    plain().max_concurrent_loads(3)
}

#[tokio::test(start_paused = true)]
async fn loads_of_different_keys_are_bounded_and_all_callers_are_answered() {
    for outage in [None, Some(Break::Error), Some(Break::Hang)] {
        let (guard, wire) = wired_with(&memory(), narrow());
        if let Some(fault) = &outage {
            wire.fault_all(fault);
        }
        let origin = Origin::taking(ms(100));
        let herd = KEYS.iter().flat_map(|key| callers(&guard, 5, key, &origin)).collect();
        let begun = Instant::now();
        let (answers, last) = answers_by(herd).await;
        for answer in answers {
            assert_eq!(version_of(&answer), 1);
        }
        assert_eq!((origin.loads(), origin.most_at_once()), (8, 3), "{:?}", outage.is_some());
        assert!(last - begun <= ms(300 + 100), "{:?}", last - begun);
    }
}

#[tokio::test(start_paused = true)]
async fn beyond_the_queue_callers_are_told_when_to_come_again() {
    let far = memory();
    let (guard, _) = wired_with(&far, narrow().max_queued_loads(2));
    let origin = Origin::taking(ms(100));
    let mut herd = Vec::new();
    for key in KEYS {
        herd.push(caller(&guard, key, &origin));
        idle().await;
    }
    let answers = answers(herd).await;
    let (answered, told): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.is_ok());
    assert_eq!((answered.len(), told.len()), (5, 3));
    for answer in told {
        let Err(error @ Error::Overloaded { .. }) = answer else { panic!("{answer:?}") };
        assert!(error.retry_after() >= Some(ms(10)), "{error:?}");
    }
    // No lease is left behind, and no failure remembered.
    assert_eq!(far.lease_count(), 0);
    guard.fetch("k7", origin.load()).await.expect("room again");
}

#[tokio::test(start_paused = true)]
async fn without_room_something_stale_is_better_than_an_error() {
    let policy = narrow().max_queued_loads(0).ttl(secs(1)).stale_if_error(secs(60));
    let guard = builder().policy(policy).far(memory()).build();
    let origin = Origin::taking(ms(100));
    guard.fetch("k7", origin.load()).await.expect("a value");
    tokio::time::sleep(secs(2)).await;
    let herd: Vec<_> = KEYS[..3].iter().map(|key| caller(&guard, key, &origin)).collect();
    idle().await;
    let fetched = guard.fetch("k7", origin.load()).await.expect("something stale");
    assert_eq!(fetched.outcome(), Outcome::StaleIfError(StaleReason::Overloaded));
    answers(herd).await;
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_finds_no_room_is_left_for_later() {
    let guard = builder()
        .policy(narrow().ttl(secs(1)).grace(secs(60)).near_ttl(secs(90)))
        .far(memory())
        .build();
    let origin = Origin::taking(ms(100));
    guard.fetch("k7", origin.load()).await.expect("a value");
    tokio::time::sleep(secs(2)).await;
    let herd: Vec<_> = KEYS[..3].iter().map(|key| caller(&guard, key, &origin)).collect();
    idle().await;
    let stale = guard.fetch("k7", origin.load()).await.expect("something stale");
    assert_eq!(stale.outcome(), Outcome::Stale(Tier::Near));
    answers(herd).await;
    assert_eq!(origin.loads(), 4, "the refresh did not queue");
    guard.fetch("k7", origin.load()).await.expect("something stale");
    tokio::time::sleep(ms(200)).await;
    assert_eq!(origin.loads(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_load_that_waits_for_room_keeps_its_lease() {
    let far = memory();
    let guards: Vec<_> = (0..2)
        .map(|_| {
            builder()
                .policy(plain().max_concurrent_loads(1).lease_ttl(secs(1)))
                .far(far.clone())
                .build()
        })
        .collect();
    let origin = Origin::taking(secs(5));
    let busy = caller(&guards[0], "busy", &origin);
    idle().await;
    let queued = caller(&guards[0], "k", &origin);
    idle().await;
    let waiting = caller(&guards[1], "k", &origin);
    assert_eq!(answers(vec![busy, queued, waiting]).await.iter().map(version_of).sum::<u64>(), 3);
    assert_eq!(origin.loads(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_aborted_load_keeps_its_place_until_it_is_gone() {
    let guard = builder()
        .policy(plain().max_concurrent_loads(1).load_timeout(secs(1)))
        .far(memory())
        .build();
    let origin = Origin::new();
    origin.next(Reply::Never);
    assert!(guard.fetch("k0", origin.load()).await.is_err());
    assert_eq!(version_of(&guard.fetch("k1", origin.load()).await), 1);
    assert_eq!(origin.most_at_once(), 1);
}

#[tokio::test(start_paused = true)]
async fn after_five_failures_nobody_pays_for_a_dead_far_tier() {
    let (guard, wire) = wired(&memory());
    wire.fault_all(&Break::Hang);
    let origin = Origin::new();
    for key in KEYS {
        let begun = Instant::now();
        let fetched = guard.fetch(key, origin.load()).await.expect("a value");
        assert_eq!(fetched.outcome(), BYPASSED);
        let paid = if key < "k5" { FAR_TIMEOUT } else { Duration::ZERO };
        assert_eq!(begun.elapsed(), paid, "{key}");
    }
    assert_eq!(wire.calls(Call::Read), 5);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_another_process_when_the_far_tier_goes_loads_at_once() {
    let far = memory();
    let (other, (guard, wire)) = (guard_on(far.clone()), wired(&far));
    let (slow, origin) = (Origin::taking(secs(5)), Origin::new());
    let elsewhere = caller(&other, "k", &slow);
    idle().await;
    let waiting = caller(&guard, "k", &origin);
    idle().await;
    // Its messages do not stop: a frozen server is silent, and that takes time to notice.
    wire.fault_all(&Break::Hang);
    let gone = Instant::now();
    answers(KEYS.iter().map(|key| caller(&guard, key, &origin)).collect()).await;
    let (waited, at) = answers_by(vec![waiting]).await;
    assert_eq!((version_of(&waited[0]), at - gone), (1, FAR_TIMEOUT));
    answer(elsewhere).await.expect("a value");
}

#[tokio::test(start_paused = true)]
async fn a_far_tier_that_is_back_is_used_within_a_second_and_no_caller_probes() {
    let far = memory();
    let (guard, wire) = wired(&far);
    wire.fault_all(&Break::Hang);
    let origin = Origin::new();
    for key in KEYS {
        guard.fetch(key, origin.load()).await.expect("a value");
    }
    // Probes go on for as long as it takes, a few a second.
    let probes = wire.calls(Call::LookUp);
    tokio::time::sleep(secs(60)).await;
    let probes = wire.calls(Call::LookUp) - probes;
    assert!((120..=400).contains(&probes), "{probes} probes in a minute");
    assert_eq!(wire.calls(Call::Read), 5);

    wire.heal();
    tokio::time::sleep(secs(1)).await;
    assert_eq!(
        guard.fetch("new", origin.load()).await.expect("a value").outcome(),
        Outcome::Loaded
    );
    // Nothing runs any more, and the probe has left nothing.
    let calls = wire.all_calls();
    tokio::time::sleep(secs(60)).await;
    assert_eq!((wire.all_calls(), far.lease_count()), (calls, 0));
}

#[tokio::test(start_paused = true)]
async fn refusals_do_not_open_the_breaker() {
    // A far tier whose memory is full still has hits.
    let (guard, wire) = wired(&memory());
    let origin = Origin::new();
    guard.fetch("k", origin.load()).await.expect("a value");
    wire.fault(Call::LookUp, Break::Refuse);
    for key in KEYS {
        assert_eq!(guard.fetch(key, origin.load()).await.expect("a value").outcome(), REFUSED);
    }
    let (fresh, _) = (builder().near_capacity(0).far(wire.clone()).build(), ());
    assert_eq!(
        fresh.fetch("k", origin.load()).await.expect("a value").outcome(),
        Outcome::Hit(Tier::Far)
    );
    assert_eq!(wire.calls(Call::Read), 10);
}

#[tokio::test(start_paused = true)]
async fn while_it_is_open_near_entries_live_shortly() {
    let (guard, wire) = wired_with(&memory(), plain().near_outage_ttl(ms(500)).near_ttl(secs(5)));
    wire.fault_all(&Break::Error);
    let origin = Origin::new();
    guard.fetch("k", origin.load()).await.expect("a value");
    tokio::time::advance(ms(499)).await;
    assert_eq!(
        guard.fetch("k", origin.load()).await.expect("a value").outcome(),
        Outcome::Hit(Tier::Near)
    );
    tokio::time::advance(ms(2)).await;
    assert_eq!(guard.fetch("k", origin.load()).await.expect("a value").outcome(), BYPASSED);
    assert_eq!(origin.loads(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_that_could_not_be_sent_holds_here_at_once_and_there_when_it_can() {
    for (fault, of_any) in [(Break::Error, true), (Break::Hang, false), (Break::Mute, false)] {
        let far = memory();
        let (guard, wire) = wired(&far);
        let other = guard_on(far.clone());
        let origin = Origin::new();
        guard.fetch("k", origin.load()).await.expect("a value");
        wire.fault_all(&fault);
        origin.write(2);
        let failed = match of_any {
            true => guard.invalidate("k").await,
            false => guard.invalidate_at("k", 2).await,
        };
        let Err(Error::Far(error)) = failed else { panic!("{failed:?}") };
        assert!(matches!(error.kind(), FaultKind::Unreachable | FaultKind::Timeout));

        // Here nothing old is served, whatever the far tier still has.
        assert_eq!(version_of(&guard.fetch("k", origin.load()).await), 2);
        wire.heal();
        assert_eq!(version_of(&guard.fetch("k", origin.load()).await), 2);
        tokio::time::sleep(secs(1)).await;
        assert_eq!(version_of(&other.fetch("k", origin.load()).await), 2);
        assert_eq!(version_of(&guard.fetch("k", origin.load()).await), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn one_invalidation_that_could_not_be_sent_keeps_its_process_from_reading_what_is_old() {
    let (guard, wire) = wired(&memory());
    let origin = Origin::new();
    for key in KEYS {
        guard.fetch(key, origin.load()).await.expect("a value");
    }
    wire.fault(Call::Invalidate, Break::Error);
    origin.write(2);
    assert!(guard.invalidate("k0").await.is_err());
    let reads = wire.calls(Call::Read);
    let fetched = guard.fetch("k0", origin.load()).await.expect("a value");
    assert_eq!((fetched.version(), fetched.outcome()), (2.into(), BYPASSED));
    assert_eq!(wire.calls(Call::Read), reads);
}

#[tokio::test(start_paused = true)]
async fn pending_invalidations_are_sent_before_anything_is_read_again() {
    let far = memory();
    let (guard, wire) = wired(&far);
    let origin = Origin::new();
    for key in KEYS {
        guard.fetch(key, origin.load()).await.expect("a value");
    }
    wire.fault_all(&Break::Error);
    for key in KEYS {
        for version in [3, 4, 2] {
            assert!(guard.invalidate_at(key, version).await.is_err());
        }
    }
    // The store is back, but takes no invalidations yet.
    wire.heal();
    wire.fault(Call::Invalidate, Break::Error);
    origin.write(4);
    tokio::time::sleep(secs(10)).await;
    let reads = wire.calls(Call::Read);
    for key in KEYS {
        assert_eq!(guard.fetch(key, origin.load()).await.expect("a value").outcome(), BYPASSED);
    }
    assert_eq!(wire.calls(Call::Read), reads);

    let sent = wire.calls(Call::Invalidate);
    wire.heal();
    tokio::time::sleep(secs(1)).await;
    // The newest version of each, once.
    assert_eq!(wire.calls(Call::Invalidate), sent + KEYS.len());
    for key in KEYS {
        assert!(far.read(key).await.expect("the far tier").is_none(), "the old entry");
        assert!(
            !matches!(far.look_up_or_lease(key, cattleguard::far::Token::random(), secs(1), Duration::ZERO).await,
            Ok(cattleguard::far::Attempt::Granted(grant)) if grant.minimum < Version::new(4))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_like_the_one_that_is_being_sent_is_sent_again() {
    let far = memory();
    let (guard, wire) = wired(&far);
    let other = guard_on(far.clone());
    let origin = Origin::new();
    wire.fault_all(&Break::Error);
    assert!(guard.invalidate("k").await.is_err());
    wire.heal();
    // Carried out, and its answer on the way.
    let gate = wire.hold_after(Call::Invalidate);
    while wire.calls(Call::Invalidate) < 2 {
        tokio::time::sleep(ms(10)).await;
    }
    other.fetch("k", origin.load()).await.expect("a value");
    assert!(guard.invalidate("k").await.is_err());
    gate.open();
    tokio::time::sleep(secs(1)).await;
    assert!(far.read("k").await.expect("the far tier").is_none());
}

#[tokio::test(start_paused = true)]
async fn recovery_comes_to_its_end_however_much_is_invalidated() {
    let (guard, wire) = wired(&memory());
    wire.fault_all(&Break::Error);
    assert!(guard.invalidate("k").await.is_err());
    wire.heal();
    wire.fault(Call::Invalidate, Break::Slow(ms(40)));
    let busy: Vec<_> = (0..10)
        .map(|task| {
            let guard = guard.clone();
            tokio::spawn(async move {
                for n in 0.. {
                    let _ = guard.invalidate(&format!("{task}-{n}")).await;
                    tokio::time::sleep(ms(5)).await;
                }
            })
        })
        .collect();
    tokio::time::sleep(secs(1)).await;
    let fetched = guard.fetch("k", Origin::new().load()).await.expect("a value");
    assert_eq!(fetched.outcome(), Outcome::Loaded);
    busy.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test(start_paused = true)]
async fn a_put_that_could_not_be_sent_takes_the_older_entry_with_it() {
    let far = memory();
    let (guard, wire) = wired(&far);
    let other = guard_on(far.clone());
    let origin = Origin::new();
    guard.fetch("k", origin.load()).await.expect("a value");
    wire.fault_all(&Break::Error);
    assert!(guard.put("k", row_at(2)).await.is_err());
    origin.write(2);
    assert_eq!(version_of(&guard.fetch("k", origin.load()).await), 2);
    wire.heal();
    tokio::time::sleep(secs(1)).await;
    assert_eq!(version_of(&other.fetch("k", origin.load()).await), 2);
}

#[tokio::test(start_paused = true)]
async fn a_refused_invalidation_is_an_error_and_not_kept() {
    let (guard, wire) = wired(&memory());
    wire.fault(Call::Invalidate, Break::Refuse);
    assert!(guard.invalidate("k").await.is_err());
    tokio::time::sleep(secs(10)).await;
    assert_eq!(wire.calls(Call::Invalidate), 1);
    assert_eq!(
        guard.fetch("k", Origin::new().load()).await.expect("a value").outcome(),
        Outcome::Loaded
    );
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_that_is_refused_for_now_is_repeated_and_its_key_is_not_read_meanwhile() {
    let far = memory();
    let (guard, wire) = wired(&far);
    let origin = Origin::new();
    for key in ["k", "other"] {
        guard.fetch(key, origin.load()).await.expect("a value");
    }
    wire.fault(Call::Invalidate, Break::Busy);
    origin.write(2);
    assert!(guard.invalidate("k").await.is_err());
    // Neither by single fetches nor by batches, and whatever is written meanwhile stays out of there.
    for _ in 0..3 {
        assert_eq!(version_of(&guard.fetch("k", origin.load()).await), 2);
        tokio::time::sleep(secs(1)).await;
        let rows = async |keys: Vec<&'static str>| {
            let row = |key| (key, row_at(2));
            Ok::<_, crate::origin::Broken>(keys.into_iter().map(row).collect())
        };
        let many = guard.fetch_many(&["k"], rows).await;
        assert_eq!(version_of(&many[0]), 2);
        tokio::time::sleep(secs(1)).await;
    }
    assert_eq!(far.read("k").await.expect("the far tier").expect("an entry").version(), 1.into());
    // The others are not held up.
    tokio::time::sleep(secs(5)).await;
    let other = guard.fetch("other", origin.load()).await.expect("a value");
    assert_eq!((other.version(), other.outcome()), (1.into(), Outcome::Hit(Tier::Far)));

    wire.heal();
    tokio::time::sleep(secs(1)).await;
    assert!(far.read("k").await.expect("the far tier").is_none(), "the old entry");
    let fetched = guard_on(far).fetch("k", origin.load()).await.expect("a value");
    assert_eq!((fetched.version(), fetched.outcome()), (2.into(), Outcome::Loaded));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_invalidation_is_carried_out() {
    let far = memory();
    let (guard, wire) = wired(&far);
    let origin = Origin::new();
    guard.fetch("k", origin.load()).await.expect("a value");
    let gate = wire.hold_before(Call::Invalidate);
    let gone =
        tokio::time::timeout(ms(10), std::future::IntoFuture::into_future(guard.invalidate("k")));
    assert!(gone.await.is_err());
    gate.open();
    idle().await;
    assert!(far.read("k").await.expect("the far tier").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_guard_that_is_dropped_during_an_outage_leaves_no_task() {
    let (guard, wire) = wired(&memory());
    wire.fault_all(&Break::Error);
    assert!(guard.invalidate("k").await.is_err());
    // With a lease that may be left there.
    wire.heal();
    tokio::time::sleep(secs(1)).await;
    wire.fault(Call::LookUp, Break::Mute);
    wire.fault(Call::Release, Break::Hang);
    guard.fetch(KEYS[0], Origin::new().load()).await.expect("a value");
    wire.fault_all(&Break::Hang);
    for key in &KEYS[1..] {
        guard.fetch(key, Origin::new().load()).await.expect("a value");
    }
    tokio::time::sleep(ms(200)).await;
    drop(guard);
    tokio::time::sleep(secs(1)).await;
    let calls = wire.all_calls();
    tokio::time::sleep(secs(60)).await;
    assert_eq!(wire.all_calls(), calls);
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_tier_without_replicas_says_so() {
    let guard = guard_on(memory());
    let done = guard.invalidate_at("k", 2).confirmed(1, ms(100)).await.expect("the far tier");
    assert_eq!(done, Invalidated::Unreplicated { replicas: 0 });
    let done = guard.invalidate_at("k", 2).confirmed(0, ms(100)).await.expect("the far tier");
    assert_eq!(done, Invalidated::Everywhere);
}

#[tokio::test(start_paused = true)]
async fn loads_in_the_air_when_it_dies_still_answer_everybody() {
    let far = memory();
    let (guard, wire) = wired(&far);
    let origin = Origin::taking(ms(200));
    let herd: Vec<_> = KEYS.iter().flat_map(|key| callers(&guard, 10, key, &origin)).collect();
    idle().await;
    wire.fault_all(&Break::Hang);
    let begun = Instant::now();
    for caller in herd {
        assert_eq!(version_of(&answer(caller).await), 1);
    }
    assert!(begun.elapsed() <= ms(200 + 100), "{:?}", begun.elapsed());
    assert_eq!(origin.loads(), KEYS.len());
}

#[tokio::test(start_paused = true)]
async fn a_lease_left_by_an_outage_holds_nobody_up_after_it() {
    let far = memory();
    let ((guard, wire), other) = (wired(&far), guard_on(far.clone()));
    let origin = Origin::new();
    // Read just before it froze; granted, but the answer is lost, and so is the release.
    wire.fault(Call::LookUp, Break::Mute);
    wire.fault(Call::Release, Break::Hang);
    guard.fetch("k0", origin.load()).await.expect("a value");
    wire.fault_all(&Break::Hang);
    for key in &KEYS[1..] {
        guard.fetch(key, origin.load()).await.expect("a value");
    }
    tokio::time::sleep(ms(200)).await;
    wire.heal();
    tokio::time::sleep(ms(400)).await;
    let back = Instant::now();
    for key in KEYS {
        other.fetch(key, origin.load()).await.expect("a value");
    }
    assert!(back.elapsed() <= ms(100), "{:?}, {} leases", back.elapsed(), far.lease_count());
}

#[test]
fn what_is_pending_is_sent_also_if_the_runtime_in_which_it_failed_has_ended() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build();
    let (guard, wire) = wired(&MemoryFar::with(1_000, Clock::system()));
    wire.fault(Call::Invalidate, Break::Busy);
    let first = runtime().expect("a runtime");
    first.block_on(async { guard.invalidate("k").await.expect_err("refused for now") });
    drop(first);
    wire.heal();
    let origin = Origin::new();
    let sent = async {
        while wire.calls(Call::Invalidate) < 2 {
            guard.fetch("k", origin.load()).await.expect("a value");
            tokio::time::sleep(ms(10)).await;
        }
    };
    let in_time = async { tokio::time::timeout(secs(30), sent).await };
    runtime().expect("a runtime").block_on(in_time).expect("sent");
}
