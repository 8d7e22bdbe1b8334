//! What the hook of a guard is told, and what the log lines of a guard say of it.

use std::{
    collections::BTreeSet,
    fmt::Debug,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    time::Duration,
};

use cattleguard::{
    Error, FaultKind, GuardEventKind as Kind, Loaded, Outcome, Policy, Refusal, StaleReason, Tier,
    Version, Write,
    far::{Far, Invalidated},
};
use parking_lot::Mutex;
use tracing::{
    Dispatch, Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
    subscriber::NoSubscriber,
};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt},
};

use crate::{
    Origin, TestGuard, answer, answers, builder, callers, guard_on, idle, memory, ms,
    origin::{Broken, Reply, row_at},
    plain, secs,
    wire::{Break, Call, Wire},
};

/// Everything that a hook was told.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<WithKey>>>);

type WithKey = (Kind, Option<String>);

impl Told {
    fn guard(&self, far: impl Far<String>, policy: Policy) -> TestGuard {
        let told = self.clone();
        builder()
            .name("users")
            .policy(policy)
            .far(far)
            .event_keys()
            .on_event(move |event| {
                assert_eq!(event.guard(), "users");
                told.0.lock().push((event.kind(), event.key().map(str::to_owned)));
            })
            .build()
    }

    /// What was told since this was asked last.
    fn take(&self) -> Vec<WithKey> {
        std::mem::take(&mut *self.0.lock())
    }

    /// The same, if it is all about this key.
    fn about(&self, key: &str) -> Vec<Kind> {
        let of = |(kind, about): WithKey| {
            assert_eq!(about.as_deref(), Some(key), "{kind:?}");
            kind
        };
        self.take().into_iter().map(of).collect()
    }
}

fn ended(result: &'static str, took: Duration) -> Kind {
    Kind::LoadEnded { result, took }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_each_load_is_told_once_however_many_wait_and_however_it_ends() {
    let told = Told::default();
    let guard = told.guard(memory(), plain().load_timeout(secs(2)));
    let origin = Origin::taking(ms(50));
    let ends = [
        (Reply::Row, "ok", ms(50)),
        (Reply::Fail, "error_origin", ms(50)),
        (Reply::Panic, "error_load_panicked", ms(50)),
        (Reply::Never, "error_load_timeout", secs(2)),
    ];
    for ((reply, result, took), key) in ends.into_iter().zip(["a", "b", "c", "d"]) {
        origin.next(reply);
        answers(callers(&guard, 20, key, &origin)).await;
        assert_eq!(told.about(key), [ended(result, took)]);
    }
    let none = async |_| Ok::<_, Broken>(Vec::new());
    guard.fetch_many(&["e", "f", "g"], none).await;
    assert_eq!(told.take(), [(ended("ok", secs(0)), None)]);
    // A panic that unwinds through what tells of it.
    guard
        .fetch_many(&["h", "i"], |_| async { panic!("the load panics") as Result<_, Broken> })
        .await;
    assert_eq!(told.take(), [(ended("error_load_panicked", secs(0)), None)]);
}

#[tokio::test(start_paused = true)]
async fn near_and_far_hits_are_not_told() {
    let told = Told::default();
    let far = memory();
    let guard = told.guard(far.clone(), plain());
    let origin = Origin::new();
    guard.fetch("a", origin.load()).await.expect("a value");
    assert_eq!(told.take().len(), 1);
    for _ in 0..100 {
        guard.fetch("a", origin.load()).await.expect("a value");
        assert!(guard.peek("a").is_some());
    }
    guard_on(far).fetch("b", origin.load()).await.expect("a value");
    let fetched = guard.fetch("b", origin.load()).await.expect("a value");
    assert_eq!(fetched.outcome(), Outcome::Hit(Tier::Far));
    assert_eq!(told.take(), []);
}

#[tokio::test(start_paused = true)]
async fn each_caller_that_is_served_something_stale_is_told_with_why_and_how_old_it_is() {
    let told = Told::default();
    let policy = plain().ttl(secs(2)).near_ttl(secs(60)).grace(secs(10)).stale_if_error(secs(60));
    let guard = told.guard(memory(), policy);
    let origin = Origin::taking(ms(100));
    answers(callers(&guard, 2, "a", &origin)).await;
    tokio::time::sleep(secs(5)).await;
    told.take();
    answers(callers(&guard, 3, "a", &origin)).await;
    // The load began at 0 s, and its entry was there at 100 ms.
    let stale = Kind::ServedStale { outcome: Outcome::Stale(Tier::Near), beyond: secs(3) };
    assert_eq!(told.about("a"), [stale; 3]);
    tokio::time::sleep(secs(22) + ms(100)).await;
    assert_eq!(told.about("a"), [ended("ok", ms(100))]);
    origin.next(Reply::Fail);
    answers(callers(&guard, 2, "a", &origin)).await;
    let failed = Kind::ServedStale {
        outcome: Outcome::StaleIfError(StaleReason::Failed),
        beyond: secs(20) + ms(100),
    };
    assert_eq!(told.about("a"), [ended("error_origin", ms(100)), failed, failed]);
}

#[tokio::test(start_paused = true)]
async fn a_lost_lease_and_a_refused_load_are_told_once_each() {
    let told = Told::default();
    let far = memory();
    let guard = told.guard(far.clone(), plain().lease_ttl(secs(3)).load_timeout(secs(5)));
    let other = guard_on(far);
    let origin = Origin::taking(secs(4));
    let herd = callers(&guard, 3, "a", &origin);
    idle().await;
    other.invalidate("a").await.map(drop).expect("the far tier");
    tokio::time::sleep(secs(2)).await;
    assert_eq!(told.about("a"), [Kind::LeaseLost]);
    answers(herd).await;
    let refused = |why| Kind::LoadRefused { why };
    assert_eq!(told.about("a"), [ended("ok", secs(4)), refused(Refusal::LeaseLost)]);

    let origin = Origin::new();
    other.invalidate_at("b", 5).await.map(drop).expect("the far tier");
    origin.next(Reply::Version(4)).next(Reply::Version(5));
    guard.fetch("b", origin.load()).await.expect("a value");
    let ok = ended("ok", secs(0));
    assert_eq!(told.about("b"), [ok, refused(Refusal::Outdated), ok]);
}

#[tokio::test(start_paused = true)]
async fn what_became_of_each_write_is_told_once() {
    let told = Told::default();
    let wire = Wire::to(&memory());
    let guard = told.guard(wire.clone(), plain());
    guard.put("a", row_at(2)).await.map(drop).expect("the far tier");
    guard.put("a", row_at(1)).await.map(drop).expect("the far tier");
    let minimum = Version::new(2);
    let put = |result| Kind::Put { result };
    assert_eq!(told.about("a"), [put(Ok(Write::Stored)), put(Ok(Write::Older { minimum }))]);
    guard.invalidate("a").await.map(drop).expect("the far tier");
    guard.invalidate_at("a", 3).confirmed(1, ms(10)).await.map(drop).expect("the far tier");
    let invalidated = |result| Kind::Invalidated { result };
    let unreplicated = invalidated(Ok(Invalidated::Unreplicated { replicas: 0 }));
    assert_eq!(told.about("a"), [invalidated(Ok(Invalidated::Everywhere)), unreplicated]);
    // Refused for good: no more is made of it.
    wire.fault_all(&Break::Refuse);
    guard.put("a", row_at(2)).await.expect_err("refused");
    guard.invalidate("a").await.expect_err("refused");
    let refused = FaultKind::Refused;
    assert_eq!(told.about("a"), [put(Err(refused)), invalidated(Err(refused))]);
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_of_a_tag_is_told_once_and_without_a_key() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let hook = told.clone();
    let guard = builder()
        .tags()
        .event_keys()
        .on_event(move |event| hook.lock().push((event.kind(), event.key().map(str::to_owned))))
        .build();
    guard.invalidate_tag("red").await.map(drop).expect("the far tier");
    guard.clear().await.map(drop).expect("the far tier");
    let everywhere = Kind::Invalidated { result: Ok(Invalidated::Everywhere) };
    assert_eq!(*told.lock(), [(everywhere, None), (everywhere, None)]);
    told.lock().clear();
    // A key that begins as the names do that the guard makes itself.
    guard.invalidate("\0t").await.map(drop).expect("the far tier");
    assert_eq!(*told.lock(), [(everywhere, Some("\0t".to_owned()))]);
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_told_as_it_begins_and_ends_and_each_pending_invalidation_with_its_end() {
    let told = Told::default();
    let wire = Wire::to(&memory());
    let guard = told.guard(wire.clone(), plain());
    wire.fault_all(&Break::Error);
    let why = FaultKind::Unreachable;
    let failed = Kind::Invalidated { result: Err(why) };
    guard.invalidate("a").await.expect_err("nobody there");
    let key = Some("a".to_owned());
    let pending = (Kind::InvalidationPending { why }, key.clone());
    let away = (Kind::FarAway { why }, None);
    assert_eq!(told.take(), [pending, away, (failed, key.clone())]);
    for _ in 0..3 {
        guard.invalidate("a").await.expect_err("nobody there");
    }
    assert_eq!(told.about("a"), [failed; 3]);
    // Nothing is told while nothing changes.
    tokio::time::sleep(secs(5)).await;
    assert_eq!(told.take(), []);
    wire.heal();
    tokio::time::sleep(secs(1)).await;
    assert_eq!(told.take(), [(Kind::InvalidationSent, key.clone()), (Kind::FarBack, None)]);

    // One that is refused for now, and for good in the end, without an outage.
    wire.fault(Call::Invalidate, Break::Busy);
    guard.invalidate("a").await.expect_err("busy");
    wire.fault(Call::Invalidate, Break::Refuse);
    tokio::time::sleep(secs(1)).await;
    let why = FaultKind::Busy;
    let lost = Kind::InvalidationLost { why: FaultKind::Refused };
    let failed = Kind::Invalidated { result: Err(why) };
    assert_eq!(told.about("a"), [Kind::InvalidationPending { why }, failed, lost]);
}

#[tokio::test(start_paused = true)]
async fn events_say_no_key_unless_they_are_asked_for() {
    const KEY: &str = "secret-key-xyzzy";
    let text = Arc::new(Mutex::new(String::new()));
    let far = memory();
    let wire = Wire::to(&far);
    let guard = |has_keys: bool| {
        let text = text.clone();
        let builder = builder().policy(plain().grace(secs(9)).ttl(secs(1))).far(wire.clone());
        let builder = builder.on_event(move |event| {
            assert_eq!(event.key().is_some(), has_keys && !format!("{event:?}").contains("Far"));
            text.lock().push_str(&format!(
                "{event:?} {:?} {}\n",
                event.kind(),
                event.kind().as_str()
            ));
        });
        if has_keys { builder.event_keys().build() } else { builder.build() }
    };
    for has_keys in [false, true] {
        let guard = guard(has_keys);
        let origin = Origin::new();
        origin.write(5);
        guard.fetch(KEY, origin.load()).await.expect("a value");
        tokio::time::sleep(secs(3)).await;
        guard.fetch(KEY, origin.load()).await.expect("something stale");
        idle().await;
        guard.put(KEY, row_at(3)).await.map(drop).expect("the far tier");
        wire.fault_all(&Break::Error);
        guard.invalidate(KEY).await.expect_err("nobody there");
        wire.heal();
        tokio::time::sleep(secs(1)).await;
    }
    let text = text.lock();
    for word in ["load_ended", "served_stale", "put", "far_away", "invalidation_sent", "far_back"] {
        assert_eq!(text.matches(word).count(), if word == "load_ended" { 4 } else { 2 }, "{word}");
    }
    assert!(!text.contains("xyzzy"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_panics_harms_nothing() {
    let told = Arc::new(AtomicUsize::new(0));
    let hook = told.clone();
    let wire = Wire::to(&memory());
    let guard = builder()
        .policy(plain().ttl(secs(1)).grace(secs(9)))
        .far(wire.clone())
        .on_event(move |_| {
            hook.fetch_add(1, SeqCst);
            panic!("the hook panics");
        })
        .build();
    let origin = Origin::new();
    for answer in answers(callers(&guard, 3, "a", &origin)).await {
        answer.expect("a value");
    }
    tokio::time::sleep(secs(2)).await;
    guard.fetch("a", origin.load()).await.expect("something stale");
    wire.fault_all(&Break::Error);
    guard.invalidate("a").await.expect_err("nobody there");
    wire.heal();
    tokio::time::sleep(secs(1)).await;
    guard.put("a", row_at(7)).await.map(drop).expect("the far tier is back");
    assert_eq!(origin.loads(), 2);
    assert_eq!(guard.flights(), 0);
    // Both loads, something stale, pending, away, failed, sent, back, put.
    assert_eq!(told.load(SeqCst), 9);
    guard.fetch_many(&["b"], |_| async { panic!("the load panics") as Result<_, Broken> }).await;
    assert_eq!(told.load(SeqCst), 10);
}

/// Whether another thread can do all that takes a lock: it could not if the hook ran under one.
fn are_locks_free(guard: &TestGuard) -> bool {
    let (guard, runtime) = (guard.clone(), tokio::runtime::Handle::current());
    let (done, is_done) = mpsc::channel();
    std::thread::spawn(move || {
        let _within = runtime.enter();
        // The locks of all names, of the near tier and of the back-offs; with a far tier that takes no puts that of
        // the pending invalidations.
        let flights = guard.flights();
        let peeked = guard.peek("a").is_some();
        let put = futures::executor::block_on(guard.put("b", row_at(1)));
        let _ = done.send((flights, peeked, put.is_err()));
    });
    is_done.recv_timeout(secs(20)).is_ok()
}

#[tokio::test(start_paused = true)]
async fn the_hook_runs_without_a_lock_and_may_call_the_guard() {
    let shared = Arc::new(OnceLock::<TestGuard>::new());
    let (checked, inside) = (Arc::new(Mutex::new(BTreeSet::new())), AtomicUsize::new(0));
    let wire = Wire::to(&memory());
    let hook = (shared.clone(), checked.clone());
    let guard = builder()
        .policy(plain().ttl(secs(1)).grace(secs(9)))
        .far(wire.clone())
        .on_event(move |event| {
            let (shared, checked) = &hook;
            let guard = shared.get().expect("it is built");
            let word = event.kind().as_str();
            // Not of what the check itself causes, and once for each: it makes an invalidation pending.
            if inside.fetch_add(1, SeqCst) == 0 && !checked.lock().contains(word) {
                assert!(are_locks_free(guard), "{word}");
                checked.lock().insert(word);
                let guard = guard.clone();
                tokio::spawn(async move { guard.invalidate("c").await.map(drop) });
            }
            inside.fetch_sub(1, SeqCst);
        })
        .build();
    // A circle, as the documentation says: for the length of the test.
    let _ = shared.set(guard.clone());
    let origin = Origin::new();
    // For the puts of the check.
    wire.fault(Call::Put, Break::Busy);
    answer(callers(&guard, 1, "a", &origin).remove(0)).await.expect("a value");
    tokio::time::sleep(secs(2)).await;
    guard.fetch("a", origin.load()).await.expect("something stale");
    wire.fault(Call::Invalidate, Break::Error);
    guard.invalidate("a").await.expect_err("nobody there");
    wire.heal();
    wire.fault(Call::Put, Break::Busy);
    tokio::time::sleep(secs(2)).await;
    let told = [
        "far_away",
        "far_back",
        "invalidated",
        "invalidation_pending",
        "invalidation_sent",
        "load_ended",
        "served_stale",
    ];
    assert_eq!(*checked.lock(), told.into_iter().collect());
}

/// The spans and events of a guard that do not say which, and all that were seen.
#[derive(Clone, Default)]
struct Unnamed(Arc<Mutex<(BTreeSet<String>, BTreeSet<String>)>>);

impl Unnamed {
    fn check(&self, metadata: &Metadata<'_>, record: impl FnOnce(&mut dyn Visit)) {
        let target = metadata.target();
        let of_a_guard = ["guard", "near", "observe", "refused"];
        if !of_a_guard.iter().any(|part| target.starts_with(&format!("cattleguard::{part}"))) {
            return;
        }
        let mut named = Named { is: false, says: metadata.name().to_owned() };
        record(&mut named);
        let mut seen = self.0.lock();
        if !named.is {
            seen.0.insert(named.says.clone());
        }
        seen.1.insert(named.says);
    }
}

impl<S: Subscriber> Layer<S> for Unnamed {
    fn on_new_span(&self, span: &span::Attributes<'_>, _: &span::Id, _: Context<'_, S>) {
        self.check(span.metadata(), |visit| span.record(visit));
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        self.check(event.metadata(), |visit| event.record(visit));
    }
}

struct Named {
    is: bool,
    says: String,
}

impl Visit for Named {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.is |= field.name() == "guard" && value == "users";
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.says = format!("{value:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn each_span_and_log_line_of_a_guard_names_it() {
    let unnamed = Unnamed::default();
    let subscriber = Dispatch::new(tracing_subscriber::registry().with(unnamed.clone()));
    // See `quiet`.
    let _second = Dispatch::new(NoSubscriber::default());
    let _default = tracing::dispatcher::set_default(&subscriber);

    let far = memory();
    let wire = Wire::to(&far);
    let policy = plain().lease_ttl(ms(300)).load_timeout(secs(2)).failure_backoff(ms(10));
    let named = || builder().name("users").policy(policy.clone());
    let guard = named().far(wire.clone()).on_event(|_| panic!("the hook panics")).build();
    let other = named().far(far.clone()).size_of(|_| panic!("the size function panics")).build();
    let origin = Origin::taking(secs(1));
    // A miss and its waiter, a hit, a lease that is lost.
    let herds = [callers(&guard, 2, "a", &origin), callers(&other, 2, "a", &origin)];
    for herd in herds {
        answers(herd).await;
    }
    guard.fetch("a", origin.load()).await.expect("a value");
    let herd = callers(&guard, 1, "b", &origin);
    idle().await;
    other.invalidate_at("b", 2).confirmed(1, ms(1)).await.map(drop).expect("the far tier");
    answers(herd).await;
    let _ = guard.fetch("b", origin.load()).await;
    tokio::time::sleep(secs(1)).await;
    origin.next(Reply::Loaded(Loaded::found("v9".to_owned(), 9).tag("red")));
    let _ = guard.fetch("b", origin.load()).await;
    // Failures, a back-off that is not shared, a lease that is not released, an outage, a lost invalidation.
    for call in [Call::Fail, Call::Release, Call::Renew] {
        wire.fault(call, Break::Refuse);
    }
    origin.next(Reply::Fail);
    let _: Error = guard.fetch("c", origin.load()).await.expect_err("the load fails");
    wire.fault_all(&Break::Error);
    let _ = guard.invalidate("a").await;
    wire.heal();
    tokio::time::sleep(secs(1)).await;
    wire.fault(Call::Invalidate, Break::Busy);
    let _ = guard.invalidate("a").await;
    wire.fault(Call::Invalidate, Break::Refuse);
    tokio::time::sleep(secs(1)).await;
    wire.tell(cattleguard::far::Event::Disconnected);

    let (unnamed, seen) = unnamed.0.lock().clone();
    assert_eq!(unnamed, BTreeSet::new());
    for says in [
        "fetch",
        "flight",
        "load",
        "another process holds the lease",
        "lease lost while loading",
        "commit refused: something newer came between",
        "load refused: older than the record",
        "a load names tags: not kept; see `GuardBuilder::tags`",
        "flight failed",
        "failure not shared",
        "lease renewal failed",
        "the far tier is away; going on without it",
        "the far tier is back",
        "an invalidation is lost",
        "far tier messages stopped",
        "a size function panicked: the value is not kept near",
        "the event hook panicked",
    ] {
        assert!(seen.contains(says), "{says} is not in {seen:#?}");
    }
}
