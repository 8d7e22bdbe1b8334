//! What is invalidated together: by tag, and all of a guard.

use std::{collections::HashMap, sync::Arc};

use cattleguard::{
    Clock, Error, FetchOptions, Guard, GuardBuilder, Loaded, Loader, LoadingGuard, Outcome, Policy,
    far::Far, far::Invalidated, memory::MemoryFar,
};
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use crate::{
    answer, bounded, builder, caller, memory, ms,
    origin::{Broken, Origin, Reply, row_at},
    plain, secs, version_of,
    wire::{Break, Call, Wire},
};

type Pages = LoadingGuard<str, String>;

/// Each row has the tags that its key says after a colon: `a:x` has `x`.
struct Tagging(Origin);

impl Loader<str, String> for Tagging {
    type Error = Broken;

    async fn load(
        &self,
        key: &str,
        _: Option<&cattleguard::Entry<String>>,
    ) -> Result<Loaded<String>, Broken> {
        let row = (self.0.load())().await?;
        Ok(key.split(':').skip(1).fold(row, Loaded::tag))
    }
}

fn pages_with(builder: GuardBuilder<str, String>, far: impl Far<String>, origin: &Origin) -> Pages {
    builder.tags().far(far).loader(Tagging(origin.clone())).build()
}

fn pages(far: impl Far<String>, origin: &Origin) -> Pages {
    pages_with(builder(), far, origin)
}

fn getting(
    pages: &Pages,
    key: &'static str,
) -> JoinHandle<Result<cattleguard::Fetched<String>, Error>> {
    let pages = pages.clone();
    tokio::spawn(async move { pages.get(key).await })
}

#[tokio::test(start_paused = true)]
async fn a_purge_is_for_all_entries_of_its_tag_in_all_processes_and_for_no_others() {
    let (far, origin) = (memory(), Origin::new());
    let fleet = [pages(far.clone(), &origin), pages(far, &origin)];
    let keys = ["a:x", "b:x:y", "c:y", "d"];
    for pages in &fleet {
        for key in keys {
            assert_eq!(version_of(&pages.get(key).await), 1);
        }
    }
    assert_eq!(origin.loads(), 4, "one load per key in the fleet");
    origin.write(2);
    assert_eq!(fleet[0].invalidate_tag("x").await.expect("the far tier"), Invalidated::Everywhere);
    for pages in &fleet {
        let versions = [2, 2, 1, 1];
        for (key, version) in keys.into_iter().zip(versions) {
            assert_eq!(version_of(&pages.get(key).await), version, "{key}");
            assert!(pages.get(key).await.expect("a row").is_hit());
        }
    }
    assert_eq!(origin.loads(), 6, "one load per purged key in the fleet");
}

#[tokio::test(start_paused = true)]
async fn a_guard_can_be_cleared() {
    let (far, origin) = (memory(), Origin::new());
    let fleet = [pages(far.clone(), &origin), pages(far, &origin)];
    for pages in &fleet {
        for key in ["a:x", "b"] {
            pages.get(key).await.expect("a row");
        }
    }
    origin.write(2);
    assert_eq!(fleet[1].clear().await.expect("the far tier"), Invalidated::Everywhere);
    for pages in &fleet {
        for key in ["a:x", "b"] {
            assert_eq!(version_of(&pages.get(key).await), 2);
        }
    }
    assert_eq!(origin.loads(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_load_that_began_before_a_purge_fills_no_tier() {
    let far = memory();
    let (origin, gate) = Origin::gated();
    let fleet = [pages(far.clone(), &origin), pages(far, &origin)];
    let before = getting(&fleet[0], "a:x");
    origin.begun(1).await;
    origin.write(2);
    fleet[1].invalidate_tag("x").await.expect("the far tier");
    let after = [getting(&fleet[0], "a:x"), getting(&fleet[1], "a:x")];
    tokio::time::sleep(ms(100)).await;
    gate.open();
    assert_eq!(version_of(&bounded(before).await.expect("no panic")), 1, "it asked before");
    for caller in after {
        assert_eq!(version_of(&bounded(caller).await.expect("no panic")), 2);
    }
    assert_eq!(origin.loads(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_load_without_tags_is_not_made_again_because_a_tag_was_purged() {
    let far = memory();
    let (origin, gate) = Origin::gated();
    let fleet = [pages(far.clone(), &origin), pages(far, &origin)];
    gate.let_one_pass();
    fleet[0].get("b").await.expect("a row");
    let before = getting(&fleet[0], "a");
    origin.begun(2).await;
    fleet[1].invalidate_tag("x").await.expect("the far tier");
    gate.open();
    bounded(before).await.expect("no panic").expect("a row");
    for pages in &fleet {
        assert!(pages.get("a").await.expect("a row").is_hit());
    }
    assert_eq!(origin.loads(), 2);
    fleet[1].clear().await.expect("the far tier");
    for pages in &fleet {
        pages.get("a").await.expect("a row");
    }
    assert_eq!(origin.loads(), 3, "it is cleared all the same");
}

#[tokio::test(start_paused = true)]
async fn a_purge_holds_in_its_process_whatever_the_far_tier_does() {
    for fault in [Break::Error, Break::Hang, Break::Busy, Break::Mute] {
        let (far, origin) = (memory(), Origin::new());
        let wire = Wire::to(&far);
        let (own, other) = (pages(wire.clone(), &origin), pages(far, &origin));
        for pages in [&own, &other] {
            pages.get("a:x").await.expect("a row");
        }
        origin.write(2);
        wire.fault_all(&fault);
        let purged = own.invalidate_tag("x").await;
        assert!(matches!(purged, Err(Error::Far(_))));
        for _ in 0..3 {
            assert_eq!(version_of(&own.get("a:x").await), 2);
        }
        let loads = origin.loads();
        assert!(loads <= 3, "one load per key, kept for a moment: {loads}");
        wire.heal();
        tokio::time::sleep(secs(3)).await;
        for pages in [&own, &other] {
            assert_eq!(version_of(&pages.get("a:x").await), 2, "it went through later");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_far_tier_that_stores_nothing_more_still_takes_a_purge() {
    let (far, origin) = (memory(), Origin::new());
    let wire = Wire::to(&far);
    let (own, other) = (pages(wire.clone(), &origin), pages(far, &origin));
    for pages in [&own, &other] {
        pages.get("a:x").await.expect("a row");
    }
    origin.write(2);
    wire.fault(Call::Put, Break::Refuse);
    wire.fault(Call::Commit, Break::Refuse);
    assert_eq!(own.invalidate_tag("x").await.expect("room is made"), Invalidated::Everywhere);
    for pages in [&own, &other] {
        assert_eq!(version_of(&pages.get("a:x").await), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn with_the_far_tier_away_tagged_entries_have_one_load_per_key() {
    let origin = Origin::taking(ms(20));
    let wire = Wire::to(&memory());
    let pages = pages(wire.clone(), &origin);
    wire.fault_all(&Break::Error);
    let callers: Vec<_> = (0..100).map(|_| getting(&pages, "a:x")).collect();
    for caller in callers {
        let answer = bounded(caller).await.expect("no panic").expect("a row");
        assert!(matches!(answer.outcome(), Outcome::Bypassed(_)));
    }
    assert!(pages.get("a:x").await.expect("a row").is_hit(), "kept for a moment");
    assert_eq!(origin.loads(), 1);
    origin.write(2);
    let _ = pages.invalidate_tag("x").await;
    assert_eq!(version_of(&pages.get("a:x").await), 2);
}

#[tokio::test(start_paused = true)]
async fn what_was_purged_is_not_served_when_its_load_fails() {
    let (far, origin) = (memory(), Origin::new());
    let policy = Policy::default().early_refresh(0.0).jitter(0.0);
    let build =
        |far: &MemoryFar<_>| pages_with(builder().policy(policy.clone()), far.clone(), &origin);
    let fleet = [build(&far), build(&far)];
    for pages in &fleet {
        pages.get("a:x").await.expect("a row");
    }
    origin.write(2);
    fleet[0].invalidate_tag("x").await.expect("the far tier");
    for _ in 0..4 {
        origin.next(Reply::Fail);
    }
    for pages in &fleet {
        let error = pages.get("a:x").await.expect_err("nothing to serve");
        assert!(matches!(error, Error::Origin(_) | Error::FailedElsewhere { .. }), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_back_off_serves_is_purged_too() {
    let origin = Origin::new();
    let policy = Policy::default().early_refresh(0.0).jitter(0.0).grace(ms(0));
    let policy = policy.failure_backoff(secs(5)).ttl(secs(1));
    let pages = pages_with(builder().policy(policy), memory(), &origin);
    pages.get("a:x").await.expect("a row");
    tokio::time::advance(secs(2)).await;
    origin.write(2);
    origin.next(Reply::Fail);
    for _ in 0..2 {
        let stale = pages.get("a:x").await.expect("stale if error");
        assert!(matches!(stale.outcome(), Outcome::StaleIfError(_)));
    }
    pages.invalidate_tag("x").await.expect("the far tier");
    assert!(!matches!(pages.get("a:x").await, Ok(stale) if stale.version().high() == 1));
}

#[tokio::test(start_paused = true)]
async fn callers_who_board_after_a_purge_during_an_outage_share_one_load_more() {
    let (origin, gate) = Origin::gated();
    let wire = Wire::to(&memory());
    let pages = pages(wire.clone(), &origin);
    wire.fault_all(&Break::Error);
    let before = getting(&pages, "a:x");
    origin.begun(1).await;
    origin.write(2);
    let _ = pages.invalidate_tag("x").await;
    let after: Vec<_> = (0..100).map(|_| getting(&pages, "a:x")).collect();
    tokio::time::sleep(ms(1)).await;
    gate.open();
    assert_eq!(version_of(&bounded(before).await.expect("no panic")), 1, "it asked before");
    for caller in after {
        assert_eq!(version_of(&bounded(caller).await.expect("no panic")), 2);
    }
    assert_eq!(origin.loads(), 2);
}

#[tokio::test(start_paused = true)]
async fn no_deadline_brings_back_what_was_purged() {
    let origin = Origin::new();
    let policy = Policy::default().early_refresh(0.0).jitter(0.0).grace(ms(0)).ttl(secs(1));
    let pages = pages_with(builder().policy(policy), memory(), &origin);
    pages.get("a:x").await.expect("a row");
    tokio::time::advance(secs(2)).await;
    origin.next(Reply::Never);
    let first = getting(&pages, "a:x");
    origin.begun(2).await;
    pages.invalidate_tag("x").await.expect("the far tier");
    let late = pages.get_with("a:x", FetchOptions::new().timeout(ms(50))).await;
    assert!(matches!(late, Err(Error::DeadlineExceeded)), "{late:?}");
    first.abort();
}

#[tokio::test(start_paused = true)]
async fn a_back_off_that_begins_during_a_purge_serves_nothing_purged() {
    let origin = Origin::new();
    let wire = Wire::to(&memory());
    let policy = Policy::default().early_refresh(0.0).jitter(0.0).grace(ms(0)).ttl(secs(1));
    let policy = policy.failure_backoff(secs(5));
    let pages = pages_with(builder().policy(policy), wire.clone(), &origin);
    pages.get("a:x").await.expect("a row");
    tokio::time::advance(secs(2)).await;
    origin.next(Reply::Fail);
    let gate = wire.hold_before(Call::Fail);
    let failing = getting(&pages, "a:x");
    origin.begun(2).await;
    tokio::time::sleep(ms(1)).await;
    pages.invalidate_tag("x").await.expect("the far tier");
    gate.open();
    let _ = bounded(failing).await.expect("no panic");
    let after = pages.get("a:x").await;
    assert!(
        !after.is_ok_and(|stale| stale.version().high() == 1 && !stale.is_hit()),
        "it is purged"
    );
}

#[tokio::test(start_paused = true)]
async fn a_purge_costs_the_same_however_many_entries_have_the_tag() {
    let cost = async |entries: usize| {
        let origin = Origin::new();
        let wire = Wire::to(&MemoryFar::with(100_000, Clock::tokio()));
        let guard: Guard<(u64, &str), String> =
            Guard::builder().policy(plain()).near_capacity(20_000).tags().far(wire.clone()).build();
        for key in 0..entries as u64 {
            let load = || async { Ok::<_, Broken>(row_at(1).tag("x")) };
            guard.fetch(&(key, "page"), load).await.expect("a row");
        }
        let before = wire.all_calls();
        guard.invalidate_tag("x").await.expect("the far tier");
        let purge = wire.all_calls() - before;
        assert!(guard.peek(&(0, "page")).is_none());
        drop(origin);
        purge
    };
    assert_eq!((cost(10).await, cost(10_000).await), (4, 4));
}

#[tokio::test(start_paused = true)]
async fn purges_of_other_tags_cost_no_load() {
    let far = memory();
    let (origin, gate) = Origin::gated();
    let fleet = [pages(far.clone(), &origin), pages(far, &origin)];
    // Both tags are known: the first load of one has nothing to compare with.
    gate.let_one_pass();
    fleet[0].get("b:x:y").await.expect("a row");
    let before = getting(&fleet[0], "a:x");
    origin.begun(2).await;
    fleet[1].invalidate_tag("y").await.expect("the far tier");
    let after = [getting(&fleet[0], "a:x"), getting(&fleet[1], "a:x")];
    tokio::time::sleep(ms(100)).await;
    gate.open();
    for caller in [before].into_iter().chain(after) {
        assert_eq!(version_of(&bounded(caller).await.expect("no panic")), 1);
    }
    for pages in &fleet {
        assert!(pages.get("a:x").await.expect("a row").is_hit());
    }
    assert_eq!(origin.loads(), 2);
}

/// Readers and writers in three processes, at random times: who asks after a purge has returned never gets what was
/// before it.
#[tokio::test(start_paused = true)]
async fn nobody_gets_what_was_purged_before_he_asked() {
    for seed in 0..100 {
        let (far, origin) = (memory(), Origin::taking(ms(7)));
        let fleet: Vec<_> = (0..3).map(|_| pages(far.clone(), &origin)).collect();
        let acknowledged: Arc<Mutex<HashMap<&str, u64>>> = Arc::default();
        let mut tasks = Vec::new();
        for number in 0..12_usize {
            let mut random = fastrand::Rng::with_seed(seed * 100 + number as u64);
            let (pages, origin) = (fleet[number % 3].clone(), origin.clone());
            let acknowledged = acknowledged.clone();
            tasks.push(tokio::spawn(async move {
                for _ in 0..20 {
                    tokio::time::sleep(ms(random.u64(0..12))).await;
                    let tag = if random.bool() { "x" } else { "y" };
                    if number < 2 {
                        let version = origin.write_next();
                        pages.invalidate_tag(tag).await.expect("the far tier");
                        let mut all = acknowledged.lock();
                        let known = all.entry(tag).or_default();
                        *known = version.max(*known);
                        continue;
                    }
                    let floor = acknowledged.lock().get(tag).copied().unwrap_or(0);
                    let key = format!("page {}:{tag}", random.u8(0..2));
                    let version = version_of(&pages.get(&*key).await);
                    assert!(version >= floor, "seed {seed}: {version} after {floor}");
                }
            }));
        }
        for task in tasks {
            bounded(task).await.expect("nothing old");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_named_like_a_tag_is_a_key() {
    let (far, origin) = (memory(), Origin::new());
    let (pages, other) = (pages(far.clone(), &origin), pages(far, &origin));
    pages.get("a:x").await.expect("a row");
    for (version, key) in (2..).zip(["\0tx", "\0s", "\0e", "\0k\0tx"]) {
        for pages in [&pages, &other] {
            assert_eq!(version_of(&pages.get(key).await), version - 1);
        }
        origin.write(version);
        pages.invalidate(key).await.expect("the far tier");
        assert_eq!(version_of(&other.get(key).await), version, "the message is of a key");
    }
    assert!(pages.get("a:x").await.expect("a row").is_hit(), "nothing was purged");
}

#[tokio::test(start_paused = true)]
async fn a_guard_without_tags_keeps_nothing_tagged_and_says_so() {
    let origin = Origin::new();
    let pages = builder().far(memory()).loader(Tagging(origin.clone())).build();
    for _ in 0..2 {
        pages.get("a:x").await.expect("a row");
    }
    assert_eq!(origin.loads(), 2);
    let error = pages.invalidate_tag("x").await.expect_err("no tags");
    assert!(error.to_string().contains("GuardBuilder::tags"), "{error}");
    let error = pages.put("b:x", row_at(1).tag("x")).await.expect_err("no tags");
    assert!(error.to_string().contains("Loaded::tag"), "{error}");
    assert!(pages.find("b:x").await.is_none());
}

#[tokio::test(start_paused = true)]
async fn an_entry_may_say_how_long_it_is_served_stale() {
    let origin = Origin::new();
    let guard =
        builder().policy(Policy::default().jitter(0.0).early_refresh(0.0)).far(memory()).build();
    let row = row_at(1).ttl(secs(1)).grace(secs(5)).stale_if_error(secs(5));
    origin.next(Reply::Loaded(row));
    answer(caller(&guard, "k", &origin)).await.expect("a row");
    tokio::time::advance(secs(4)).await;
    origin.next(Reply::Fail);
    let stale = guard.fetch("k", origin.load()).await.expect("within grace");
    assert!(matches!(stale.outcome(), Outcome::Stale(_)));
    tokio::time::sleep(secs(5)).await;
    origin.next(Reply::Fail);
    let stale = guard.fetch("k", origin.load()).await.expect("stale if error");
    assert!(matches!(stale.outcome(), Outcome::StaleIfError(_)));
    tokio::time::sleep(secs(6)).await;
    origin.next(Reply::Fail);
    assert!(guard.fetch("k", origin.load()).await.is_err(), "its own end is its end");
}

#[tokio::test(start_paused = true)]
async fn many_are_invalidated_at_once() {
    let origin = Origin::new();
    let wire = Wire::to(&memory());
    let pages = pages(wire.clone(), &origin);
    let keys: Vec<String> = (0..700).map(|key| format!("k{key}")).collect();
    let invalidated = pages.invalidate_many(&keys).await;
    assert_eq!(wire.calls(Call::Invalidate), 700);
    assert!(invalidated.iter().all(|done| matches!(done, Ok(Invalidated::Everywhere))));
}
