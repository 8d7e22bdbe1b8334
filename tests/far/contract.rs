//! One test per clause of the contract in `cattleguard::far`, for any implementer.

use std::{
    future::Future,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use cattleguard::{
    Entry, Guard, Loaded, Version,
    far::{Attempt, Commit, Event, Far, Grant, Put, Record, Renewal, Token, Watcher},
};
use futures::FutureExt;
use parking_lot::Mutex;

pub const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(40);

/// A name that no other test uses: all share one server.
pub fn fresh_name() -> String {
    format!("n{{{}}}%:ä", fastrand::u64(..))
}

pub fn record(
    far: &impl Far<String>,
    value: Option<&str>,
    version: impl Into<Version>,
) -> Record<String> {
    record_for(far, value, version.into(), LONG)
}

/// A record that is stale as soon as it is written, and remembered.
pub fn stale(far: &impl Far<String>, value: &str, version: impl Into<Version>) -> Record<String> {
    record_for(far, Some(value), version.into(), Duration::from_millis(1))
}

fn record_for(
    far: &impl Far<String>,
    value: Option<&str>,
    version: Version,
    ttl: Duration,
) -> Record<String> {
    let entry = Entry::new(value.map(str::to_owned), version, far.clock().now().after(ttl));
    Record::new(Arc::new(entry), ttl, LONG * 2)
}

pub async fn lease(far: &impl Far<String>, name: &str, ttl: Duration) -> (Token, Grant) {
    let token = Token::random();
    match far.look_up_or_lease(name, token, ttl, Duration::ZERO).await.expect("a look-up") {
        Attempt::Granted(grant) => (token, grant),
        other => panic!("not granted: {other:?}"),
    }
}

/// Asks again until the lease is granted, for a bounded time.
pub async fn lease_soon(far: &impl Far<String>, name: &str) -> (Token, Grant) {
    let token = Token::random();
    let answer =
        eventually(async || match far.look_up_or_lease(name, token, LONG, Duration::ZERO).await {
            Ok(Attempt::Granted(grant)) => Some(grant),
            _ => None,
        });
    (token, answer.await)
}

/// The first `Some` of a condition that is asked for a bounded time.
pub async fn eventually<T>(mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = condition().await {
            return found;
        }
        assert!(begin.elapsed() < Duration::from_secs(10), "did not come true within 10 s");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn value(far: &impl Far<String>, name: &str) -> Option<String> {
    far.read(name).await.expect("a read").and_then(|entry| entry.value().cloned())
}

pub async fn one_holder_and_fences_grow<F: Far<String> + Clone>(far: F) {
    let name = fresh_name();
    let mut last_fence = 0;
    for _ in 0..3 {
        let attempts = (0..50).map(|_| {
            let (far, name) = (far.clone(), name.clone());
            tokio::spawn(async move {
                let token = Token::random();
                (
                    token,
                    far.look_up_or_lease(&name, token, LONG, Duration::ZERO)
                        .await
                        .expect("a look-up"),
                )
            })
        });
        let mut granted = Vec::new();
        for attempt in attempts.collect::<Vec<_>>() {
            match attempt.await.expect("a task") {
                (token, Attempt::Granted(grant)) => granted.push((token, grant)),
                (_, Attempt::Held { remaining, .. }) => assert!(remaining <= LONG),
                (_, other) => panic!("nothing was stored: {other:?}"),
            }
        }
        let [(token, grant)] = granted[..] else { panic!("{} holders", granted.len()) };
        assert!(grant.fence > last_fence, "{} after {last_fence}", grant.fence);
        last_fence = grant.fence;
        far.release(&name, token).await.expect("a release");
    }
}

pub async fn only_the_current_token_commits<F: Far<String> + Clone>(far: F) {
    let name = fresh_name();
    let (late, _) = lease(&far, &name, SHORT).await;
    let (current, _) = lease_soon(&far, &name).await;
    let refused = far.commit(&name, late, record(&far, Some("late"), 9)).await.expect("an answer");
    assert!(matches!(refused, Commit::Lost), "{refused:?}");
    assert_eq!(value(&far, &name).await, None);
    let stored = far.commit(&name, current, record(&far, Some("current"), 1)).await;
    assert!(matches!(stored, Ok(Commit::Stored(_))), "the refused commit left the lease alone");
    assert_eq!(value(&far, &name).await.as_deref(), Some("current"));
}

pub async fn a_commit_without_any_lease_is_refused<F: Far<String> + Clone>(far: F) {
    let name = fresh_name();
    let (token, _) = lease(&far, &name, SHORT).await;
    // It has ended, and so has the one that was granted after it.
    let (next, _) = lease_soon(&far, &name).await;
    far.release(&name, next).await.expect("a release");
    let refused = far.commit(&name, token, record(&far, Some("late"), 9)).await;
    assert!(matches!(refused, Ok(Commit::Lost)), "{refused:?}");
    assert_eq!(value(&far, &name).await, None);
}

pub async fn older_versions_are_refused_and_equal_ones_accepted<F: Far<String> + Clone>(far: F) {
    let name = fresh_name();
    let put = far.put(&name, stale(&far, "five", 5)).await;
    assert!(matches!(put, Ok(Put::Stored(_))));
    let older = far.put(&name, record(&far, Some("four"), 4)).await;
    assert!(matches!(older, Ok(Put::Older { minimum }) if minimum == Version::new(5)), "{older:?}");

    let (token, grant) = lease_soon(&far, &name).await;
    assert_eq!(grant.minimum, Version::new(5));
    let older = far.commit(&name, token, record(&far, Some("four"), 4)).await;
    assert!(matches!(older, Ok(Commit::Older { minimum }) if minimum == Version::new(5)));
    assert_eq!(value(&far, &name).await.as_deref(), Some("five"));

    let (token, _) = lease(&far, &name, LONG).await;
    let equal = far.commit(&name, token, record(&far, Some("five again"), 5)).await;
    assert!(matches!(equal, Ok(Commit::Stored(_))), "{equal:?}");
    assert_eq!(value(&far, &name).await.as_deref(), Some("five again"));
}

pub async fn versions_are_integers<F: Far<String> + Clone>(far: F) {
    let ladder = [
        Version::with_tie(0, 1),
        Version::with_tie(0, u64::MAX),
        Version::new(0x7f),
        Version::new(0x80),
        Version::new((1 << 53) - 1),
        Version::new(1 << 53),
        Version::new((1 << 53) + 1),
        Version::new(1 << 60),
        Version::with_tie(1 << 60, 1),
        Version::with_tie(1 << 60, 1 << 63),
        Version::new((1 << 60) + 1),
        Version::new(0x7fff_ffff_ffff_ffff),
        Version::new(0x8000_0000_0000_0000),
        Version::with_tie(u64::MAX, u64::MAX),
    ];
    let name = fresh_name();
    for pair in ladder.windows(2) {
        let newer = far.put(&name, record(&far, Some("x"), pair[1])).await;
        assert!(matches!(newer, Ok(Put::Stored(_))), "{pair:?}: {newer:?}");
        let older = far.put(&name, record(&far, Some("x"), pair[0])).await;
        assert!(matches!(older, Ok(Put::Older { minimum }) if minimum == pair[1]), "{pair:?}");
        let found = far.read(&name).await.expect("a read").expect("an entry");
        assert_eq!(found.version(), pair[1]);
    }
}

pub async fn invalidations_and_puts_revoke_the_lease<F: Far<String> + Clone>(far: F) {
    let name = fresh_name();
    let (loading, first) = lease(&far, &name, LONG).await;
    far.invalidate(&name, None, LONG).await.expect("an invalidation");
    let (second_loading, second) = lease(&far, &name, LONG).await;
    assert!(second.fence > first.fence);
    let refused = far.commit(&name, loading, record(&far, Some("old"), 9)).await;
    assert!(matches!(refused, Ok(Commit::Lost)), "{refused:?}");

    let put = far.put(&name, stale(&far, "put", 3)).await;
    assert!(matches!(put, Ok(Put::Stored(_))));
    let refused = far.commit(&name, second_loading, record(&far, Some("old"), 9)).await;
    assert!(matches!(refused, Ok(Commit::Lost)), "{refused:?}");
    assert_eq!(value(&far, &name).await.as_deref(), Some("put"));
}

pub async fn two_loads_of_one_process_are_told_apart<F: Far<String> + Clone>(far: F) {
    // The ABA: load A, invalidate, load B of the same process is granted; A must not pass for B.
    let name = fresh_name();
    let (a, _) = lease(&far, &name, LONG).await;
    far.invalidate(&name, None, LONG).await.expect("an invalidation");
    let (b, _) = lease(&far, &name, LONG).await;
    let refused = far.commit(&name, a, record(&far, Some("before"), 1)).await;
    assert!(matches!(refused, Ok(Commit::Lost)), "{refused:?}");
    let stored = far.commit(&name, b, record(&far, Some("after"), 1)).await;
    assert!(matches!(stored, Ok(Commit::Stored(_))), "{stored:?}");
    assert_eq!(value(&far, &name).await.as_deref(), Some("after"));
}

pub async fn a_tombstone_keeps_its_version<F: Far<String> + Clone>(far: F) {
    let name = fresh_name();
    let _ = far.put(&name, record(&far, Some("four"), 4)).await.expect("a put");
    far.invalidate(&name, Some(Version::new(6)), LONG).await.expect("an invalidation");
    assert!(far.read(&name).await.expect("a read").is_none(), "a tombstone is not an entry");

    let (token, grant) = lease(&far, &name, LONG).await;
    assert_eq!(grant.minimum, Version::new(6));
    let lagging = far.commit(&name, token, record(&far, Some("five"), 5)).await;
    assert!(matches!(lagging, Ok(Commit::Older { minimum }) if minimum == Version::new(6)));

    // Invalidating below, or without a version, forgets nothing of it.
    far.invalidate(&name, Some(Version::new(2)), LONG).await.expect("an invalidation");
    far.invalidate(&name, None, LONG).await.expect("an invalidation");
    let (token, grant) = lease(&far, &name, LONG).await;
    assert_eq!(grant.minimum, Version::new(6));
    let current = far.commit(&name, token, record(&far, Some("six"), 6)).await;
    assert!(matches!(current, Ok(Commit::Stored(_))), "{current:?}");
}

pub async fn an_entry_at_or_above_the_invalidation_stays<F: Far<String> + Clone>(far: F) {
    let name = fresh_name();
    let _ = far.put(&name, record(&far, Some("seven"), 7)).await.expect("a put");
    far.invalidate(&name, Some(Version::new(7)), LONG).await.expect("an invalidation");
    assert_eq!(value(&far, &name).await.as_deref(), Some("seven"));
    far.invalidate(&name, Some(Version::new(8)), LONG).await.expect("an invalidation");
    assert_eq!(value(&far, &name).await, None);
}

pub async fn an_invalidation_is_kept_for_its_retention_whatever_is_on_record<
    F: Far<String> + Clone,
>(
    far: F,
) {
    let at = |version| Some(Version::new(version));
    let brief = |version| {
        let mut brief = stale(&far, "brief", version);
        brief.retention = SHORT;
        brief
    };
    let [entry, newer, overwritten, committed, repeated, yardstick] =
        [(); 6].map(|()| fresh_name());
    // At, and above, the version asked for.
    for (name, version) in [(&entry, 10), (&newer, 12)] {
        let put = far.put(name, brief(version)).await;
        assert!(matches!(put, Ok(Put::Stored(_))), "{put:?}");
        far.invalidate(name, at(10), LONG).await.expect("an invalidation");
    }
    // What comes after it asks for less.
    for name in [&overwritten, &committed, &repeated] {
        far.invalidate(name, at(10), LONG).await.expect("an invalidation");
    }
    let put = far.put(&overwritten, brief(11)).await;
    assert!(matches!(put, Ok(Put::Stored(_))), "{put:?}");
    let (token, _) = lease(&far, &committed, LONG).await;
    let stored = far.commit(&committed, token, brief(11)).await;
    assert!(matches!(stored, Ok(Commit::Stored(_))), "{stored:?}");
    far.invalidate(&repeated, None, SHORT).await.expect("an invalidation");
    // Until one that was written last, and that nobody asked to keep, is forgotten.
    let put = far.put(&yardstick, brief(10)).await;
    assert!(matches!(put, Ok(Put::Stored(_))), "{put:?}");
    let minimum = async |name: &str| {
        let (token, grant) = lease_soon(&far, name).await;
        far.release(name, token).await.expect("a release");
        grant.minimum
    };
    eventually(async || (minimum(&yardstick).await == Version::ZERO).then_some(())).await;
    for (name, kept) in
        [(&entry, 10), (&newer, 12), (&overwritten, 11), (&committed, 11), (&repeated, 10)]
    {
        assert_eq!(minimum(name).await, Version::new(kept));
        let lagging = far.put(name, record(&far, Some("lagging"), 9)).await;
        assert!(matches!(lagging, Ok(Put::Older { .. })), "{lagging:?}");
    }
}

pub async fn an_absence_without_version_takes_over_the_one_on_record<F: Far<String> + Clone>(
    far: F,
) {
    let name = fresh_name();
    far.invalidate(&name, Some(Version::new(6)), LONG).await.expect("an invalidation");
    let (token, _) = lease(&far, &name, LONG).await;
    let mut absent = record(&far, None, 0);
    absent.version = None;
    let Ok(Commit::Stored(entry)) = far.commit(&name, token, absent).await else {
        panic!("refused");
    };
    assert_eq!((entry.value(), entry.version()), (None, Version::new(6)));
    let found = far.read(&name).await.expect("a read").expect("an entry");
    assert_eq!((found.value(), found.version()), (None, Version::new(6)));
}

pub async fn every_call_may_be_repeated<F: Far<String> + Clone>(far: F) {
    let name = fresh_name();
    let token = Token::random();
    let first = far.look_up_or_lease(&name, token, LONG, Duration::ZERO).await.expect("a look-up");
    let again = far.look_up_or_lease(&name, token, LONG, Duration::ZERO).await.expect("a look-up");
    let (Attempt::Granted(first), Attempt::Granted(again)) = (first, again) else {
        panic!("not granted")
    };
    assert_eq!(first, again, "one lease, one fence");

    let stored = far.commit(&name, token, record(&far, Some("a"), 1)).await;
    assert!(matches!(stored, Ok(Commit::Stored(_))));
    let _ = far.put(&name, record(&far, Some("b"), 2)).await.expect("a put");
    let repeated = far.commit(&name, token, record(&far, Some("a"), 3)).await;
    assert!(matches!(repeated, Ok(Commit::Lost)), "{repeated:?}");
    assert_eq!(value(&far, &name).await.as_deref(), Some("b"));

    far.release(&name, token).await.expect("a release");
    far.release(&name, token).await.expect("a release");
    for _ in 0..2 {
        far.invalidate(&name, Some(Version::new(5)), LONG).await.expect("an invalidation");
    }
    let (_, grant) = lease(&far, &name, LONG).await;
    assert_eq!(grant.minimum, Version::new(5));
}

pub async fn leases_expire_unless_renewed<F: Far<String> + Clone>(far: F) {
    let name = fresh_name();
    let (kept, _) = lease(&far, &name, SHORT).await;
    assert_eq!(far.renew(&name, kept, LONG).await.expect("a renewal"), Renewal::Renewed);
    let stranger = Token::random();
    assert_eq!(far.renew(&name, stranger, LONG).await.expect("a renewal"), Renewal::Lost);
    // As long as the first ttl: one that began later has ended.
    let other = fresh_name();
    let _ = lease(&far, &other, SHORT).await;
    let _ = lease_soon(&far, &other).await;
    let held = far.look_up_or_lease(&name, stranger, LONG, Duration::ZERO).await;
    assert!(matches!(held, Ok(Attempt::Held { .. })), "renewed beyond its first ttl: {held:?}");

    assert_eq!(far.renew(&name, kept, SHORT).await.expect("a renewal"), Renewal::Renewed);
    let (_, grant) = lease_soon(&far, &name).await;
    assert!(grant.fence > 0);
    assert_eq!(far.renew(&name, kept, LONG).await.expect("a renewal"), Renewal::Lost);
}

#[derive(Default)]
pub struct Recorder {
    pub heard: Mutex<Vec<String>>,
}

impl Recorder {
    /// What happened to a name.
    pub fn about(&self, name: &str) -> Vec<String> {
        self.heard.lock().iter().filter(|event| event.contains(name)).cloned().collect()
    }
}

impl Watcher for Recorder {
    fn on_event(&self, event: Event<'_>) {
        self.heard.lock().push(match event {
            Event::Committed { name, version } => format!("committed {name} {version}"),
            Event::Put { name, version } => format!("put {name} {version}"),
            Event::Invalidated { name, version } => format!("invalidated {name} {version:?}"),
            Event::Released { name } => format!("released {name}"),
            Event::Connected => "connected".into(),
            Event::Disconnected => "disconnected".into(),
            _ => "unknown".into(),
        });
    }
}

/// Two watchers that are connected.
async fn recorders<F: Far<String>>(far: &F) -> [Arc<Recorder>; 2] {
    let recorders = [Arc::new(Recorder::default()), Arc::new(Recorder::default())];
    for recorder in &recorders {
        let weak: Weak<Recorder> = Arc::downgrade(recorder);
        far.watch(weak);
    }
    far.read("any").await.expect("a read");
    for recorder in &recorders {
        eventually(async || recorder.heard.lock().iter().any(|e| e == "connected").then_some(()))
            .await;
    }
    recorders
}

/// Clause 9: near entries.
pub async fn every_watcher_hears_what_could_make_a_near_entry_old<F: Far<String> + Clone>(far: F) {
    let name = fresh_name();
    let recorders = recorders(&far).await;
    let _ = far.put(&name, stale(&far, "a", 1)).await.expect("a put");
    let (token, _) = lease_soon(&far, &name).await;
    let _ = far.commit(&name, token, stale(&far, "b", 2)).await.expect("a commit");
    let _ = far.put(&name, stale(&far, "c", 3)).await.expect("a put");
    far.invalidate(&name, Some(Version::new(4)), LONG).await.expect("an invalidation");
    far.invalidate(&name, None, LONG).await.expect("an invalidation");

    let expected = [
        format!("put {name} 1"),
        format!("committed {name} 2"),
        format!("put {name} 3"),
        format!("invalidated {name} Some(Version(4))"),
        format!("invalidated {name} None"),
    ];
    for recorder in &recorders {
        eventually(async || (recorder.about(&name).len() >= expected.len()).then_some(())).await;
        assert_eq!(recorder.about(&name), expected);
    }
}

/// Clause 9: wake-ups.
pub async fn who_waits_hears_of_the_end_of_the_lease<F: Far<String> + Clone>(far: F) {
    let recorders = recorders(&far).await;
    for end in ["release", "commit", "older", "fail"] {
        let name = fresh_name();
        if end == "older" {
            far.invalidate(&name, Some(Version::new(3)), LONG).await.expect("an invalidation");
        }
        let (token, _) = lease(&far, &name, LONG).await;
        for _ in 0..2 {
            let held = far.look_up_or_lease(&name, Token::random(), LONG, Duration::ZERO).await;
            assert!(matches!(held, Ok(Attempt::Held { .. })), "{held:?}");
        }
        match end {
            "release" => far.release(&name, token).await.expect("a release"),
            "fail" => far.fail(&name, token, LONG).await.expect("an answer"),
            _ => drop(far.commit(&name, token, record(&far, Some("a"), 2)).await.expect(end)),
        }
        let expected = match end {
            "commit" => format!("committed {name} 2"),
            _ => format!("released {name}"),
        };
        for recorder in &recorders {
            eventually(async || recorder.about(&name).contains(&expected).then_some(())).await;
        }
    }
}

/// Clause 9: quiet.
pub async fn what_nobody_waits_for_is_told_to_nobody<F: Far<String> + Clone>(far: F) {
    let name = fresh_name();
    let recorders = recorders(&far).await;
    let (token, _) = lease_soon(&far, &name).await;
    far.release(&name, token).await.expect("a release");
    for version in [1, 1] {
        let (token, _) = lease_soon(&far, &name).await;
        let _ = far.commit(&name, token, stale(&far, "a", version)).await.expect("a commit");
    }
    far.invalidate(&name, Some(Version::new(2)), LONG).await.expect("an invalidation");
    let (token, _) = lease_soon(&far, &name).await;
    let _ = far.commit(&name, token, record(&far, Some("a"), 1)).await.expect("refused as older");
    let (token, _) = lease_soon(&far, &name).await;
    far.fail(&name, token, LONG).await.expect("an answer");
    far.invalidate(&name, None, LONG).await.expect("an invalidation");

    let expected =
        [format!("invalidated {name} Some(Version(2))"), format!("invalidated {name} None")];
    for recorder in &recorders {
        eventually(async || (recorder.about(&name).len() >= expected.len()).then_some(())).await;
        assert_eq!(recorder.about(&name), expected);
    }
}

pub async fn a_dropped_call_leaves_a_consistent_store<F: Far<String> + Clone>(far: F) {
    for polls in 0..4 {
        let name = fresh_name();
        let (token, _) = lease(&far, &name, LONG).await;
        abandon(far.commit(&name, token, record(&far, Some("a"), 5)), polls).await;
        abandon(far.invalidate(&name, Some(Version::new(6)), LONG), polls).await;
        abandon(far.look_up_or_lease(&name, Token::random(), SHORT, Duration::ZERO), polls).await;
        // Whatever of these was carried out: an old value cannot be there after an
        // acknowledged invalidation, and the lease is free after its ttl.
        far.invalidate(&name, Some(Version::new(6)), LONG).await.expect("an invalidation");
        assert_eq!(value(&far, &name).await, None);
        let (token, grant) = lease_soon(&far, &name).await;
        assert_eq!(grant.minimum, Version::new(6));
        let stored = far.commit(&name, token, record(&far, Some("b"), 6)).await;
        assert!(matches!(stored, Ok(Commit::Stored(_))), "{stored:?}");
    }
}

/// Clause 13.
pub async fn an_entry_is_a_hit_only_if_it_stays_fresh_for_long_enough<F: Far<String> + Clone>(
    far: F,
) {
    let name = fresh_name();
    let _ = far.put(&name, record(&far, Some("a"), 3)).await.expect("a put");
    let ask = async |token, fresh_for| {
        far.look_up_or_lease(&name, token, LONG, fresh_for).await.expect("a look-up")
    };
    for fresh_for in [Duration::ZERO, Duration::from_nanos(1), LONG / 2] {
        let hit = ask(Token::random(), fresh_for).await;
        assert!(matches!(hit, Attempt::Hit(_)), "{fresh_for:?}: {hit:?}");
    }
    let elected = Token::random();
    let Attempt::Granted(grant) = ask(elected, LONG + SHORT).await else { panic!("not granted") };
    assert_eq!(grant.minimum, Version::new(3));
    let second = ask(Token::random(), LONG + SHORT).await;
    assert!(matches!(second, Attempt::Held { .. }), "{second:?}");
    let other = ask(Token::random(), Duration::ZERO).await;
    assert!(matches!(other, Attempt::Hit(_)), "fresh enough for the others: {other:?}");
    let refreshed = far.commit(&name, elected, record(&far, Some("b"), 4)).await;
    assert!(matches!(refreshed, Ok(Commit::Stored(_))), "{refreshed:?}");
    let hit = ask(Token::random(), LONG / 2).await;
    assert!(matches!(hit, Attempt::Hit(entry) if entry.version() == Version::new(4)));
    let forever = ask(Token::random(), Duration::MAX).await;
    assert!(matches!(forever, Attempt::Granted(_)), "{forever:?}");
}

/// Clause 14.
pub async fn a_failed_load_makes_everyone_back_off_until_a_put_or_an_invalidation<
    F: Far<String> + Clone,
>(
    far: F,
) {
    let name = fresh_name();
    let mut last_fence = 0;
    for ended_by in ["invalidate", "put", "nothing"] {
        let (token, grant) = lease_soon(&far, &name).await;
        assert!(grant.fence > last_fence, "{ended_by}");
        last_fence = grant.fence;
        for _ in 0..2 {
            far.fail(&name, token, LONG).await.expect("an answer");
        }
        far.release(&name, token).await.expect("an answer");
        assert_eq!(far.renew(&name, token, LONG).await.expect("an answer"), Renewal::Lost);
        let refused = far.commit(&name, token, record(&far, Some("late"), 9)).await;
        assert!(matches!(refused, Ok(Commit::Lost)), "{refused:?}");
        for asking in [token, Token::random(), Token::random()] {
            let asked = far.look_up_or_lease(&name, asking, LONG, Duration::ZERO).await;
            let Ok(Attempt::BackOff { remaining }) = asked else { panic!("{asked:?}") };
            // Some estimate a server's clock.
            assert!(remaining < LONG * 2 && remaining > LONG / 2, "{remaining:?}");
        }
        match ended_by {
            "invalidate" => drop(far.invalidate(&name, None, LONG).await.expect("an answer")),
            "put" => drop(far.put(&name, stale(&far, "put", 1)).await.expect("an answer")),
            _ => {}
        }
    }
}

/// Clause 14.
pub async fn failures_in_a_row_are_counted_until_a_load_succeeds<F: Far<String> + Clone>(far: F) {
    let name = fresh_name();
    let back_off = Duration::from_millis(80);
    let mut last_fence = 0;
    let (mut token, mut grant) = lease(&far, &name, LONG).await;
    for failures in 0..3 {
        assert_eq!(grant.failures, failures);
        assert!(grant.fence > last_fence, "{failures}");
        last_fence = grant.fence;
        let again = far.look_up_or_lease(&name, token, LONG, Duration::ZERO).await;
        assert!(matches!(again, Ok(Attempt::Granted(again)) if again == grant), "{again:?}");
        let begin = Instant::now();
        far.fail(&name, token, back_off).await.expect("an answer");
        (token, grant) = lease_soon(&far, &name).await;
        // The clocks of some step by a few milliseconds.
        assert!(begin.elapsed() > back_off - Duration::from_millis(20), "{:?}", begin.elapsed());
    }
    assert_eq!(grant.failures, 3);
    let stored = far.commit(&name, token, stale(&far, "a", 1)).await;
    assert!(matches!(stored, Ok(Commit::Stored(_))), "{stored:?}");
    let (_, grant) = lease_soon(&far, &name).await;
    assert_eq!(grant.failures, 0);
}

/// Clauses 7 and 14.
pub async fn only_the_holder_can_fail<F: Far<String> + Clone>(far: F) {
    let name = fresh_name();
    let (late, _) = lease(&far, &name, SHORT).await;
    let (current, _) = lease_soon(&far, &name).await;
    for stranger in [late, Token::random()] {
        far.fail(&name, stranger, LONG).await.expect("an answer");
        let held = far.look_up_or_lease(&name, Token::random(), LONG, Duration::ZERO).await;
        assert!(matches!(held, Ok(Attempt::Held { .. })), "{held:?}");
    }
    let stored = far.commit(&name, current, stale(&far, "a", 1)).await;
    assert!(matches!(stored, Ok(Commit::Stored(_))), "{stored:?}");
    far.fail(&name, current, LONG).await.expect("an answer");
    let (_, grant) = lease_soon(&far, &name).await;
    assert_eq!(grant.failures, 0);
}

pub async fn a_load_time_is_kept<F: Far<String> + Clone>(far: F) {
    let name = fresh_name();
    let took = Duration::from_micros(1_250_001);
    let timed = |value: Option<&str>, version: u64| {
        let mut record = record(&far, value, version);
        let entry = Entry::new(
            record.entry.value().cloned(),
            record.entry.version(),
            record.entry.fresh_until(),
        );
        record.entry = Arc::new(entry.loaded_in(took));
        record
    };
    let (token, _) = lease(&far, &name, LONG).await;
    let Ok(Commit::Stored(entry)) = far.commit(&name, token, timed(Some("a"), 1)).await else {
        panic!("refused")
    };
    assert_eq!(entry.load_time(), took);
    let hit = far.look_up_or_lease(&name, token, LONG, Duration::ZERO).await;
    assert!(matches!(hit, Ok(Attempt::Hit(entry)) if entry.load_time() == took));
    let mut absent = timed(None, 0);
    absent.version = None;
    let Ok(Put::Stored(entry)) = far.put(&name, absent).await else { panic!("refused") };
    assert_eq!(entry.load_time(), took);
    let found = far.read(&name).await.expect("a read").expect("an entry");
    assert_eq!((found.value(), found.load_time()), (None, took));
    let _ = far.put(&name, record(&far, Some("of unknown origin"), 1)).await.expect("a put");
    let found = far.read(&name).await.expect("a read").expect("an entry");
    assert_eq!(found.load_time(), Duration::ZERO);
}

pub async fn many_names_are_read_in_their_order<F: Far<String> + Clone>(far: F) {
    assert!(far.read_many(&[]).await.is_empty());
    let names: Vec<String> = (0..1100).map(|_| fresh_name()).collect();
    for at in (0..names.len()).step_by(100) {
        let value = at.to_string();
        let _ = far.put(&names[at], record(&far, Some(&value), 1)).await.expect("a put");
    }
    far.invalidate(&names[100], None, LONG).await.expect("an invalidation");
    let _ = far.put(&names[200], record(&far, None, 1)).await.expect("a put");
    let asked: Vec<&str> = names.iter().map(String::as_str).collect();
    let found = far.read_many(&asked).await;
    assert_eq!(found.len(), names.len());
    for (at, found) in found.into_iter().enumerate() {
        let found = found.expect("a read");
        let value = found.as_ref().map(|entry| entry.value().cloned());
        let expected = match at {
            100 => None,
            200 => Some(None),
            _ => (at % 100 == 0).then(|| Some(at.to_string())),
        };
        assert_eq!(value, expected, "{at}");
    }
}

/// Polls a future a few times and drops it.
async fn abandon<T>(future: impl Future<Output = T>, polls: usize) {
    let mut future = Box::pin(future);
    for _ in 0..polls {
        if (&mut future).now_or_never().is_some() {
            return;
        }
        tokio::task::yield_now().await;
    }
}

/// Its tags and windows, in the eyes of guards that share the tier.
pub async fn an_entry_keeps_its_terms<F: Far<String> + Clone>(far: F) {
    let guard = || Guard::<str, String>::builder().tags().far(far.clone()).build();
    let (one, other) = (guard(), guard());
    let (found, absent, tag) = (fresh_name(), fresh_name(), fresh_name());
    let terms = |loaded: Loaded<String>| loaded.tag(&tag).grace(LONG).stale_if_error(SHORT);
    let row = terms(Loaded::found("a".to_owned(), 1));
    let _ = one.put(&found, row).await.expect("a put");
    let _ = one.put(&absent, terms(Loaded::absent().version(2))).await.expect("a put");
    let written = far.read(&found).await.expect("a read").expect("an entry");
    let again = far.read(&absent).await.expect("a read").expect("an entry");
    assert_eq!(written.value().map(String::as_str), Some("a"));
    assert!(written.terms().is_some() && written.terms() == again.terms());
    for name in [&found, &absent] {
        assert!(other.find(name).await.is_some());
    }
    one.invalidate_tag(&tag).await.expect("a purge");
    let purged = async || {
        let found = (other.find(&found).await, other.find(&absent).await);
        matches!(found, (None, None)).then_some(())
    };
    eventually(purged).await;
    let load = || async { Ok::<_, std::io::Error>(Some(("b".to_owned(), 3_i64))) };
    let loaded = other.fetch(&found, load).await.expect("a load");
    assert_eq!(loaded.version(), Version::new(3));
    assert!(one.fetch(&found, load).await.expect("an entry").is_hit());
}
