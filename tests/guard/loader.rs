//! A guard that knows how to load, and what one call may do differently.

use std::{collections::BTreeSet, sync::Arc};

use cattleguard::{
    Entry, Error, FetchOptions, Guard, GuardBuilder, Loaded, Loader, LoadingGuard, Outcome, Policy,
    Tier, memory::MemoryFar,
};
use parking_lot::Mutex;

use crate::{
    bounded, builder, guard_on, memory, ms,
    origin::{Broken, Origin, Reply, row_at},
    plain, secs, version_of,
    wire::{Break, Wire},
};

type Users = LoadingGuard<str, String>;

/// The origin as a loader, which tells what previous entries it saw.
#[derive(Clone)]
struct Rows {
    origin: Origin,
    previous: Arc<Mutex<Vec<Option<u64>>>>,
    validates: bool,
}

impl Rows {
    fn of(origin: &Origin) -> Self {
        Self { origin: origin.clone(), previous: Arc::default(), validates: false }
    }
}

impl Loader<str, String> for Rows {
    type Error = Broken;

    async fn load(
        &self,
        _: &str,
        previous: Option<&Entry<String>>,
    ) -> Result<Loaded<String>, Broken> {
        self.previous.lock().push(previous.map(|entry| entry.version().high()));
        let row = (self.origin.load())().await?;
        Ok(match previous {
            Some(previous) if self.validates => previous.not_modified(),
            _ => row,
        })
    }
}

fn users_on(far: &MemoryFar<String>, origin: &Origin) -> Users {
    users_with(builder().far(far.clone()), origin)
}

fn users_with(builder: GuardBuilder<str, String>, origin: &Origin) -> Users {
    builder.loader(Rows::of(origin)).build()
}

/// So many callers of each guard at one time.
async fn refreshes(
    fleet: &[Users],
    callers: usize,
) -> Vec<Result<cattleguard::Fetched<String>, Error>> {
    let call = |users: &Users| {
        let users = users.clone();
        tokio::spawn(async move { users.refresh("k").await })
    };
    let calls: Vec<_> =
        fleet.iter().flat_map(|users| (0..callers).map(move |_| call(users))).collect();
    let mut answers = Vec::new();
    for call in calls {
        answers.push(bounded(call).await.expect("the caller lives"));
    }
    answers
}

#[tokio::test(start_paused = true)]
async fn a_function_is_a_loader_and_a_row_is_what_it_returns() {
    async fn read(id: i64) -> Result<Option<(String, i64)>, Broken> {
        Ok((id == 42).then(|| ("Ada".to_owned(), 7)))
    }
    let users: LoadingGuard<i64, String> = Guard::builder().policy(plain()).loader(read).build();
    let ada = users.get(&42).await.expect("a row");
    assert_eq!((ada.version().high(), ada.outcome(), ada.is_hit()), (7, Outcome::Loaded, false));
    assert!(users.get(&42).await.expect("a row").is_hit());
    assert_eq!(ada.into_value().as_deref(), Some("Ada"));
    let nobody = users.get(&7).await.expect("no row");
    assert_eq!(nobody.value_or(&"nobody".to_owned()), "nobody");
}

#[tokio::test(start_paused = true)]
async fn a_negative_version_is_a_failed_load() {
    async fn read(_: i64) -> Result<Option<(String, i64)>, Broken> {
        Ok(Some(("Ada".to_owned(), -1)))
    }
    let users: LoadingGuard<i64, String> = Guard::builder().policy(plain()).loader(read).build();
    let error = users.get(&1).await.expect_err("no version");
    assert!(error.to_string().contains("must not be negative"), "{error}");
    let error = users.invalidate_at(&1, -1_i64).await.expect_err("no version");
    assert!(matches!(error, Error::NegativeVersion), "{error}");
}

#[tokio::test(start_paused = true)]
async fn callers_of_a_stored_loader_share_one_load() {
    let origin = Origin::taking(ms(10));
    let users = users_on(&memory(), &origin);
    let call = |_| {
        let users = users.clone();
        tokio::spawn(async move { users.get("k").await })
    };
    let calls: Vec<_> = (0..100).map(call).collect();
    for call in calls {
        assert_eq!(version_of(&bounded(call).await.expect("the caller lives")), 1);
    }
    assert_eq!(origin.loads(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_loader_sees_the_entry_there_was_and_may_keep_it() {
    let (far, origin) = (memory(), Origin::new());
    let rows = Rows { validates: true, ..Rows::of(&origin) };
    let policy = plain().ttl(secs(10)).stale_if_error(secs(60));
    let users = builder().policy(policy).far(far.clone()).loader(rows.clone()).build();
    users.get("k").await.expect("a row");
    origin.write(2);
    tokio::time::advance(secs(11)).await;
    let kept = users.get("k").await.expect("a row");
    assert_eq!((kept.version().high(), kept.outcome()), (1, Outcome::Loaded), "not modified");
    tokio::time::advance(secs(9)).await;
    assert!(users.get("k").await.expect("a row").is_hit(), "its ttl began again");
    assert_eq!(*rows.previous.lock(), [None, Some(1)]);
}

#[tokio::test(start_paused = true)]
async fn what_was_loaded_while_tags_could_not_be_read_is_not_kept_as_if_it_had_none() {
    let (far, origin) = (memory(), Origin::new());
    let wire = Wire::to(&far);
    let rows = Rows { validates: true, ..Rows::of(&origin) };
    let users = builder().tags().far(wire.clone()).loader(rows.clone()).build();
    wire.fault_all(&Break::Error);
    users.get("k").await.expect("a row");
    wire.heal();
    users.refresh("k").await.expect("a row");
    assert_eq!(*rows.previous.lock(), [None, None]);
}

#[tokio::test(start_paused = true)]
async fn many_keys_are_one_call_of_the_batch_loader() {
    let (origin, asked) = (Origin::new(), Arc::new(Mutex::new(Vec::new())));
    let told = asked.clone();
    let read_many = move |keys: Vec<String>| {
        told.lock().push(keys.iter().cloned().collect::<BTreeSet<_>>());
        async move {
            let rows = keys.into_iter().filter(|key| key != "gone");
            Ok::<_, Broken>(rows.map(|key| (key.clone(), Some((key, 3_i64)))).collect())
        }
    };
    let users = builder().loader(Rows::of(&origin)).batch_loader(read_many).build();
    let answers = users.get_many(&["a", "b", "gone"]).await;
    let values: Vec<_> =
        answers.into_iter().map(|row| row.expect("an answer").into_value()).collect();
    assert_eq!(values, [Some("a".to_owned()), Some("b".to_owned()), None]);
    assert_eq!(asked.lock().as_slice(), [["a", "b", "gone"].map(str::to_owned).into()]);
    assert_eq!(origin.loads(), 0);
}

#[tokio::test(start_paused = true)]
async fn without_a_batch_loader_each_key_is_loaded_by_itself() {
    let origin = Origin::new();
    let users = users_on(&memory(), &origin);
    let answers = users.get_many(&["a", "b", "a"]).await;
    assert!(answers.iter().all(|answer| version_of(answer) == 1));
    assert_eq!(origin.loads(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_by_many_callers_in_many_processes_is_one_load() {
    let (far, origin) = (memory(), Origin::taking(ms(50)));
    let fleet: Vec<_> = (0..4).map(|_| users_on(&far, &origin)).collect();
    for users in &fleet {
        assert_eq!(version_of(&users.get("k").await), 1);
    }
    origin.write(2);
    for answer in refreshes(&fleet, 250).await {
        assert_eq!(version_of(&answer), 2);
    }
    assert_eq!(origin.loads(), 2, "one, and one for the refresh");
    for users in &fleet {
        assert_eq!(version_of(&users.get("k").await), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_refreshed_is_served_until_there_is_another() {
    let (origin, gate) = Origin::gated();
    let users = users_on(&memory(), &origin);
    gate.let_one_pass();
    users.get("k").await.expect("a row");
    origin.write(2);
    let refreshing = tokio::spawn({
        let users = users.clone();
        async move { users.refresh("k").await }
    });
    origin.begun(2).await;
    let meanwhile = users.get("k").await.expect("what there was");
    assert_eq!((meanwhile.version().high(), meanwhile.is_hit()), (1, true));
    gate.open();
    assert_eq!(version_of(&bounded(refreshing).await.expect("the caller lives")), 2);
    assert_eq!(version_of(&users.get("k").await), 2);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_in_the_background_is_waited_for_by_nobody() {
    let origin = Origin::taking(ms(50));
    let users = users_on(&memory(), &origin);
    users.get("k").await.expect("a row");
    origin.write(2);
    users.refresh_in_background("k");
    assert_eq!(version_of(&users.get("k").await), 1);
    tokio::time::sleep(ms(60)).await;
    let anew = users.get("k").await.expect("a row");
    assert_eq!((anew.version().high(), anew.is_hit()), (2, true));
}

#[tokio::test(start_paused = true)]
async fn a_refresh_waits_for_the_load_of_another_and_gets_nothing_old() {
    let (origin, gate) = Origin::gated();
    let policy = Policy::default().jitter(0.0).early_refresh(0.0).ttl(secs(1)).grace(secs(60));
    let users = users_with(builder().policy(policy).far(memory()), &origin);
    gate.let_one_pass();
    users.get("k").await.expect("a row");
    tokio::time::advance(secs(2)).await;
    origin.write(2);
    let stale = users.get("k").await.expect("within grace");
    assert!(matches!(stale.outcome(), Outcome::Stale(_)));
    origin.begun(2).await;
    let refreshing = tokio::spawn({
        let users = users.clone();
        async move { users.refresh("k").await }
    });
    tokio::time::sleep(ms(50)).await;
    gate.open();
    assert_eq!(version_of(&bounded(refreshing).await.expect("the caller lives")), 2);
    assert_eq!(origin.loads(), 2);
}

#[tokio::test(start_paused = true)]
async fn who_finds_nothing_near_does_not_wait_for_a_refresh() {
    let (origin, gate) = Origin::gated();
    let policy = plain().near_ttl(secs(1)).load_timeout(secs(100));
    let users = users_with(builder().policy(policy).far(memory()), &origin);
    gate.let_one_pass();
    users.get("k").await.expect("a row");
    users.refresh_in_background("k");
    origin.begun(2).await;
    for _ in 0..5 {
        tokio::time::sleep(secs(3)).await;
        let begun = tokio::time::Instant::now();
        assert_eq!(version_of(&users.get("k").await), 1);
        assert_eq!(begun.elapsed(), ms(0));
    }
    gate.open();
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_fails_leaves_what_there_is() {
    let (far, origin) = (memory(), Origin::taking(ms(50)));
    let policy = Policy::default().jitter(0.0).early_refresh(0.0);
    let on =
        |far: &MemoryFar<_>| users_with(builder().policy(policy.clone()).far(far.clone()), &origin);
    let fleet = [on(&far), on(&far)];
    fleet[0].get("k").await.expect("a row");
    origin.next(Reply::Fail);
    let answers = refreshes(&fleet, 10).await;
    for answer in &answers {
        assert_eq!(version_of(answer), 1);
    }
    let first = answers[0].as_ref().expect("an answer");
    assert!(first.is_hit(), "no load has answered: {}", first.outcome());
    assert_eq!(origin.loads(), 2, "the failure is shared");
    for users in &fleet {
        assert!(users.get("k").await.expect("what there was").is_hit());
    }
}

#[tokio::test(start_paused = true)]
async fn a_load_that_can_be_made_once_is_not_repeated() {
    let guard = guard_on(memory());
    guard.invalidate_at("k", 5).await.expect("the far tier");
    let origin = Origin::new();
    let error = guard.fetch_once("k", (origin.load())()).await.expect_err("it is behind");
    assert!(matches!(error, Error::Outdated { .. }), "{error}");
    assert_eq!(origin.loads(), 1);
    let row = guard.fetch_once("k", async { Ok::<_, Broken>(row_at(5)) }).await;
    assert_eq!(version_of(&row), 5);
    let never =
        guard.fetch_once("k", std::future::pending::<Result<Loaded<String>, Broken>>()).await;
    assert!(never.expect("a hit").is_hit());
}

#[tokio::test(start_paused = true)]
async fn a_load_that_can_be_made_once_is_not_repeated_past_the_tiers() {
    let guard = guard_on(memory());
    guard.invalidate_at("k", 5).await.expect("the far tier");
    let uncacheable = || async { Ok::<_, Broken>(row_at(5).uncacheable()) };
    guard.fetch("k", uncacheable).await.expect("a value");
    let error = guard.fetch_once("k", async { Ok::<_, Broken>(row_at(1)) }).await.expect_err("old");
    assert!(matches!(error, Error::Outdated { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_call_may_skip_the_near_tier() {
    let origin = Origin::new();
    let users = users_on(&memory(), &origin);
    users.get("k").await.expect("a row");
    let far = users.get_with("k", FetchOptions::new().skip_near()).await.expect("a row");
    assert_eq!(far.outcome(), Outcome::Hit(Tier::Far));
    assert_eq!(origin.loads(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_may_say_how_long_its_value_is_fresh() {
    let origin = Origin::new();
    let users = users_on(&memory(), &origin);
    users.get_with("k", FetchOptions::new().ttl(secs(1))).await.expect("a row");
    tokio::time::advance(ms(1_100)).await;
    assert_eq!(users.get("k").await.expect("a row").outcome(), Outcome::Loaded);
    origin.next(Reply::Loaded(row_at(1).ttl(secs(100))));
    users.get_with("other", FetchOptions::new().ttl(secs(1))).await.expect("a row");
    tokio::time::advance(secs(2)).await;
    assert!(users.get("other").await.expect("a row").is_hit(), "the load knows better");
}

#[tokio::test(start_paused = true)]
async fn to_find_is_not_to_load() {
    let far = memory();
    let (a, b) = (guard_on(far.clone()), guard_on(far));
    assert!(a.find("k").await.is_none());
    let _ = b.put("k", row_at(1).ttl(secs(10))).await.expect("the far tier");
    let found = a.find("k").await.expect("an entry");
    assert_eq!((found.version().high(), found.outcome()), (1, Outcome::Hit(Tier::Far)));
    tokio::time::advance(secs(11)).await;
    assert!(a.find("k").await.is_none(), "nothing fresh");
}
