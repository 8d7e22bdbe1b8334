use std::{io, sync::Arc};

use cattleguard::{Guard, GuardLayer, Loaded, Version};
use parking_lot::Mutex;
use tokio::time::Instant;
use tower::{Layer, ServiceExt, service_fn};
use tracing::{Dispatch, subscriber::NoSubscriber};

use super::{FETCHES, FLIGHTS, LOADS, Recorder, Rows, Spans, tally, watched, word};
use crate::{
    Origin, answer, answers, bounded, caller, callers, idle, memory, ms,
    origin::{Broken, Reply},
    plain, secs,
    wire::{Break, Call, Wire},
};

/// Every way to be answered, one after the other; no word may be missing at the end.
#[tokio::test(start_paused = true)]
async fn each_caller_is_counted_once_as_what_value_and_span_say() {
    let spans = Spans::default();
    let subscriber = Dispatch::new(spans.subscriber());
    // See `quiet`.
    let _second = Dispatch::new(NoSubscriber::default());
    let _default = tracing::dispatcher::set_default(&subscriber);
    let recorder = Recorder::default();
    // All the time, so that it hears what is registered later.
    let _current = metrics::set_default_local_recorder(&recorder);
    let mut said = Vec::new();

    let far = memory();
    let policy = plain().ttl(secs(2)).grace(secs(2)).stale_if_error(secs(60)).soft_timeout(ms(900));
    let policy = policy.failure_backoff(secs(1)).wait_timeout(secs(3)).load_timeout(secs(3));
    let policy = policy.max_concurrent_loads(2).max_queued_loads(0).near_ttl(secs(60));
    let one = watched(&recorder, far.clone(), policy.clone());
    let two = watched(&recorder, far.clone(), policy.clone());
    let from_the_start = recorder.series();

    // Near and far hits, followers, and those who wait for another process.
    let origin = Origin::taking(ms(100));
    let mut herd = callers(&one, 3, "xyzzy-a", &origin);
    herd.extend(callers(&two, 3, "xyzzy-a", &origin));
    said.extend(answers(herd).await.iter().map(word));
    said.push(word(&answer(caller(&one, "xyzzy-b", &origin)).await));
    said.push(word(&one.fetch("xyzzy-b", origin.load()).await));
    said.push(word(&two.fetch("xyzzy-b", origin.load()).await));
    // Stale ones, near and far, and those who come while they are refreshed.
    tokio::time::sleep(secs(2)).await;
    let fresh = watched(&recorder, far.clone(), policy.clone());
    for guard in [&one, &one, &fresh, &fresh] {
        said.push(word(&guard.fetch("xyzzy-b", origin.load()).await));
    }
    idle().await;

    // An origin that fails, here and elsewhere, is slow, or has no room.
    tokio::time::sleep(secs(20)).await;
    origin.next(Reply::Fail);
    said.push(word(&one.fetch("xyzzy-b", origin.load()).await));
    tokio::time::sleep(secs(20)).await;
    origin.next(Reply::Never);
    said.push(word(&one.fetch("xyzzy-b", origin.load()).await));
    tokio::time::sleep(secs(4)).await;
    for reply in [Reply::Fail, Reply::Panic, Reply::PanicInClosure, Reply::Never] {
        origin.next(reply);
        said.push(word(&one.fetch("xyzzy-c", origin.load()).await));
        said.push(word(&two.fetch("xyzzy-c", origin.load()).await));
        tokio::time::sleep(secs(60)).await;
    }
    said.push(word(&one.fetch("xyzzy-a", origin.load()).await));
    tokio::time::sleep(secs(5)).await;
    let slow = Origin::taking(ms(500));
    let herd: Vec<_> = ["xyzzy-d", "xyzzy-e"].map(|key| caller(&one, key, &slow)).into();
    idle().await;
    for key in ["xyzzy-a", "xyzzy-f"] {
        said.push(word(&one.fetch(key, origin.load()).await));
    }
    said.extend(answers(herd).await.iter().map(word));
    let slow = Origin::taking(secs(2));
    let held = caller(&one, "xyzzy-g", &slow);
    idle().await;
    let short = watched(&recorder, far.clone(), policy.clone().wait_timeout(ms(50)));
    said.push(word(&short.fetch("xyzzy-g", origin.load()).await));
    let soon = Instant::now() + ms(50);
    said.push(word(&one.fetch_by("xyzzy-g", soon, origin.load()).await));
    said.push(word(&answer(held).await));
    one.invalidate_at("xyzzy-h", 5).await.expect("the far tier");
    said.push(word(&one.fetch("xyzzy-h", origin.load()).await));

    // A far tier that is away, a loader that asks for its own key, a guard that is shut down.
    let wire = Wire::to(&memory());
    let cut = watched(&recorder, wire.clone(), policy);
    wire.fault_all(&Break::Error);
    said.push(word(&cut.fetch("xyzzy-i", origin.load()).await));
    wire.heal();
    wire.fault(Call::LookUp, Break::Refuse);
    said.push(word(&cut.fetch("xyzzy-q", origin.load()).await));
    // What may not be kept.
    for _ in 0..2 {
        origin.next(Reply::Loaded(Loaded::found("row".to_owned(), 1).uncacheable()));
        said.push(word(&one.fetch("xyzzy-r", origin.load()).await));
    }
    let inner = Arc::new(Mutex::new(""));
    let loader = (one.clone(), inner.clone(), origin.clone());
    let nested = one.fetch("xyzzy-j", move || {
        let (guard, inner, origin) = loader.clone();
        async move {
            *inner.lock() = word(&guard.fetch("xyzzy-j", origin.load()).await);
            Err::<Loaded<String>, _>(Broken)
        }
    });
    said.push(word(&bounded(nested).await));
    said.push(*inner.lock());
    let _ = two.shutdown(secs(1)).await;
    said.push(word(&two.fetch("xyzzy-k", origin.load()).await));

    // Batches: hits, loads, nested, stale, followed.
    let single = caller(&one, "xyzzy-l", &Origin::taking(ms(500)));
    idle().await;
    let keys = ["xyzzy-h", "xyzzy-l", "xyzzy-m", "xyzzy-n", "xyzzy-m"];
    for guard in [&one, &one, &two] {
        let many = guard.fetch_many(&keys, async |keys: Vec<&'static str>| {
            let row = |key| (key, Loaded::found("row".to_owned(), Version::from(9)));
            Ok::<_, Broken>(keys.into_iter().map(row).collect())
        });
        said.extend(bounded(many).await.iter().map(word));
    }
    said.push(word(&answer(single).await));

    // The service, with a key and without.
    let requests: Guard<&'static str, String> =
        recorder.during(|| Guard::builder().name("users").far(memory()).build());
    let service = GuardLayer::new(requests, |request: &Option<&'static str>| *request);
    let service = service.layer(service_fn(async |request: Option<&'static str>| match request {
        Some("xyzzy-o") | None => Ok(Loaded::found("row".to_owned(), 1)),
        Some(_) => Err(io::Error::other("no such row")),
    }));
    for request in [Some("xyzzy-o"), Some("xyzzy-o"), None, Some("xyzzy-p")] {
        said.push(word(&service.clone().oneshot(request).await));
    }

    let said = tally(said);
    assert_eq!(recorder.counters(FETCHES, "outcome"), said);
    assert_eq!(spans.tally(), said);
    let waited = recorder.samples("cattleguard_fetch_seconds").len() as u64;
    assert_eq!(waited, said.values().sum::<u64>() - said["hit_near"]);
    assert_eq!(recorder.total("cattleguard_fetches_dropped_total"), 0);

    // Each word that there is was said, but for the end of the runtime and what writes only get.
    let series = recorder.series();
    let words = series.iter().filter(|series| series.name == FETCHES);
    let unsaid: Vec<_> = words
        .map(|series| series.labels["outcome"].as_str())
        .filter(|word| !said.contains_key(*word))
        .collect();
    assert_eq!(unsaid, ["error_abandoned", "error_far", "error_negative_version"]);
    // No key has become a label, and nothing has that was not there before the first one came.
    assert_eq!(series, from_the_start);
    assert!(!format!("{series:?}").contains("xyzzy"));
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_goes_away_is_counted_as_that_and_nothing_else() {
    let recorder = Recorder::default();
    let guard = watched(&recorder, memory(), plain());
    let (origin, gate) = Origin::gated();
    assert!(tokio::time::timeout(ms(5), guard.fetch("a", origin.load())).await.is_err());
    let many = guard.fetch_many(&["b", "c"], |_| std::future::pending::<Rows>());
    assert!(tokio::time::timeout(ms(5), many).await.is_err());
    // Not one of these has begun.
    drop(guard.fetch("d", origin.load()));
    assert_eq!(recorder.total("cattleguard_fetches_dropped_total"), 3);
    assert_eq!(recorder.total(FETCHES), 0);
    assert_eq!(recorder.gauge(FLIGHTS), 3.0);
    gate.open();
    tokio::time::sleep(secs(20)).await;
    assert_eq!(recorder.gauge(FLIGHTS), 0.0);
}

#[tokio::test(start_paused = true)]
async fn near_hits_are_counted_and_not_timed() {
    let recorder = Recorder::default();
    let guard = watched(&recorder, memory(), plain());
    let origin = Origin::taking(ms(50));
    for _ in 0..10 {
        guard.fetch("a", origin.load()).await.expect("a value");
    }
    assert_eq!(recorder.counter(FETCHES, "outcome", "hit_near"), 9);
    assert_eq!(recorder.samples("cattleguard_fetch_seconds"), [0.05]);
}

#[tokio::test(start_paused = true)]
async fn guards_are_told_apart_by_their_names() {
    let recorder = Recorder::default();
    let [users, products] = ["users", "products"].map(|name| {
        recorder.during(|| Guard::<str, String>::builder().name(name).far(memory()).build())
    });
    let origin = Origin::new();
    users.fetch("a", origin.load()).await.expect("a value");
    products.fetch("a", origin.load()).await.expect("a value");
    let loads = recorder.counters(LOADS, "guard");
    assert_eq!(loads, tally(["users", "products"]));
    let of = |guard: &str| {
        let series = recorder.series().into_iter();
        series.filter(|series| series.labels["guard"] == guard).count()
    };
    assert_eq!(of("users"), of("products"));
}
