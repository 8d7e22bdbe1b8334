//! RFC 9111 §4.3: conditional requests, to the cache and by it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use cattleguard::{Clock, Guard, Version, http::HttpGuardLayer, memory};
use futures::future::join_all;
use tower::Layer;

use crate::{
    Origin, cache, date, get, policy, request, response, secs,
    stale::{stale_cache, stale_policy, then},
};

const FRESH: (&str, &str) = ("cache-control", "max-age=60");

#[tokio::test(start_paused = true)]
async fn rfc9111_4_3_2_the_cache_evaluates_conditions() {
    let modified = date(-1_000);
    let origin = {
        let modified = modified.clone();
        Origin::new(move |request| {
            assert!(!request.headers().contains_key("if-none-match"));
            let fields = [
                FRESH,
                ("etag", "\"v1\""),
                ("last-modified", &*modified),
                ("content-type", "text/plain"),
            ];
            response(200, &fields, "body")
        })
    };
    let cache = cache(&origin);
    // Also the one that brings it here.
    for _ in 0..2 {
        let answer = get(&cache, "/", &[("if-none-match", "W/\"v1\", \"v0\"")]).await;
        assert_eq!((answer.status(), answer.text()), (304, ""));
        assert_eq!(answer.field("etag"), Some("\"v1\""));
        assert_eq!(answer.field("cache-control"), Some("max-age=60"));
        assert_eq!(answer.field("content-type"), None);
    }
    assert_eq!(get(&cache, "/", &[("if-none-match", "\"v0\"")]).await.status(), 200);
    assert_eq!(get(&cache, "/", &[("if-modified-since", &*modified)]).await.status(), 304);
    assert_eq!(origin.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn rfc9111_4_3_1_what_may_not_be_served_stale_is_validated_all_the_same() {
    for value in ["max-age=60, must-revalidate", "max-age=60, proxy-revalidate", "s-maxage=60"] {
        let origin = Origin::new(move |request| {
            let fields = [("cache-control", value), ("etag", "\"v1\"")];
            match request.headers().contains_key("if-none-match") {
                true => response(304, &fields, ""),
                false => response(200, &fields, "body"),
            }
        });
        // Whatever the policy permits, and also where it permits nothing.
        for cache in [cache(&origin), stale_cache(&origin)] {
            get(&cache, "/", &[]).await;
            for _ in 0..3 {
                tokio::time::advance(secs(61)).await;
                let answer = get(&cache, "/", &[]).await;
                assert_eq!((answer.status(), answer.text()), (200, "body"), "{value}");
                let asked = origin.asked().pop().expect("a request");
                assert_eq!(asked.headers["if-none-match"], "\"v1\"", "{value}");
                assert!(get(&cache, "/", &[]).await.is_hit(), "{value}");
            }
        }
        assert_eq!(origin.calls(), 8);
    }
}

#[tokio::test(start_paused = true)]
async fn rfc9110_14_the_cache_serves_ranges() {
    let origin = Origin::new(|request| {
        assert!(!request.headers().contains_key("range"));
        response(200, &[FRESH, ("etag", "\"v1\"")], "0123456789")
    });
    let cache = cache(&origin);
    for (range, status, body, told) in [
        ("bytes=2-4", 206, "234", Some("bytes 2-4/10")),
        ("bytes=-3", 206, "789", Some("bytes 7-9/10")),
        ("bytes=20-", 416, "", Some("bytes */10")),
        ("bytes=0-1,3-4", 200, "0123456789", None),
    ] {
        let answer = get(&cache, "/", &[("range", range)]).await;
        assert_eq!((answer.status(), answer.text()), (status, body), "{range}");
        assert_eq!(answer.field("content-range"), told);
    }
    let other = [("range", "bytes=2-4"), ("if-range", "\"v0\"")];
    assert_eq!(get(&cache, "/", &other).await.status(), 200);
    assert_eq!(origin.calls(), 1);
}

/// Requests `/`, waits until it is stale, and requests it again.
async fn validated(origin: &Origin) -> crate::Cache {
    let cache = stale_cache(origin);
    get(&cache, "/", &[]).await;
    tokio::time::advance(secs(61)).await;
    assert_eq!(get(&cache, "/", &[]).await.text(), "old");
    tokio::time::sleep(secs(1)).await;
    cache
}

#[tokio::test(start_paused = true)]
async fn rfc9111_4_3_3_a_stale_response_is_validated_and_its_fields_updated() {
    let calls = Arc::new(AtomicUsize::new(0));
    let origin = Origin::new(move |request| match calls.fetch_add(1, Ordering::SeqCst) {
        0 => response(
            200,
            &[
                FRESH,
                ("etag", "\"v1\""),
                ("x-a", "old"),
                ("content-type", "text/plain"),
                ("content-encoding", "br"),
                ("content-location", "/a"),
            ],
            "body",
        ),
        _ => {
            assert_eq!(request.headers()["if-none-match"], "\"v1\"");
            let fields = [
                ("cache-control", "max-age=100"),
                ("x-a", "new"),
                ("content-type", "text/html"),
                ("content-encoding", "gzip"),
                ("content-range", "bytes 0-1/2"),
                ("content-length", "0"),
                ("connection", "x-b"),
                ("x-b", "1"),
            ];
            response(304, &fields, "")
        }
    });
    let cache = stale_cache(&origin);
    get(&cache, "/", &[]).await;
    tokio::time::advance(secs(61)).await;
    // RFC 5861 §3: the stale response, at once.
    let stale = get(&cache, "/", &[]).await;
    assert_eq!(
        stale.field("cache-status"),
        Some("cattleguard; hit; detail=stale-while-revalidate")
    );
    tokio::time::sleep(secs(99)).await;
    let answer = get(&cache, "/", &[]).await;
    assert!(answer.is_hit());
    assert_eq!((answer.text(), answer.field("x-a")), ("body", Some("new")));
    assert_eq!(answer.field("cache-control"), Some("max-age=100"));
    assert_eq!(answer.field("content-type"), Some("text/html"));
    assert_eq!(answer.field("content-location"), Some("/a"));
    for (name, value) in [
        ("content-encoding", Some("br")),
        ("content-range", None),
        ("content-length", None),
        ("x-b", None),
    ] {
        assert_eq!(answer.field(name), value, "§3.2: {name}");
    }
    assert_eq!(origin.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn rfc9111_4_3_1_both_validators_are_sent() {
    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    let origin = then(&[FRESH, ("etag", "W/\"v1\""), ("last-modified", DATE)], |request| {
        assert_eq!(request.headers()["if-none-match"], "W/\"v1\"");
        assert_eq!(request.headers()["if-modified-since"], DATE);
        response(304, &[FRESH], "")
    });
    let cache = validated(&origin).await;
    assert!(get(&cache, "/", &[]).await.is_hit());
    assert_eq!(origin.calls(), 2);
    // Without validators there is no condition.
    let origin = then(&[FRESH], |request| {
        assert!(!request.headers().contains_key("if-none-match"));
        assert!(!request.headers().contains_key("if-modified-since"));
        response(200, &[FRESH], "new")
    });
    assert_eq!(get(&validated(&origin).await, "/", &[]).await.text(), "new");
}

#[tokio::test(start_paused = true)]
async fn rfc9111_4_3_4_a_304_about_another_response_updates_nothing() {
    const OLD: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const NEW: &str = "Sun, 06 Nov 1994 08:49:38 GMT";
    for (stored, told, meant) in [
        (&[FRESH, ("etag", "\"v1\"")], ("etag", "\"v1\""), true),
        (&[FRESH, ("etag", "\"v1\"")], ("etag", "W/\"v1\""), true),
        (&[FRESH, ("etag", "W/\"v1\"")], ("etag", "W/\"v1\""), true),
        (&[FRESH, ("etag", "W/\"v1\"")], ("etag", "\"v1\""), false),
        (&[FRESH, ("etag", "\"v1\"")], ("etag", "\"v2\""), false),
        (&[FRESH, ("last-modified", OLD)], ("last-modified", OLD), true),
        (&[FRESH, ("last-modified", OLD)], ("last-modified", NEW), false),
        (&[FRESH, ("last-modified", OLD)], ("etag", "\"v1\""), false),
        (&[FRESH, ("last-modified", OLD)], ("x-a", "1"), true),
    ] {
        let origin = then(stored, move |request| {
            let conditional = ["if-none-match", "if-modified-since"];
            match conditional.iter().any(|name| request.headers().contains_key(*name)) {
                true => response(304, &[FRESH, told], ""),
                false => response(200, &[FRESH], "new"),
            }
        });
        let cache = validated(&origin).await;
        let answer = get(&cache, "/", &[]).await;
        assert!(answer.is_hit(), "{stored:?} {told:?}");
        assert_eq!(answer.text(), if meant { "old" } else { "new" }, "{stored:?} {told:?}");
        assert_eq!(origin.calls(), if meant { 2 } else { 3 });
    }
}

#[tokio::test(start_paused = true)]
async fn rfc9111_4_3_4_the_age_counts_from_the_validation() {
    let old = date(-59);
    let first: Vec<(&'static str, String)> = [("date", &*old), FRESH, ("etag", "\"v1\"")]
        .map(|(name, value)| (name, value.to_owned()))
        .into();
    let calls = AtomicUsize::new(0);
    // A handler's 304 has no date: the server adds it.
    let origin = Origin::new(move |_| match calls.fetch_add(1, Ordering::SeqCst) {
        0 => {
            let fields: Vec<_> = first.iter().map(|(name, value)| (*name, &**value)).collect();
            response(200, &fields, "old")
        }
        _ => response(304, &[], ""),
    });
    let cache = stale_cache(&origin);
    get(&cache, "/", &[]).await;
    tokio::time::advance(secs(2)).await;
    get(&cache, "/", &[]).await;
    tokio::time::sleep(secs(55)).await;
    let answer = get(&cache, "/", &[]).await;
    assert_eq!((answer.is_hit(), answer.text(), origin.calls()), (true, "old", 2));
    assert_ne!(answer.field("date"), Some(&*old));
}

#[tokio::test(start_paused = true)]
async fn rfc9111_4_3_3_each_variant_is_validated_by_its_own_validator() {
    let origin = Origin::new(|request| {
        let accept = request.headers()["accept"].to_str().expect("text");
        let tag = format!("\"{accept}\"");
        let fields = [FRESH, ("vary", "accept"), ("etag", &*tag)];
        match request.headers().get("if-none-match") {
            None => response(200, &fields, accept),
            Some(known) => {
                assert_eq!(*known, tag);
                response(304, &fields, "")
            }
        }
    });
    let cache = stale_cache(&origin);
    let variants = [[("accept", "a/a")], [("accept", "b/b")]];
    for round in 1..=3 {
        for fields in &variants {
            assert_eq!(get(&cache, "/", fields).await.text(), fields[0].1);
        }
        tokio::time::sleep(secs(1)).await;
        assert_eq!(origin.calls(), round * 2);
        tokio::time::sleep(secs(61)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn rfc9111_4_3_3_a_full_response_replaces_the_stored_one() {
    let gone = |_: &http::Request<()>| response(404, &[FRESH], "gone");
    let cache = validated(&then(&[FRESH, ("etag", "\"v1\"")], gone)).await;
    let answer = get(&cache, "/", &[]).await;
    assert_eq!((answer.is_hit(), answer.status(), answer.text()), (true, 404, "gone"));
    // Also one that must not be stored, and a 304 that says so.
    for status in [200, 304] {
        let private = move |_: &http::Request<()>| {
            response(status, &[("cache-control", "private")], "for one")
        };
        let origin = then(&[FRESH, ("etag", "\"v1\"")], private);
        let cache = validated(&origin).await;
        let calls = origin.calls();
        assert!(!get(&cache, "/", &[]).await.is_hit(), "{status}");
        assert_eq!(origin.calls(), calls + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_unsolicited_304_is_passed_and_not_stored() {
    let origin = Origin::new(|_| response(304, &[FRESH, ("etag", "\"v1\"")], ""));
    let cache = cache(&origin);
    for calls in 1..=2 {
        let answer = get(&cache, "/", &[("if-none-match", "\"v1\"")]).await;
        assert_eq!((answer.status(), origin.calls()), (304, calls));
    }
}

#[tokio::test(start_paused = true)]
async fn rfc9110_15_4_5_a_304_has_the_fields_that_its_200_would_have() {
    let expires = date(60);
    let origin = {
        let expires = expires.clone();
        Origin::new(move |_| {
            let fields = [
                FRESH,
                ("content-location", "/a"),
                ("date", &date(0)),
                ("etag", "\"v1\""),
                ("expires", &*expires),
                ("vary", "accept"),
            ];
            response(200, &fields, "body")
        })
    };
    let cache = cache(&origin);
    for method in [http::Method::GET, http::Method::HEAD] {
        get(&cache, "/", &[]).await;
        let asked = request(method, "/", &[("if-none-match", "\"v1\"")]);
        let answer = crate::send(&cache, asked).await;
        assert_eq!((answer.status(), answer.text()), (304, ""));
        for name in ["cache-control", "content-location", "date", "etag", "expires", "vary", "age"]
        {
            assert!(answer.field(name).is_some(), "{name}");
        }
        assert_eq!(answer.field("content-length"), None);
    }
}

#[tokio::test(start_paused = true)]
async fn rfc9110_14_2_a_range_is_for_get_alone() {
    let origin = Origin::new(|_| response(200, &[FRESH], "0123456789"));
    let cache = cache(&origin);
    get(&cache, "/", &[]).await;
    let head = request(http::Method::HEAD, "/", &[("range", "bytes=2-4")]);
    let answer = crate::send(&cache, head).await;
    assert_eq!((answer.status(), answer.field("content-length")), (200, Some("10")));
}

#[tokio::test(start_paused = true)]
async fn a_validated_response_keeps_its_version() {
    let calls = AtomicUsize::new(0);
    let origin = Origin::new(move |_| match calls.fetch_add(1, Ordering::SeqCst) {
        0 => {
            let mut first = response(200, &[FRESH, ("etag", "\"v1\"")], "old");
            first.extensions_mut().insert(Version::new(5));
            first
        }
        _ => response(304, &[FRESH], ""),
    });
    let far = memory::MemoryFar::with(100, Clock::tokio());
    let layer = HttpGuardLayer::new(Guard::builder().policy(stale_policy()).far(far));
    let cache = layer.layer(origin.service());
    get(&cache, "/", &[]).await;
    tokio::time::advance(secs(61)).await;
    get(&cache, "/", &[]).await;
    tokio::time::sleep(secs(1)).await;
    // A purge below its version leaves it.
    layer.purge_at(&"/".parse().expect("a URL"), Some("example.com"), 5).await.expect("done");
    assert!(get(&cache, "/", &[]).await.is_hit());
    layer.purge_at(&"/".parse().expect("a URL"), Some("example.com"), 6).await.expect("done");
    let only = [("cache-control", "only-if-cached")];
    assert_eq!(get(&cache, "/", &only).await.status(), 504);
    assert_eq!(origin.calls(), 2);
}

/// Answers a condition with a 304, and anything else with a 200.
fn confirming(fields: &'static [(&'static str, &'static str)]) -> Origin {
    Origin::new(move |request| match request.headers().contains_key("if-none-match") {
        true => response(304, &[fields, &[("x-a", "confirmed")]].concat(), ""),
        false => response(200, fields, "body"),
    })
}

fn was_conditional(origin: &Origin) -> bool {
    origin.asked().pop().expect("a request").headers.contains_key("if-none-match")
}

#[tokio::test(start_paused = true)]
async fn rfc9111_4_3_1_an_expired_response_is_kept_for_a_while_only_to_validate_it() {
    for value in ["max-age=60", "max-age=60, must-revalidate", "s-maxage=60"] {
        let is_down = Arc::new(AtomicBool::new(false));
        let origin = Origin::new({
            let is_down = is_down.clone();
            move |request| {
                let fields = [("cache-control", value), ("etag", "\"v1\"")];
                match request.headers().contains_key("if-none-match") {
                    _ if is_down.load(Ordering::SeqCst) => response(503, &[], "down"),
                    true => response(304, &fields, ""),
                    false => response(200, &fields, "body"),
                }
            }
        });
        let cache = cache(&origin);
        for _ in 0..2 {
            get(&cache, "/", &[]).await;
            tokio::time::advance(secs(60 + 3_599)).await;
        }
        assert!(was_conditional(&origin), "{value}");
        is_down.store(true, Ordering::SeqCst);
        for ask in ["max-age=10000", "max-stale", "only-if-cached, max-stale"] {
            let answer = get(&cache, "/", &[("cache-control", ask)]).await;
            assert!(answer.status() >= 503, "{value} {ask}");
            assert_ne!(answer.text(), "body", "{value} {ask}");
        }
        is_down.store(false, Ordering::SeqCst);
        assert_eq!(get(&cache, "/", &[]).await.text(), "body");
        assert!(was_conditional(&origin), "{value}");
    }
}

/// In real time: the far tier forgets by it.
#[tokio::test]
async fn what_can_be_validated_has_a_window_of_its_own_for_that() {
    for (window, fields, is_kept) in [
        (60, &[("cache-control", "max-age=1"), ("etag", "\"v1\"")][..], true),
        (0, &[("cache-control", "max-age=1"), ("etag", "\"v1\"")], false),
        (60, &[("cache-control", "max-age=1")], false),
    ] {
        let origin = confirming(fields);
        let policy = policy().version_retention(secs(0));
        let layer = HttpGuardLayer::new(Guard::builder().policy(policy));
        let cache = layer.validation_window(secs(window)).layer(origin.service());
        get(&cache, "/", &[]).await;
        let until_it_is_stale = async {
            let only = [("cache-control", "only-if-cached")];
            while get(&cache, "/", &only).await.is_hit() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(secs(10), until_it_is_stale).await.expect("stale by now");
        assert_eq!(get(&cache, "/", &[]).await.text(), "body");
        assert_eq!(was_conditional(&origin), is_kept, "{window} {fields:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn rfc9111_4_3_1_what_must_be_validated_each_time_costs_no_body() {
    const TAG: (&str, &str) = ("etag", "\"v1\"");
    for fields in [
        &[("cache-control", "no-cache"), TAG][..],
        &[("cache-control", "no-cache, max-age=60"), TAG],
        &[("cache-control", "max-age=0"), TAG],
        &[("cache-control", "s-maxage=0, max-age=60"), TAG],
        &[("cache-control", "no-cache, must-revalidate"), TAG],
        &[("expires", "0"), TAG],
        &[FRESH, ("age", "60"), TAG],
        &[("cache-control", "no-cache"), TAG, ("vary", "accept")],
    ] {
        let origin = confirming(fields);
        // Also where the policy permits to serve it stale.
        for cache in [cache(&origin), stale_cache(&origin)] {
            let first = get(&cache, "/", &[]).await;
            assert_eq!((first.text(), first.field("x-a")), ("body", None), "{fields:?}");
            for wait in [0, 1, 60, 3_000] {
                tokio::time::advance(secs(wait)).await;
                let calls = origin.calls();
                let answer = get(&cache, "/", &[]).await;
                assert_eq!((answer.status(), answer.text()), (200, "body"), "{fields:?}");
                assert_eq!(answer.field("x-a"), Some("confirmed"), "{fields:?}");
                let told = answer.field("cache-status");
                assert_eq!(told, Some("cattleguard; fwd=stale; fwd-status=304"), "{fields:?}");
                assert_eq!(origin.calls(), calls + 1);
                assert!(was_conditional(&origin));
            }
            let known = get(&cache, "/", &[("if-none-match", "\"v1\"")]).await;
            assert_eq!((known.status(), known.text()), (304, ""));
            let part = get(&cache, "/", &[("range", "bytes=1-2")]).await;
            assert_eq!((part.status(), part.text()), (206, "od"));
            let calls = origin.calls();
            let only = [("cache-control", "only-if-cached, max-stale")];
            assert_eq!(get(&cache, "/", &only).await.status(), 504);
            assert_eq!(origin.calls(), calls);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn rfc9111_5_2_2_4_no_request_is_answered_by_the_validation_of_another() {
    for value in ["no-cache", "max-age=0"] {
        let fields = [("cache-control", value), ("etag", "\"v1\"")];
        let origin = Origin::new(move |request| match request.headers().get("if-none-match") {
            Some(_) => response(304, &fields, ""),
            None => response(200, &fields, "body"),
        })
        .taking(secs(1));
        let cache = cache(&origin);
        // The first time they wait for one body; from then on each for its own 304.
        for (seconds, calls) in [(2, 100), (1, 200)] {
            let begun = tokio::time::Instant::now();
            let answers = join_all((0..100).map(|_| get(&cache, "/", &[]))).await;
            assert!(answers.iter().all(|answer| answer.text() == "body" && !answer.is_hit()));
            assert_eq!((begun.elapsed().as_secs(), origin.calls()), (seconds, calls), "{value}");
        }
        let unconditional =
            |asked: &&crate::origin::Asked| !asked.headers.contains_key("if-none-match");
        assert_eq!(origin.asked().iter().filter(unconditional).count(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn rfc9111_4_3_3_a_response_that_has_changed_takes_the_place_of_the_one_to_validate() {
    let tag = Arc::new(AtomicUsize::new(1));
    let control = Arc::new(parking_lot::Mutex::new("no-cache"));
    let origin = Origin::new({
        let (tag, control) = (tag.clone(), control.clone());
        move |request| {
            let tag = format!("\"v{}\"", tag.load(Ordering::SeqCst));
            let fields = [("cache-control", *control.lock()), ("etag", &*tag)];
            match request.headers().get("if-none-match") {
                _ if *control.lock() == "down" => response(503, &[], "down"),
                Some(known) if *known == tag => response(304, &fields, ""),
                _ => response(200, &fields, &tag),
            }
        }
    });
    let cache = cache(&origin);
    for expected in ["\"v1\"", "\"v1\""] {
        assert_eq!(get(&cache, "/", &[]).await.text(), expected);
    }
    // A failure is that of its request.
    *control.lock() = "down";
    assert_eq!(get(&cache, "/", &[]).await.status(), 503);
    *control.lock() = "no-cache";
    assert_eq!(get(&cache, "/", &[]).await.text(), "\"v1\"");
    assert!(was_conditional(&origin));
    tag.store(2, Ordering::SeqCst);
    for (path, status) in [("bytes=1-2", 200), ("bytes=1-2", 206)] {
        // The origin of this test knows no ranges.
        let answer = get(&cache, "/", &[("range", path)]).await;
        assert_eq!(answer.status(), status);
        tokio::task::yield_now().await;
    }
    assert_eq!(get(&cache, "/", &[]).await.text(), "\"v2\"");
    assert_eq!(origin.asked().pop().expect("a request").headers["if-none-match"], "\"v2\"");
    // A 304 that says for how long.
    *control.lock() = "max-age=60";
    for hit in [false, false, true] {
        let answer = get(&cache, "/", &[]).await;
        assert_eq!((answer.is_hit(), answer.text()), (hit, "\"v2\""));
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_cookies_page_is_not_confirmed_by_the_date_of_its_template() {
    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    for (value, shared) in [("no-cache", false), ("no-cache, public", true)] {
        let origin = Origin::new(move |request| {
            let fields = [("cache-control", value), ("last-modified", DATE)];
            match request.headers().contains_key("if-modified-since") {
                true => response(304, &fields, ""),
                false => {
                    let cookie = request.headers().get("cookie");
                    response(200, &fields, cookie.map_or("", |it| it.to_str().expect("text")))
                }
            }
        });
        // Whoever comes first.
        for order in [["a=1", "a=2", ""], ["", "a=1", "a=2"]] {
            let cache = cache(&origin);
            for cookie in order {
                let fields = [("cookie", cookie)];
                let fields = if cookie.is_empty() { &[][..] } else { &fields };
                let answer = get(&cache, "/", fields).await;
                let own = if shared { order[0] } else { cookie };
                assert_eq!(answer.text(), own, "{value} {order:?}");
            }
        }
    }
}
