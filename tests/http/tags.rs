//! Tags while the far tier fails, and what the metrics count of them.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use cattleguard::{
    far::{Event, Invalidated},
    memory::MemoryFar,
};
use futures::future::join_all;
use tokio::sync::Notify;
use tower::service_fn;

use super::{
    wire::{Break, Call},
    *,
};

type Wire = super::wire::Wire<StoredResponse>;

#[path = "../guard/metrics/recorder.rs"]
#[expect(dead_code, reason = "the tests of the guard use the rest")]
mod recorder;

const FRESH: (&str, &str) = ("cache-control", "max-age=60");
const SHOP_NEWS: (&str, &str) = ("surrogate-key", "shop news");

/// Numbers its runs; every page has the tags `shop` and `news`.
fn tagged() -> Origin {
    numbered(&[FRESH, SHOP_NEWS])
}

fn numbered(fields: Fields<'static>) -> Origin {
    let runs = AtomicUsize::new(0);
    Origin::new(move |_| {
        response(200, fields, &format!("run {}", runs.fetch_add(1, Ordering::SeqCst) + 1))
    })
}

/// A process of its own, with its way to the far tier.
fn process(memory: &MemoryFar<StoredResponse>) -> (HttpGuardLayer, Wire) {
    let wire = Wire::to(memory);
    let builder = Guard::builder().policy(policy()).far(wire.clone());
    (HttpGuardLayer::new(builder).tag_field(HeaderName::from_static("surrogate-key")), wire)
}

fn memory() -> MemoryFar<StoredResponse> {
    MemoryFar::with(1_000, Clock::tokio())
}

fn heal(wire: &Wire) {
    wire.heal();
    wire.tell(Event::Connected);
}

/// The names under which the guard keeps what it knows of tags.
fn of_tags(name: &str) -> bool {
    name.starts_with('\0')
}

const KINDS: [Break; 3] = [Break::Error, Break::Hang, Break::Busy];

#[tokio::test(start_paused = true)]
async fn after_an_acknowledged_purge_nothing_old_is_served_even_if_the_far_tier_falls_silent() {
    for kind in KINDS {
        for names in [of_tags as fn(&str) -> bool, |_| true] {
            let (origin, memory) = (tagged(), memory());
            let ((layer, wire), (other, others_wire)) = (process(&memory), process(&memory));
            let caches = [layer.layer(origin.service()), other.layer(origin.service())];
            for cache in &caches {
                assert_eq!(get(cache, "/a", &[]).await.text(), "run 1");
                assert!(get(cache, "/a", &[]).await.is_hit());
            }
            assert_eq!(layer.purge_tag("shop").await.expect("purged"), Invalidated::Everywhere);
            wire.fault_about(names, &kind);
            others_wire.fault_about(names, &kind);
            for cache in &caches {
                for _ in 0..3 {
                    assert_ne!(get(cache, "/a", &[]).await.text(), "run 1", "{kind:?}");
                }
            }
            heal(&wire);
            heal(&others_wire);
            tokio::time::sleep(secs(5)).await;
            for cache in &caches {
                assert_ne!(get(cache, "/a", &[]).await.text(), "run 1", "{kind:?}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_purge_that_failed_the_process_serves_nothing_old() {
    for kind in KINDS {
        // All that a purge asks for fails, or only what it asks for first.
        for names in [of_tags as fn(&str) -> bool, |name| name == "\0s", |_| true] {
            let origin = tagged();
            let (layer, wire) = process(&memory());
            let cache = layer.layer(origin.service());
            get(&cache, "/a", &[]).await;
            wire.fault_about(names, &kind);
            layer.purge_tag("shop").await.expect_err("nobody there");
            for _ in 0..3 {
                assert_ne!(get(&cache, "/a", &[]).await.text(), "run 1", "{kind:?}");
            }
            heal(&wire);
            assert_ne!(get(&cache, "/a", &[]).await.text(), "run 1", "{kind:?}");
            tokio::time::sleep(secs(5)).await;
            assert_ne!(get(&cache, "/a", &[]).await.text(), "run 1", "{kind:?}");
        }
    }
}

/// A request to the service that purges: its status.
async fn purge(layer: &HttpGuardLayer, tags: &str, urls: &str) -> u16 {
    let request = Request::post("/purge").header("authorization", "Bearer secret");
    let request = request.header("surrogate-key", tags).body(Full::<Bytes>::from(urls.to_owned()));
    let Ok(response) = layer.purge_service("secret").oneshot(request.expect("a request")).await;
    response.status().as_u16()
}

#[tokio::test(start_paused = true)]
async fn after_a_purge_of_which_one_part_failed_nothing_old_is_served() {
    const SHARED: (&str, &str) = ("authorization", "Basic eA==");
    for (tags, urls) in [
        ("shop news", ""),
        ("news shop", ""),
        ("", "http://example.com/a\nhttp://example.com/b"),
        ("news", "http://example.com/none\nhttp://example.com/a"),
    ] {
        let origin = Origin::new(|request| {
            let is_a = request.uri().path() == "/a";
            let tag = if is_a { "shop" } else { "news" };
            response(200, &[("cache-control", "public, max-age=60"), ("surrogate-key", tag)], "")
        });
        let (layer, wire) = process(&memory());
        let cache = layer.layer(origin.service());
        let pages: [(&str, Fields<'_>); 4] =
            [("/a", &[]), ("/a", &[SHARED]), ("/b", &[]), ("/b", &[SHARED])];
        for (path, fields) in pages {
            get(&cache, path, fields).await;
        }
        wire.fault_one(Call::Invalidate, Break::Busy);
        assert_eq!(purge(&layer, tags, urls).await, 503);
        for (path, fields) in pages {
            let answer = get(&cache, path, fields).await;
            assert!(!answer.is_hit(), "{tags} {urls:?}: {path} {fields:?}");
        }
    }
}

/// A load that is under way while its tag is purged. The far tier may fall silent before the load ends.
#[tokio::test(start_paused = true)]
async fn a_load_from_before_a_purge_fills_no_tier_even_if_its_tags_cannot_be_read() {
    for kind in KINDS.map(Some).into_iter().chain([None]) {
        purged_during_its_load(kind.clone(), false).await;
        purged_during_its_load(kind, true).await;
    }
}

async fn purged_during_its_load(kind: Option<Break>, varies: bool) {
    let (begun, open) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let runs = Arc::new(AtomicUsize::new(0));
    let (begin, gate) = (begun.clone(), open.clone());
    let origin = service_fn(move |_: Request<Full<Bytes>>| {
        let (begin, gate) = (begin.clone(), gate.clone());
        let run = runs.fetch_add(1, Ordering::SeqCst) + 1;
        async move {
            if run == 1 {
                begin.notify_one();
                gate.notified().await;
            }
            let vary = ("vary", if varies { "accept" } else { "" });
            Ok::<_, Infallible>(response(200, &[FRESH, SHOP_NEWS, vary], &format!("run {run}")))
        }
    });
    let memory = memory();
    let ((layer, wire), (other, _)) = (process(&memory), process(&memory));
    let (cache, others) = (layer.layer(origin.clone()), other.layer(origin));
    let ask = |cache: &HttpGuard<_>| {
        let (cache, request) = (cache.clone(), request(Method::GET, "/a", &[]));
        async move {
            let Ok(response) = cache.oneshot(request).await;
            whole(response).await
        }
    };
    let early = tokio::spawn(ask(&cache));
    begun.notified().await;
    other.purge_tag("shop").await.expect("purged");
    if let Some(kind) = &kind {
        wire.fault_about(of_tags, kind);
    }
    open.notify_one();
    let early = early.await.expect("an answer");
    // The variant that a request selects is looked up after the load that found it.
    assert!(varies || early.text() == "run 1", "{early:?}");
    for _ in 0..3 {
        assert_ne!(ask(&cache).await.text(), "run 1", "{kind:?} {varies}");
    }
    assert_ne!(ask(&others).await.text(), "run 1", "{kind:?} {varies}");
    heal(&wire);
    tokio::time::sleep(secs(5)).await;
    assert_ne!(ask(&cache).await.text(), "run 1", "{kind:?} {varies}");
}

#[tokio::test(start_paused = true)]
async fn a_layer_can_be_cleared_in_all_processes() {
    for fields in [&[FRESH][..], &[FRESH, SHOP_NEWS], &[FRESH, ("vary", "accept")]] {
        let (origin, memory) = (numbered(fields), memory());
        let ((layer, _), (other, _)) = (process(&memory), process(&memory));
        let caches = [layer.layer(origin.service()), other.layer(origin.service())];
        for cache in &caches {
            assert_eq!(get(cache, "/a", &[]).await.text(), "run 1", "{fields:?}");
        }
        assert_eq!(layer.clear().await.expect("cleared"), Invalidated::Everywhere);
        for cache in &caches {
            assert_eq!(get(cache, "/a", &[]).await.text(), "run 2", "{fields:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_with_too_many_tags_is_passed_and_queues_no_requests() {
    let few = (0..64).map(|tag| format!("{tag}")).collect::<Vec<_>>().join(" ");
    let long = "x".repeat(1_000);
    for (tags, is_stored) in [
        (few.clone(), true),
        (format!("{few} one-more"), false),
        (long.clone(), true),
        (format!("{long}x"), false),
    ] {
        let tags = tags.leak();
        let origin = Origin::new(|_| response(200, &[FRESH, ("surrogate-key", tags)], "body"));
        let origin = origin.taking(secs(1));
        let (layer, _) = process(&memory());
        let cache = layer.layer(origin.service());
        get(&cache, "/a", &[]).await;
        assert_eq!(get(&cache, "/a", &[]).await.is_hit(), is_stored);
        let begun = tokio::time::Instant::now();
        join_all((0..10).map(|_| get(&cache, "/a", &[]))).await;
        assert!(begun.elapsed() < secs(2), "{:?}", begun.elapsed());
        assert_eq!(origin.calls(), if is_stored { 1 } else { 12 });
    }
}

#[tokio::test(start_paused = true)]
async fn a_layer_without_a_tag_field_asks_about_no_tags() {
    let (origin, wire) = (tagged(), Wire::to(&memory()));
    let layer = HttpGuardLayer::new(Guard::builder().policy(policy()).far(wire.clone()));
    let cache = layer.layer(origin.service());
    wire.fault_about(of_tags, &Break::Panic);
    for is_hit in [false, true] {
        assert_eq!(get(&cache, "/a", &[]).await.is_hit(), is_hit);
    }
    assert!(layer.purge_tag("shop").await.is_err());
    assert!(get(&cache, "/a", &[]).await.is_hit());
}

/// Twenty clients ask again and again for five seconds.
async fn calls_during_an_outage(fields: Fields<'static>, takes: Duration, cut: fn(&Wire)) -> usize {
    let origin = numbered(fields).taking(takes);
    let (layer, wire) = process(&memory());
    let cache = layer.layer(origin.service());
    cut(&wire);
    let end = tokio::time::Instant::now() + secs(5);
    let clients = (0..20).map(async |_| {
        while tokio::time::Instant::now() < end {
            assert_eq!(get(&cache, "/a", &[]).await.status(), 200);
            tokio::time::sleep(Duration::from_millis(7)).await;
        }
    });
    join_all(clients).await;
    origin.calls()
}

#[tokio::test(start_paused = true)]
async fn tagged_pages_keep_one_load_per_key_while_the_far_tier_is_away() {
    let silences: [fn(&Wire); 3] = [
        |wire| {
            wire.fault_all(&Break::Error);
            wire.tell(Event::Disconnected);
        },
        |wire| wire.fault_all(&Break::Hang),
        |wire| wire.fault_all(&Break::Busy),
    ];
    for cut in silences {
        for takes in [1, 40, 900].map(Duration::from_millis) {
            let plain: Fields<'_> = &[("cache-control", "max-age=60")];
            let tagged: Fields<'_> =
                &[("cache-control", "max-age=60"), ("surrogate-key", "a b c d")];
            let untagged = calls_during_an_outage(plain, takes, cut).await;
            let tagged = calls_during_an_outage(tagged, takes, cut).await;
            assert!(tagged <= untagged * 3 / 2 + 2, "{tagged} of {untagged}, {takes:?}");
        }
    }
}

const FETCHES: &str = "cattleguard_fetches_total";
const LOADS: &str = "cattleguard_loads_total";

#[tokio::test]
async fn a_request_counts_once_whatever_tags_it_has() {
    for fields in [
        &[("cache-control", "max-age=60")][..],
        &[("cache-control", "max-age=60"), ("surrogate-key", "a")],
        &[("cache-control", "max-age=60"), ("surrogate-key", "a b c d e f")],
        &[("cache-control", "max-age=60"), ("vary", "accept"), ("surrogate-key", "a b c")],
    ] {
        let (recorder, origin) = (recorder::Recorder::default(), numbered(fields));
        let builder = || builder().name("pages");
        let layer = recorder.during(|| HttpGuardLayer::new(builder()));
        let layer = layer.tag_field(HeaderName::from_static("surrogate-key"));
        let cache = layer.layer(origin.service());
        for requests in 1..=5 {
            get(&cache, "/a", &[]).await;
            assert_eq!(recorder.total(FETCHES), requests, "{fields:?}");
        }
        assert_eq!(recorder.counter(FETCHES, "outcome", "hit_near"), 4, "{fields:?}");
        layer.purge_tag("a").await.expect("purged");
        get(&cache, "/a", &[]).await;
        assert_eq!(recorder.total(FETCHES), 6, "{fields:?}");
        // The first variant of a URL is stored by a load of its own.
        let stored = fields.iter().filter(|(name, _)| *name == "vary").count();
        let loads = origin.calls() + stored;
        assert_eq!(recorder.total(LOADS), loads as u64, "{fields:?}");
        send(&cache, request(Method::HEAD, "/a", &[])).await;
        assert_eq!(recorder.total(FETCHES), 7, "{fields:?}");
    }
}

/// Reads fail, but messages arrive: a purge by another process is heard in the middle of a load.
#[tokio::test(start_paused = true)]
async fn a_purge_that_is_heard_during_a_load_counts_even_if_no_tag_can_be_read() {
    for kind in KINDS {
        let (origin, memory) = (tagged().taking(secs(1)), memory());
        let ((layer, wire), (other, _)) = (process(&memory), process(&memory));
        let cache = layer.layer(origin.service());
        wire.fault_about(|_| true, &kind);
        let ask = async || get(&cache, "/a", &[]).await.text().to_owned();
        let late = async || {
            tokio::time::sleep(Duration::from_millis(500)).await;
            other.purge_tag("shop").await.expect("purged");
            ask().await
        };
        let (early, late) = tokio::join!(ask(), late());
        assert_eq!(early, "run 1");
        assert_ne!(late, "run 1", "{kind:?}");
    }
}
