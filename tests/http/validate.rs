//! RFC 9111 §4.3: conditional requests, to the cache and by it.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use cattleguard::{Clock, Guard, Version, http::HttpGuardLayer, memory};
use tower::Layer;

use crate::{
    Origin, cache, date, get, request, response, secs,
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
