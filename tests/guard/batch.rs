//! Many keys in one fetch.

use std::{
    borrow::Borrow,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use cattleguard::{Clock, Error, Fetched, Loaded, Outcome, Tier, memory::MemoryFar};
use futures::{FutureExt, future::BoxFuture};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    TestGuard, answers, bounded, builder, callers, guard_on, idle, memory, ms,
    origin::{Broken, Gate, Origin, row_at},
    plain, secs, version_of,
    wire::{Break, Call},
    wired, wired_with,
};

/// An origin that is asked for many rows.
#[derive(Clone)]
struct Table(Arc<State>);

struct State {
    asked: Mutex<Vec<Vec<String>>>,
    gate: Gate,
    takes: Duration,
    fails: AtomicUsize,
}

type Rows = Vec<(String, Loaded<String>)>;

impl Table {
    fn taking(takes: Duration) -> Self {
        Self::with(takes, Gate::closed(), true)
    }

    fn gated() -> (Self, Gate) {
        let gate = Gate::closed();
        (Self::with(Duration::ZERO, gate.clone(), false), gate)
    }

    fn with(takes: Duration, gate: Gate, open: bool) -> Self {
        if open {
            gate.open();
        }
        let (asked, fails) = (Mutex::default(), AtomicUsize::new(0));
        Self(Arc::new(State { asked, gate, takes, fails }))
    }

    /// What each call asked for.
    fn asked(&self) -> Vec<Vec<String>> {
        self.0.asked.lock().clone()
    }

    /// Has a row for every key that does not begin with "no".
    fn load(
        &self,
    ) -> impl Fn(Vec<String>) -> BoxFuture<'static, Result<Rows, Broken>> + Send + Sync + use<>
    {
        let table = self.clone();
        move |keys| {
            table.0.asked.lock().push(keys.clone());
            let table = table.clone();
            async move {
                tokio::time::sleep(table.0.takes).await;
                table.0.gate.pass().await;
                if table.0.fails.load(Ordering::SeqCst) > 0 {
                    table.0.fails.fetch_sub(1, Ordering::SeqCst);
                    return Err(Broken);
                }
                // Not in the order in which they were asked for.
                let there = keys.into_iter().rev().filter(|key| !key.starts_with("no"));
                Ok(there.map(|key| (key.clone(), Loaded::found(key, 1))).collect())
            }
            .boxed()
        }
    }
}

fn keys(names: std::ops::Range<usize>) -> Vec<String> {
    names.map(|n| format!("k{n}")).collect()
}

fn are(fetched: &[Result<Fetched<String>, Error>], keys: &[String]) {
    assert_eq!(fetched.len(), keys.len());
    for (fetched, key) in fetched.iter().zip(keys) {
        assert_eq!(fetched.as_ref().expect("an answer").value(), Some(key));
    }
}

async fn fetch(
    guard: &TestGuard,
    keys: &[String],
    table: &Table,
) -> Vec<Result<Fetched<String>, Error>> {
    bounded(guard.fetch_many(keys, table.load())).await
}

#[tokio::test(start_paused = true)]
async fn a_hundred_cold_keys_are_one_read_and_one_load() {
    let (guard, wire) = wired(&memory());
    let (table, keys) = (Table::taking(ms(50)), keys(0..100));
    let begun = Instant::now();
    are(&fetch(&guard, &keys, &table).await, &keys);
    assert_eq!(begun.elapsed(), ms(50));
    assert_eq!(table.asked().len(), 1);
    assert_eq!((wire.calls(Call::ReadMany), wire.calls(Call::Read)), (1, 0));
    assert_eq!((wire.calls(Call::LookUp), wire.calls(Call::Commit)), (100, 100));

    for fetched in fetch(&guard, &keys, &table).await {
        assert_eq!(fetched.expect("a hit").outcome(), Outcome::Hit(Tier::Near));
    }
    assert_eq!((table.asked().len(), guard.flights()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn only_what_is_missing_is_asked_for() {
    let far = memory();
    let (guard, other) = (guard_on(far.clone()), guard_on(far.clone()));
    let (table, all) = (Table::taking(ms(50)), keys(0..10));
    are(&fetch(&guard, &all[..3], &table).await, &all[..3]);
    are(&fetch(&other, &all[3..6], &table).await, &all[3..6]);
    let fetched = fetch(&guard, &all, &table).await;
    are(&fetched, &all);
    let outcomes: Vec<_> =
        fetched.iter().map(|fetched| fetched.as_ref().expect("it").outcome()).collect();
    assert_eq!(outcomes[0], Outcome::Hit(Tier::Near));
    assert_eq!(outcomes[3], Outcome::Hit(Tier::Far));
    assert_eq!(outcomes[6], Outcome::Loaded);
    let mut asked = table.asked().pop().expect("a load");
    asked.sort();
    assert_eq!(asked, all[6..]);
}

#[tokio::test(start_paused = true)]
async fn rows_that_are_not_there_are_absent() {
    let guard = guard_on(memory());
    let table = Table::taking(Duration::ZERO);
    let keys = ["a", "none", "b", "nobody"].map(str::to_owned);
    let fetched = fetch(&guard, &keys, &table).await;
    let found: Vec<_> =
        fetched.iter().map(|f| f.as_ref().expect("an answer").value().is_some()).collect();
    assert_eq!(found, [true, false, true, false]);
    fetch(&guard, &keys, &table).await;
    assert_eq!(table.asked().len(), 1, "an absence is kept, too");
}

#[tokio::test(start_paused = true)]
async fn a_key_asked_for_twice_is_loaded_once() {
    let guard = guard_on(memory());
    let table = Table::taking(ms(10));
    let keys = ["a", "b", "a"].map(str::to_owned);
    are(&fetch(&guard, &keys, &table).await, &keys);
    assert_eq!(table.asked()[0].len(), 2);
    assert!(guard.fetch_many(&[] as &[String], table.load()).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn batches_and_single_fetches_that_overlap_end_and_load_each_key_once() {
    let far = memory();
    let guards: Vec<_> = (0..4).map(|_| guard_on(far.clone())).collect();
    let (table, origin) = (Table::taking(ms(50)), Origin::taking(ms(50)));
    let all = keys(0..8);
    let mut batches = Vec::new();
    for (n, guard) in guards.iter().enumerate() {
        // Each in another order, so that each holds what others wait for.
        let mut mine = all.clone();
        mine.rotate_left(n * 2);
        let (guard, load) = (guard.clone(), table.load());
        batches.push(tokio::spawn(async move {
            let fetched = guard.fetch_many(&mine, load).await;
            (fetched, mine)
        }));
    }
    let singles = guards.iter().flat_map(|guard| callers(guard, 5, "k3", &origin)).collect();
    let begun = Instant::now();
    for batch in batches {
        let (fetched, mine) = bounded(batch).await.expect("a task");
        for (fetched, key) in fetched.iter().zip(&mine) {
            let fetched = fetched.as_ref().expect("an answer");
            assert!(key == "k3" || fetched.value() == Some(key));
        }
    }
    for answer in answers(singles).await {
        answer.expect("an answer");
    }
    assert!(begun.elapsed() <= ms(60), "{:?}", begun.elapsed());
    let asked: usize = table.asked().iter().map(Vec::len).sum();
    assert_eq!(asked + origin.loads(), 8);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_another_process_loads_does_not_hold_up_the_others() {
    let far = memory();
    let (guard, other) = (guard_on(far.clone()), guard_on(far.clone()));
    let (origin, gate) = Origin::gated();
    let slow = callers(&other, 1, "k0", &origin);
    origin.begun(1).await;
    let (table, keys) = (Table::taking(ms(50)), keys(0..3));
    let batch = tokio::spawn({
        let (guard, keys, load) = (guard.clone(), keys.clone(), table.load());
        async move { guard.fetch_many(&keys, load).await }
    });
    tokio::time::sleep(ms(60)).await;
    // The other two are loaded, and there for everybody.
    assert_eq!(table.asked()[0].len(), 2);
    assert!(guard.peek("k1").is_some() && guard.peek("k2").is_some());
    gate.open();
    let fetched = bounded(batch).await.expect("a task");
    assert_eq!(fetched[0].as_ref().expect("an answer").outcome(), Outcome::Awaited);
    answers(slow).await;
    assert_eq!(table.asked().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_key_whose_holder_fails_is_loaded_by_itself() {
    let far = memory();
    let (guard, other) = (guard_on(far.clone()), guard_on(far.clone()));
    let (origin, gate) = Origin::gated();
    origin.next(crate::origin::Reply::Fail);
    let failing = callers(&other, 1, "k0", &origin);
    origin.begun(1).await;
    let (table, keys) = (Table::taking(ms(50)), keys(0..3));
    let batch = tokio::spawn({
        let (guard, keys, load) = (guard.clone(), keys.clone(), table.load());
        async move { guard.fetch_many(&keys, load).await }
    });
    idle().await;
    gate.open();
    are(&bounded(batch).await.expect("a task"), &keys);
    assert!(answers(failing).await[0].is_err());
    assert_eq!(table.asked()[1], ["k0"]);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_turns_up_meanwhile_does_not_hold_up_the_others() {
    let far = memory();
    let ((guard, wire), other) = (wired(&far), guard_on(far.clone()));
    let read = wire.hold_after(Call::ReadMany);
    let (table, keys) = (Table::taking(ms(50)), keys(0..3));
    let batch = tokio::spawn({
        let (guard, keys, load) = (guard.clone(), keys.clone(), table.load());
        async move { guard.fetch_many(&keys, load).await }
    });
    idle().await;
    other.fetch("k0", Origin::new().load()).await.expect("a value");
    let follower = callers(&guard, 1, "k1", &Origin::new());
    idle().await;
    read.open();
    let fetched = bounded(batch).await.expect("a task");
    assert_eq!(fetched[0].as_ref().expect("an answer").outcome(), Outcome::Hit(Tier::Far));
    are(&fetched[1..], &keys[1..]);
    assert_eq!(table.asked(), [&keys[1..]]);
    let follower = answers(follower).await.remove(0).expect("an answer");
    assert_eq!(follower.outcome(), Outcome::Followed);
}

#[tokio::test(start_paused = true)]
async fn a_batch_follows_the_flights_of_others() {
    let guard = guard_on(memory());
    let origin = Origin::taking(ms(50));
    let single = callers(&guard, 1, "k0", &origin);
    idle().await;
    let (table, keys) = (Table::taking(ms(10)), keys(0..2));
    let fetched = fetch(&guard, &keys, &table).await;
    assert_eq!(fetched[0].as_ref().expect("an answer").outcome(), Outcome::Followed);
    answers(single).await;
    assert_eq!((table.asked(), origin.loads()), (vec![vec!["k1".to_owned()]], 1));
}

#[tokio::test(start_paused = true)]
async fn a_failed_batch_fails_each_of_its_keys_and_pauses_them() {
    let (guard, wire) = wired_with(&memory(), plain().failure_backoff(secs(1)));
    let (table, keys) = (Table::taking(ms(10)), keys(0..5));
    table.0.fails.store(1, Ordering::SeqCst);
    for fetched in fetch(&guard, &keys, &table).await {
        assert!(matches!(fetched, Err(Error::Origin(error)) if error.is::<Broken>()));
    }
    assert_eq!(wire.calls(Call::Fail), 5);
    for fetched in fetch(&guard, &keys, &table).await {
        assert!(fetched.is_err());
    }
    assert_eq!(table.asked().len(), 1);
    tokio::time::advance(secs(1)).await;
    are(&fetch(&guard, &keys, &table).await, &keys);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_panics_hangs_nobody() {
    let guard = guard_on(memory());
    let keys = keys(0..3);
    let in_closure = guard.fetch_many(&keys, |_| -> BoxFuture<'static, Result<Rows, Broken>> {
        panic!("in the closure")
    });
    for fetched in bounded(in_closure).await {
        assert!(matches!(fetched, Err(Error::LoadPanicked)));
    }
    let in_future = guard.fetch_many(&keys, |_| async {
        if true {
            panic!("in the future")
        }
        Ok::<Rows, Broken>(vec![])
    });
    for fetched in bounded(in_future).await {
        assert!(matches!(fetched, Err(Error::LoadPanicked)));
    }
    assert_eq!(guard.flights(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_batch_takes_one_place_in_the_bulkhead() {
    let policy = plain().max_concurrent_loads(1).max_queued_loads(1);
    let guard = builder().policy(policy).far(memory()).build();
    let (table, keys) = (Table::taking(ms(50)), keys(0..100));
    are(&fetch(&guard, &keys, &table).await, &keys);

    // Two at one time: one after the other; a third has no room.
    let batch = |range| {
        let (guard, load) = (guard.clone(), table.load());
        let keys: Vec<String> = self::keys(range);
        tokio::spawn(async move { guard.fetch_many(&keys, load).await })
    };
    let begun = Instant::now();
    let batches = [batch(200..210), batch(210..220), batch(220..230)];
    let mut overloaded = 0;
    for batch in batches {
        let fetched = bounded(batch).await.expect("a task");
        overloaded += fetched.iter().filter(|f| matches!(f, Err(Error::Overloaded { .. }))).count();
    }
    assert_eq!((overloaded, begun.elapsed()), (10, ms(100)));
}

#[tokio::test(start_paused = true)]
async fn a_batch_without_room_is_told_so_and_pauses_nothing() {
    let policy = plain().max_concurrent_loads(1).load_timeout(secs(1)).failure_backoff(secs(60));
    for (queue, told_after) in [(0, Duration::ZERO), (1, ms(990))] {
        let policy = policy.clone().max_queued_loads(queue);
        let guard = builder().policy(policy).far(memory()).build();
        let origin = Origin::taking(secs(60));
        let busy = callers(&guard, 1, "busy", &origin);
        origin.begun(1).await;
        let begun = Instant::now();
        let (table, keys) = (Table::taking(ms(50)), keys(0..10));
        for fetched in fetch(&guard, &keys, &table).await {
            assert!(matches!(fetched, Err(Error::Overloaded { .. })), "{fetched:?}");
        }
        assert_eq!((begun.elapsed(), table.asked().len()), (told_after, 0));
        assert!(answers(busy).await[0].is_err());
        are(&fetch(&guard, &keys, &table).await, &keys);
    }
}

#[tokio::test(start_paused = true)]
async fn without_room_the_most_patient_of_a_batch_does_not_decide_for_the_others() {
    let policy = plain().max_concurrent_loads(1).load_timeout(secs(1)).failure_backoff(secs(60));
    let (guard, wire) = wired_with(&memory(), policy);
    let origin = Origin::taking(secs(60));
    let busy = callers(&guard, 1, "busy", &origin);
    origin.begun(1).await;
    let (table, keys) = (Table::taking(ms(50)), keys(0..2));
    let gate = wire.hold_before(Call::LookUp);
    let batch = {
        let (guard, load, keys) = (guard.clone(), table.load(), keys.clone());
        tokio::spawn(async move { guard.fetch_many(&keys, load).await })
    };
    // One has its lease, and its load timeout, 40 ms before the other.
    idle().await;
    gate.let_one_pass();
    tokio::time::sleep(ms(40)).await;
    gate.open();
    for fetched in bounded(batch).await.expect("a task") {
        assert!(matches!(fetched, Err(Error::Overloaded { .. })), "{fetched:?}");
    }
    wire.heal();
    answers(busy).await;
    are(&fetch(&guard, &keys, &table).await, &keys);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_panics_costs_the_others_nothing() {
    #[derive(Clone)]
    struct Touchy(&'static str);
    impl Borrow<str> for Touchy {
        fn borrow(&self) -> &str {
            assert_ne!(self.0, "bad");
            self.0
        }
    }
    let guard = guard_on(memory());
    let begun = guard.clone();
    let panicked = tokio::spawn(async move {
        let rows = async |_| Ok::<Vec<(Touchy, Loaded<String>)>, Broken>(vec![]);
        begun.fetch_many(&[Touchy("good"), Touchy("bad")], rows).await
    });
    assert!(bounded(panicked).await.is_err());
    assert_eq!(guard.flights(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_batch_whose_keys_are_all_near_reads_nothing() {
    let policy = plain().ttl(secs(10)).grace(secs(60)).near_ttl(secs(90));
    let (guard, wire) = wired_with(&memory(), policy);
    let (table, keys) = (Table::taking(ms(50)), keys(0..10));
    are(&fetch(&guard, &keys, &table).await, &keys);
    for after in [Duration::ZERO, secs(20)] {
        tokio::time::advance(after).await;
        are(&fetch(&guard, &keys, &table).await, &keys);
        assert_eq!(wire.calls(Call::ReadMany), 1);
    }
    tokio::time::sleep(secs(1)).await;
    assert_eq!((table.asked().len(), wire.calls(Call::ReadMany)), (2, 1), "refreshed together");
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_has_nothing_to_refresh_keeps_nobody_else_from_it() {
    let policy = plain().ttl(secs(10)).grace(secs(60)).near_ttl(secs(90)).max_refreshes(2);
    let guard = builder().policy(policy).far(memory()).build();
    let (table, gate) = Table::gated();
    let stale = keys(0..2);
    let filled = Table::taking(Duration::ZERO);
    are(&fetch(&guard, &stale, &filled).await, &stale);
    tokio::time::advance(secs(20)).await;
    // Both refresh k0 and wait for a missing key; the second finds the refresh under way.
    let batch = |missing: &str| {
        let (guard, load) = (guard.clone(), table.load());
        let keys = ["k0".to_owned(), missing.to_owned()];
        tokio::spawn(async move { guard.fetch_many(&keys, load).await })
    };
    let batches = [batch("m"), batch("m")];
    idle().await;
    // So there is a permit left.
    let origin = Origin::new();
    guard.fetch("k1", origin.load()).await.expect("something stale");
    idle().await;
    assert_eq!(origin.loads(), 1);
    gate.open();
    for batch in batches {
        assert!(bounded(batch).await.expect("a task").iter().all(Result::is_ok));
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_gets_what_is_stale_without_a_near_tier() {
    let policy = plain().ttl(secs(10)).grace(secs(60)).near_ttl(Duration::ZERO);
    let policy = policy.near_outage_ttl(Duration::ZERO);
    let guard = builder().policy(policy).far(memory()).build();
    let (table, keys) = (Table::taking(ms(50)), keys(0..10));
    are(&fetch(&guard, &keys, &table).await, &keys);
    tokio::time::advance(secs(20)).await;
    let begun = Instant::now();
    for fetched in fetch(&guard, &keys, &table).await {
        assert_eq!(fetched.expect("something stale").outcome(), Outcome::Stale(Tier::Far));
    }
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn with_the_far_tier_down_a_batch_is_one_load() {
    for fault in [Break::Error, Break::Hang] {
        let (guard, wire) = wired(&memory());
        wire.fault_all(&fault);
        let (table, keys) = (Table::taking(ms(50)), keys(0..20));
        let begun = Instant::now();
        are(&fetch(&guard, &keys, &table).await, &keys);
        assert!(begun.elapsed() <= ms(50 + 100), "{:?}", begun.elapsed());
        assert_eq!(table.asked().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_batch_goes_on() {
    for polls in [ms(0), ms(10), ms(60)] {
        let (guard, wire) = wired(&memory());
        let read = wire.hold_before(Call::ReadMany);
        let (table, keys) = (Table::taking(ms(50)), keys(0..5));
        let origin = Origin::new();
        let gone = tokio::time::timeout(ms(5), guard.fetch_many(&keys, table.load()));
        assert!(gone.await.is_err());
        let follower = callers(&guard, 3, "k1", &origin);
        tokio::time::sleep(polls).await;
        read.open();
        for answer in answers(follower).await {
            assert_eq!(version_of(&answer), 1);
        }
        idle().await;
        assert!(keys.iter().all(|key| guard.peek(key).is_some()));
        assert_eq!((table.asked().len(), origin.loads(), guard.flights()), (1, 0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_whose_callers_have_all_gone_still_fills_the_cache_and_a_timed_out_one_is_aborted()
{
    let policy = plain().load_timeout(secs(1));
    let guard = builder().policy(policy).far(memory()).build();
    let (table, gate) = Table::gated();
    let keys = keys(0..3);
    for fetched in fetch(&guard, &keys, &table).await {
        assert!(matches!(fetched, Err(Error::LoadTimeout { .. })));
    }
    gate.open();
    idle().await;
    assert!(guard.peek("k0").is_none());
    are(&fetch(&guard, &keys, &table).await, &keys);
}

#[tokio::test(start_paused = true)]
async fn stale_keys_are_answered_at_once_and_refreshed_together() {
    let policy = plain().ttl(secs(10)).grace(secs(60)).near_ttl(secs(90));
    for near in [1_000, 0] {
        let guard = builder().policy(policy.clone()).near_capacity(near).far(memory()).build();
        let (table, keys) = (Table::taking(ms(50)), keys(0..10));
        are(&fetch(&guard, &keys, &table).await, &keys);
        tokio::time::advance(secs(20)).await;
        let begun = Instant::now();
        for fetched in fetch(&guard, &keys, &table).await {
            assert!(matches!(fetched.expect("something stale").outcome(), Outcome::Stale(_)));
        }
        assert_eq!(begun.elapsed(), Duration::ZERO);
        tokio::time::sleep(ms(60)).await;
        assert_eq!(table.asked().len(), 2);
        for fetched in fetch(&guard, &keys, &table).await {
            assert!(matches!(fetched.expect("a hit").outcome(), Outcome::Hit(_)));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_row_older_than_an_invalidation_is_asked_for_again_by_itself() {
    let guard = guard_on(memory());
    let keys = keys(0..3);
    guard.invalidate_at("k1", 2).await.expect("the far tier");
    let asked = Arc::new(Mutex::new(Vec::new()));
    let load = {
        let asked = asked.clone();
        move |keys: Vec<String>| {
            let again = !asked.lock().is_empty();
            asked.lock().push(keys.clone());
            async move {
                let row = |key: String| (key, if again { row_at(2) } else { row_at(1) });
                Ok::<_, Broken>(keys.into_iter().map(row).collect())
            }
        }
    };
    let fetched = bounded(guard.fetch_many(&keys, load)).await;
    let versions: Vec<_> = fetched.iter().map(version_of).collect();
    assert_eq!(versions, [1, 2, 1]);
    assert_eq!(asked.lock()[1], ["k1"]);
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_during_a_batch_is_not_undone_by_it() {
    let guard = guard_on(memory());
    let (table, gate) = Table::gated();
    let keys = keys(0..3);
    let batch = tokio::spawn({
        let (guard, keys, load) = (guard.clone(), keys.clone(), table.load());
        async move { guard.fetch_many(&keys, load).await }
    });
    idle().await;
    guard.invalidate_at("k1", 5).await.expect("the far tier");
    gate.open();
    are(&bounded(batch).await.expect("a task"), &keys);
    let origin = Origin::new();
    origin.write(5);
    assert_eq!(version_of(&guard.fetch("k1", origin.load()).await), 5);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_fetches_one_of_its_own_keys_is_told() {
    let guard = guard_on(memory());
    let (inner, keys) = (guard.clone(), keys(0..2));
    let fetched = guard.fetch_many(&keys, move |keys| {
        let inner = inner.clone();
        async move {
            let load = || async { Ok::<_, Broken>(row_at(1)) };
            assert!(matches!(inner.fetch("k1", load).await, Err(Error::Nested)));
            let many = |_: Vec<String>| async { Ok::<Rows, Broken>(vec![]) };
            let again = inner.fetch_many(&["k0".to_owned()], many).await;
            assert!(matches!(again[..], [Err(Error::Nested)]));
            assert!(inner.fetch("other", load).await.is_ok());
            Ok::<Rows, Broken>(
                keys.into_iter().map(|key| (key.clone(), Loaded::found(key, 1))).collect(),
            )
        }
    });
    are(&bounded(fetched).await, &keys);
}

#[tokio::test]
async fn a_batch_of_a_hundred_thousand_keys_is_answered() {
    let guard = guard_on(MemoryFar::with(200_000, Clock::system()));
    let (table, keys) = (Table::taking(ms(0)), keys(0..100_000));
    are(&fetch(&guard, &keys, &table).await, &keys);
    assert_eq!((table.asked().iter().map(Vec::len).sum::<usize>(), guard.flights()), (100_000, 0));
}

#[tokio::test(start_paused = true)]
async fn one_key_of_a_batch_can_fail_by_itself() {
    let guard = guard_on(memory());
    let rows = |keys: Vec<&'static str>| async move {
        let row = |key| match key {
            "broken" => Some((key, Loaded::failed(Broken))),
            "missing" => None,
            _ => Some((key, row_at(1))),
        };
        Ok::<_, std::io::Error>(keys.into_iter().filter_map(row).collect())
    };
    let keys = ["a", "broken", "missing", "b"];
    let fetched = bounded(guard.fetch_many(&keys, rows)).await;
    assert_eq!((version_of(&fetched[0]), version_of(&fetched[3])), (1, 1));
    assert!(matches!(&fetched[1], Err(Error::Origin(error)) if error.is::<Broken>()));
    assert!(fetched[2].as_ref().expect("an answer").value().is_none());
    assert!(guard.peek("broken").is_none() && guard.peek("missing").is_some());
    // Alone it is the error.
    let alone = guard.fetch("broken", || async { Ok::<_, Broken>(Loaded::failed(Broken)) }).await;
    assert!(matches!(alone, Err(Error::Origin(error)) if error.is::<Broken>()));
}
