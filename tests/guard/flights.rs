//! P1 one load, and P5 everyone lands: whoever is dropped, and however the load ends.

use std::{
    collections::HashSet,
    future::Future,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Waker},
    time::Duration,
};

use cattleguard::{Clock, Error, Fetched, Guard, Loaded, Outcome, Policy, Tier, memory::MemoryFar};
use tokio::time::Instant;

use crate::{
    Answer, TestGuard, answer, answers, answers_by, bounded, builder, caller, callers, guard_on,
    idle, memory, ms,
    origin::{Broken, Origin, Reply},
    plain, secs, version_of,
    wire::{Break, Call},
    wired, wired_with,
};

#[tokio::test(start_paused = true)]
async fn a_cold_key_is_loaded_once_for_a_thousand_callers_of_four_guards() {
    let far = memory();
    let guards: Vec<_> = (0..4).map(|_| guard_on(far.clone())).collect();
    let origin = Origin::taking(ms(50));
    let begin = Instant::now();
    let herd = guards.iter().flat_map(|guard| callers(guard, 250, "k", &origin)).collect();

    let (answers, last) = answers_by(herd).await;
    assert_eq!(answers.len(), 1_000);
    assert!(answers.iter().all(|answer| version_of(answer) == 1));
    assert_eq!(origin.loads(), 1);
    assert!(last - begin <= ms(50 + 8), "{:?}", last - begin);
    let with = |outcome| answers.iter().flatten().filter(|a| a.outcome() == outcome).count();
    assert_eq!((with(Outcome::Loaded), with(Outcome::Awaited)), (1, 3));
    assert_eq!(with(Outcome::Followed), 996);
    assert!(guards.iter().all(|guard| guard.flights() == 0));
    assert_eq!(far.lease_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn everyone_of_a_guard_shares_one_entry() {
    let guard = guard_on(memory());
    let origin = Origin::taking(ms(50));
    let answers = answers(callers(&guard, 250, "k", &origin)).await;
    let entries: HashSet<_> =
        answers.iter().flatten().map(|fetched| Arc::as_ptr(fetched.entry())).collect();
    assert_eq!(entries.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn callers_who_come_during_the_load_share_it() {
    let guard = guard_on(memory());
    let origin = Origin::taking(ms(100));
    let mut herd = Vec::new();
    for _ in 0..50 {
        herd.push(caller(&guard, "k", &origin));
        tokio::time::sleep(ms(1)).await;
    }
    for answer in answers(herd).await {
        assert_eq!(version_of(&answer), 1);
    }
    assert_eq!(origin.loads(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_slow_key_does_not_hold_up_another() {
    let guard = guard_on(memory());
    let (stuck, gate) = Origin::gated();
    let slow = caller(&guard, "slow", &stuck);
    stuck.begun(1).await;

    let begin = Instant::now();
    let origin = Origin::taking(ms(10));
    let keys = ["a", "b", "c", "d", "e"];
    for one in keys.map(|key| caller(&guard, key, &origin)) {
        assert_eq!(version_of(&answer(one).await), 1);
    }
    assert_eq!(begin.elapsed(), ms(10), "all at once");
    assert_eq!((origin.loads(), origin.most_at_once(), guard.flights()), (5, 5, 1));
    gate.open();
    assert_eq!(version_of(&answer(slow).await), 1);
}

/// A caller whom the test polls, or not.
type Polled = Pin<Box<dyn Future<Output = Answer>>>;

fn polled(guard: &TestGuard, origin: &Origin) -> Polled {
    let (guard, load) = (guard.clone(), origin.load());
    Box::pin(async move { guard.fetch("k", load).await })
}

fn poll_once(caller: &mut Polled) {
    let poll = caller.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(poll.is_pending());
}

#[derive(Clone, Copy, Debug)]
enum Loader {
    Ok,
    Err,
    Panic,
    PanicInClosure,
    /// Outlives the lease, were it not renewed.
    Slow,
    Never,
}

#[derive(Clone, Copy, Debug)]
enum Moment {
    BeforeItsFirstPoll,
    AfterItsFirstPoll,
    WhileLoading,
    AfterTheLoadEnded,
}

#[derive(Clone, Copy, Debug)]
enum Dropped {
    Leader,
    Follower,
    All,
}

/// Loader × moment × who is dropped; one invariant: one load, everyone else lands, nothing is left.
#[tokio::test(start_paused = true)]
async fn a_dropped_caller_neither_cancels_nor_leaks_a_load() {
    use Dropped::*;
    use Moment::*;
    let loaders = [
        Loader::Ok,
        Loader::Err,
        Loader::Panic,
        Loader::PanicInClosure,
        Loader::Slow,
        Loader::Never,
    ];
    for loader in loaders {
        for moment in [BeforeItsFirstPoll, AfterItsFirstPoll, WhileLoading, AfterTheLoadEnded] {
            for dropped in [Leader, Follower, All] {
                println!("{loader:?}, {dropped:?} dropped {moment:?}");
                drop_callers(loader, moment, dropped).await;
            }
        }
    }
}

async fn drop_callers(loader: Loader, moment: Moment, dropped: Dropped) {
    let far = memory();
    let policy = plain().lease_ttl(ms(300)).load_timeout(secs(1));
    let guard = builder().policy(policy).far(far.clone()).build();
    let (origin, takes) = match loader {
        Loader::Slow => (Origin::taking(ms(900)), ms(900)),
        Loader::Never => (Origin::taking(ms(20)), secs(1)),
        _ => (Origin::taking(ms(20)), ms(20)),
    };
    origin.next(match loader {
        Loader::Ok | Loader::Slow => Reply::Row,
        Loader::Err => Reply::Fail,
        Loader::Panic => Reply::Panic,
        Loader::PanicInClosure => Reply::PanicInClosure,
        Loader::Never => Reply::Never,
    });

    let mut aboard: Vec<_> = (0..4).map(|_| Some(polled(&guard, &origin))).collect();
    let leaving = match dropped {
        Dropped::Leader => 0..1,
        Dropped::Follower => 1..2,
        Dropped::All => 0..4,
    };
    if matches!(moment, Moment::BeforeItsFirstPoll) {
        aboard[leaving.clone()].fill_with(|| None);
    }
    aboard.iter_mut().flatten().for_each(poll_once);
    if matches!(moment, Moment::AfterItsFirstPoll) {
        aboard[leaving.clone()].fill_with(|| None);
    }
    idle().await;
    if matches!(moment, Moment::WhileLoading) {
        aboard[leaving.clone()].fill_with(|| None);
    }
    tokio::time::sleep(takes + ms(10)).await;
    if matches!(moment, Moment::AfterTheLoadEnded) {
        aboard[leaving].fill_with(|| None);
    }

    for caller in aboard.into_iter().flatten() {
        let ended = Instant::now();
        let answer = bounded(caller).await;
        match (loader, &answer) {
            (Loader::Ok | Loader::Slow, Ok(fetched)) => assert_eq!(fetched.version(), 1.into()),
            (Loader::Err, Err(Error::Origin(error))) => assert!(error.is::<Broken>()),
            (Loader::Panic | Loader::PanicInClosure, Err(Error::LoadPanicked)) => {}
            (Loader::Never, Err(Error::LoadTimeout { after })) => assert_eq!(*after, secs(1)),
            _ => panic!("{answer:?}"),
        }
        assert_eq!(ended.elapsed(), Duration::ZERO, "the answer has been there");
    }
    let nobody_came = matches!((moment, dropped), (Moment::BeforeItsFirstPoll, Dropped::All));
    assert_eq!(origin.loads(), usize::from(!nobody_came));
    assert_eq!((origin.running(), guard.flights(), far.lease_count()), (0, 0, 0));

    // A load is kept whoever waited for it; a failed one is not.
    let kept = matches!(loader, Loader::Ok | Loader::Slow) && !nobody_came;
    assert_eq!(guard.peek("k").is_some(), kept);
    let other = guard_on(far);
    if kept {
        let hit = other.fetch("k", origin.load()).await.expect("a value");
        assert_eq!(hit.outcome(), Outcome::Hit(Tier::Far));
    }
}

#[tokio::test(start_paused = true)]
async fn a_waiter_whose_callers_all_left_leaves_nothing_behind() {
    let far = memory();
    let (a, b) = (guard_on(far.clone()), guard_on(far.clone()));
    let (origin, gate) = Origin::gated();
    let holder = caller(&a, "k", &origin);
    origin.begun(1).await;
    let leaving = callers(&b, 10, "k", &origin);
    idle().await;
    for caller in &leaving {
        caller.abort();
    }
    gate.open();
    assert_eq!(version_of(&answer(holder).await), 1);
    idle().await;
    assert_eq!((b.flights(), far.lease_count(), origin.loads()), (0, 0, 1));
    assert!(b.peek("k").is_some(), "what was waited for is kept");
}

#[tokio::test(start_paused = true)]
async fn an_aborted_leader_hangs_no_one_and_its_load_goes_on() {
    let guard = guard_on(memory());
    let (origin, gate) = Origin::gated();
    let leader = caller(&guard, "k", &origin);
    origin.begun(1).await;
    let followers = callers(&guard, 10, "k", &origin);
    idle().await;
    leader.abort();
    assert!(leader.await.expect_err("aborted").is_cancelled());
    idle().await;
    assert_eq!((origin.running(), guard.flights()), (1, 1));
    gate.open();
    for answer in answers(followers).await {
        assert_eq!(version_of(&answer), 1);
    }
    assert_eq!(origin.loads(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_unpolled_leader_hangs_no_one() {
    let far = memory();
    let (guard, other) = (guard_on(far.clone()), guard_on(far));
    let origin = Origin::taking(ms(50));
    let mut leader = polled(&guard, &origin);
    poll_once(&mut leader);

    let begin = Instant::now();
    let mut herd = callers(&guard, 10, "k", &origin);
    herd.extend(callers(&other, 10, "k", &origin));
    let (answers, last) = answers_by(herd).await;
    assert!(answers.iter().all(|answer| version_of(answer) == 1));
    assert!(last - begin <= ms(60), "{:?}", last - begin);
    assert_eq!((origin.loads(), guard.flights()), (1, 0));
    drop(leader);
}

#[tokio::test(start_paused = true)]
async fn a_caller_stuck_in_its_far_read_holds_up_nobody() {
    for unpolled in [false, true] {
        let (guard, wire) = wired(&memory());
        let origin = Origin::taking(ms(50));
        let reading = wire.hold_after(Call::Read);
        let mut first = polled(&guard, &origin);
        poll_once(&mut first);
        idle().await;

        let begin = Instant::now();
        let (answers, last) = answers_by(callers(&guard, 50, "k", &origin)).await;
        assert!(answers.iter().all(|answer| version_of(answer) == 1));
        assert_eq!((last - begin, origin.loads(), guard.flights()), (ms(50), 1, 0));
        if !unpolled {
            wire.heal();
            reading.open();
            assert_eq!(version_of(&bounded(first).await), 1);
        }
        assert_eq!((origin.loads(), guard.flights()), (1, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_dropped_in_its_far_read_leaves_nothing() {
    let (guard, wire) = wired(&memory());
    let origin = Origin::new();
    let _reading = wire.hold_after(Call::Read);
    let mut first = polled(&guard, &origin);
    poll_once(&mut first);
    drop(first);
    assert_eq!((guard.flights(), origin.loads()), (0, 0));
    wire.heal();
    assert_eq!(version_of(&guard.fetch("k", origin.load()).await), 1);
    assert_eq!(guard.flights(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_load_outlives_its_callers_and_the_guard() {
    let far = memory();
    let guard = guard_on(far.clone());
    let (origin, gate) = Origin::gated();
    let leader = caller(&guard, "k", &origin);
    origin.begun(1).await;
    leader.abort();
    drop(guard);
    idle().await;
    gate.open();
    idle().await;
    let hit = guard_on(far).fetch("k", origin.load()).await.expect("a value");
    assert_eq!((hit.outcome(), origin.loads()), (Outcome::Hit(Tier::Far), 1));
}

#[tokio::test(start_paused = true)]
async fn one_error_is_shared_by_a_thousand_callers() {
    let far = memory();
    let guard = guard_on(far.clone());
    let origin = Origin::taking(ms(50));
    origin.next(Reply::Fail);
    let begin = Instant::now();
    let (answers, last) = answers_by(callers(&guard, 1_000, "k", &origin)).await;

    let errors: Vec<_> = answers
        .into_iter()
        .map(|answer| match answer {
            Err(Error::Origin(error)) => error,
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(errors.iter().all(|error| Arc::ptr_eq(error, &errors[0])));
    assert_eq!(errors[0].downcast_ref::<Broken>(), Some(&Broken));
    assert_eq!((origin.loads(), last - begin), (1, ms(50)));
    assert_eq!((guard.flights(), far.lease_count()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_failed_load_is_not_remembered() {
    let guard = guard_on(memory());
    let origin = Origin::new();
    for reply in [Reply::Fail, Reply::Panic, Reply::PanicInClosure] {
        origin.next(reply);
        assert!(guard.fetch("k", origin.load()).await.is_err());
    }
    assert_eq!(version_of(&guard.fetch("k", origin.load()).await), 1);
    assert_eq!(origin.loads(), 4);
}

#[tokio::test(start_paused = true)]
async fn who_boards_a_load_that_fails_shares_its_error() {
    let guard = guard_on(memory());
    let (origin, gate) = Origin::gated();
    origin.next(Reply::Fail);
    let mut aboard = vec![caller(&guard, "k", &origin)];
    origin.begun(1).await;
    aboard.extend(callers(&guard, 10, "k", &origin));
    idle().await;
    gate.open();
    for answer in answers(aboard).await {
        assert!(matches!(answer, Err(Error::Origin(_))), "{answer:?}");
    }
    assert_eq!(origin.loads(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_failing_origin_sees_at_most_one_load_per_guard_at_a_time() {
    let far = memory();
    let guards: Vec<_> = (0..4).map(|_| guard_on(far.clone())).collect();
    let origin = Origin::taking(ms(50));
    for _ in 0..1_000 {
        origin.next(Reply::Fail);
    }
    let herd = guards.iter().flat_map(|guard| callers(guard, 250, "k", &origin)).collect();
    for answer in answers(herd).await {
        assert!(matches!(answer, Err(Error::Origin(_))), "{answer:?}");
    }
    assert!(origin.loads() <= 4, "{} loads", origin.loads());
    assert_eq!((origin.most_at_once(), far.lease_count()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_load_without_end_is_aborted_at_the_load_timeout() {
    let far = memory();
    let policy = plain().load_timeout(secs(3));
    let guard = builder().policy(policy).far(far.clone()).build();
    let origin = Origin::new();
    origin.next(Reply::Never);
    let begin = Instant::now();
    let (answers, last) = answers_by(callers(&guard, 100, "k", &origin)).await;
    for answer in answers {
        assert!(matches!(answer, Err(Error::LoadTimeout { after }) if after == secs(3)));
    }
    assert_eq!(last - begin, secs(3));
    idle().await;
    assert_eq!((origin.running(), guard.flights(), far.lease_count()), (0, 0, 0));
    assert_eq!(version_of(&guard.fetch("k", origin.load()).await), 1);
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_never_ends_costs_others_their_wait_timeout() {
    let far = memory();
    let patient = plain().load_timeout(secs(3_600));
    let holder = builder().policy(patient).far(far.clone()).build();
    let (waiter, wire) = wired_with(&far, plain().wait_timeout(secs(7)));
    let origin = Origin::new();
    origin.next(Reply::Never);
    let stuck = caller(&holder, "k", &origin);
    origin.begun(1).await;

    let begin = Instant::now();
    let (answers, last) = answers_by(callers(&waiter, 100, "k", &origin)).await;
    for answer in answers {
        assert!(matches!(answer, Err(Error::WaitTimeout { after }) if after == secs(7)));
    }
    assert!(last - begin >= secs(7) && last - begin <= secs(7) + ms(20), "{:?}", last - begin);
    assert_eq!((origin.loads(), waiter.flights()), (1, 0));
    assert!(wire.calls(Call::LookUp) <= 20, "{} look-ups", wire.calls(Call::LookUp));
    stuck.abort();
}

#[tokio::test(start_paused = true)]
async fn a_far_tier_that_panics_hangs_no_one() {
    for call in Call::ALL {
        let (guard, wire) = wired(&memory());
        wire.fault(call, Break::Panic);
        let origin = Origin::taking(ms(900));
        origin.next(if call == Call::Release { Reply::Fail } else { Reply::Row });
        let begin = Instant::now();
        for caller in callers(&guard, 10, "k", &origin) {
            // A value, an error or the panic itself, but an end.
            let _ended = bounded(caller).await;
        }
        assert!(begin.elapsed() <= secs(2), "{call:?}: {:?}", begin.elapsed());
        assert_eq!(guard.flights(), 0, "{call:?}");
        idle().await;
        assert_eq!(origin.running(), 0, "{call:?}: the load goes with its flight");
    }
}

/// Not paused: two runtimes, of which one ends.
#[test]
fn a_runtime_that_shuts_down_abandons_its_flights_and_hangs_no_one() {
    let runtime =
        || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let guard = builder().build();
    let (origin, _gate) = Origin::gated();
    let (mut leader, mut follower) = (polled(&guard, &origin), polled(&guard, &origin));
    let ending = runtime();
    ending.block_on(async {
        poll_once(&mut leader);
        poll_once(&mut follower);
        origin.begun(1).await;
    });
    drop(ending);

    runtime().block_on(async {
        for caller in [leader, follower] {
            let answer = tokio::time::timeout(secs(10), caller).await.expect("nobody hangs");
            assert!(matches!(answer, Err(Error::Abandoned)), "{answer:?}");
        }
        assert_eq!((guard.flights(), origin.running()), (0, 0));
    });
}

#[tokio::test(start_paused = true)]
async fn a_dead_holder_delays_others_by_its_lease_and_no_more() {
    use cattleguard::far::{Attempt, Far, Token};
    let far = memory();
    let lease_ttl = secs(2);
    let died = far
        .look_up_or_lease("k", Token::random(), lease_ttl, Duration::ZERO)
        .await
        .expect("an attempt");
    assert!(matches!(died, Attempt::Granted(_)));

    let guards: Vec<_> = (0..4).map(|_| guard_on(far.clone())).collect();
    let origin = Origin::taking(ms(50));
    let begin = Instant::now();
    let herd = guards.iter().flat_map(|guard| callers(guard, 250, "k", &origin)).collect();
    let (answers, last) = answers_by(herd).await;
    assert!(answers.iter().all(|answer| version_of(answer) == 1));
    assert!(last - begin <= lease_ttl + ms(200), "{:?}", last - begin);
    assert_eq!((origin.loads(), far.lease_count()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_load_longer_than_its_lease_keeps_it() {
    let far = memory();
    let policy = plain().lease_ttl(ms(300));
    let (a, wire) = wired_with(&far, policy.clone());
    let (b, _) = wired_with(&far, policy);
    let origin = Origin::taking(secs(5));
    let leader = caller(&a, "k", &origin);
    origin.begun(1).await;
    let waiter = caller(&b, "k", &origin);
    assert_eq!(version_of(&answer(leader).await), 1);
    assert_eq!(version_of(&answer(waiter).await), 1);
    assert_eq!(origin.loads(), 1);
    let renewals = wire.calls(Call::Renew);
    assert!((40..=60).contains(&renewals), "{renewals} renewals, at a third of 300 ms for 5 s");
    assert!(a.peek("k").is_some(), "committed");
}

#[tokio::test(start_paused = true)]
async fn a_failed_renewal_is_tried_again() {
    let far = memory();
    let policy = plain().lease_ttl(ms(300));
    let (a, wire) = wired_with(&far, policy.clone());
    let (b, _) = wired_with(&far, policy);
    let origin = Origin::taking(secs(2));
    let leader = caller(&a, "k", &origin);
    origin.begun(1).await;
    let waiter = caller(&b, "k", &origin);
    // Renewals come every 100 ms; every second one fails.
    wire.fault(Call::Renew, Break::Error);
    let failing = tokio::spawn(async move {
        tokio::time::sleep(ms(150)).await;
        loop {
            wire.heal();
            tokio::time::sleep(ms(100)).await;
            wire.fault(Call::Renew, Break::Error);
            tokio::time::sleep(ms(100)).await;
        }
    });
    assert_eq!(version_of(&answer(leader).await), 1);
    assert_eq!(version_of(&answer(waiter).await), 1);
    assert_eq!(origin.loads(), 1);
    failing.abort();
}

#[tokio::test(start_paused = true)]
async fn a_frozen_holder_commits_nothing_after_its_lease_ended() {
    let far = memory();
    let (a, wire) = wired(&far);
    let b = guard_on(far.clone());
    // No renewal gets through: to the others A looks frozen.
    wire.fault(Call::Renew, Break::Error);
    let (slow, gate) = Origin::gated();
    let frozen = caller(&a, "k", &slow);
    slow.begun(1).await;
    tokio::time::sleep(secs(3)).await;

    let origin = Origin::new();
    origin.write(2);
    assert_eq!(version_of(&b.fetch("k", origin.load()).await), 2);
    gate.open();
    assert_eq!(version_of(&answer(frozen).await), 2, "the newer one is taken instead");
    assert_eq!(version_of(&a.fetch("k", origin.load()).await), 2);
    assert_eq!((slow.loads(), origin.loads(), far.lease_count()), (1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn the_default_policy_lets_a_herd_land() {
    let far = memory();
    let guard: TestGuard = builder().policy(Policy::default()).far(far).build();
    let origin = Origin::taking(ms(50));
    let answers: Vec<Fetched<String>> =
        answers(callers(&guard, 100, "k", &origin)).await.into_iter().flatten().collect();
    assert_eq!((answers.len(), origin.loads()), (100, 1));
}

#[tokio::test(start_paused = true)]
async fn a_value_may_use_the_guard_when_it_is_dropped() {
    struct Loud(Arc<OnceLock<Guard<str, Loud>>>, Arc<AtomicUsize>);
    impl Drop for Loud {
        fn drop(&mut self) {
            if let Some(guard) = self.0.get() {
                // Takes every lock that there is around the name of a key.
                guard.flights();
                self.1.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
    // A far tier that forgets at once: the near tier has the last of each.
    let far = MemoryFar::with(0, Clock::tokio());
    let guard = Guard::builder().near_capacity(500).far(far).build();
    let (shared, dropped) = (Arc::new(OnceLock::new()), Arc::new(AtomicUsize::new(0)));
    let _ = shared.set(guard.clone());
    for key in 0..2_000 {
        let (shared, dropped) = (shared.clone(), dropped.clone());
        let load = move || {
            let loud = Loud(shared.clone(), dropped.clone());
            async move { Ok::<_, std::io::Error>(Loaded::found(loud, 1)) }
        };
        guard.fetch(&format!("k{key}"), load).await.expect("a value");
    }
    assert!(dropped.load(Ordering::SeqCst) > 0);
}
