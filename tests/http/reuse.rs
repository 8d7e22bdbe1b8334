//! RFC 9111 §4, §5: which requests a stored response answers, and how.

use http::Method;

use crate::{Origin, cache, date, get, layer, request, response, secs, send};
use tower::Layer;

const FRESH: (&str, &str) = ("cache-control", "max-age=60");

fn fresh() -> Origin {
    Origin::new(|request| response(200, &[FRESH, ("x-path", request.uri().path())], "body"))
}

#[tokio::test(start_paused = true)]
async fn rfc9111_4_a_fresh_response_is_reused_until_it_is_stale() {
    let origin = fresh();
    let cache = cache(&origin);
    let first = get(&cache, "/", &[]).await;
    assert_eq!(first.field("cache-status"), Some("cattleguard; fwd=miss; stored"));
    tokio::time::advance(secs(59)).await;
    let second = get(&cache, "/", &[]).await;
    assert_eq!(second.field("cache-status"), Some("cattleguard; hit; detail=far"));
    assert_eq!((second.text(), second.field("x-path")), ("body", Some("/")));
    assert_eq!(get(&cache, "/", &[]).await.field("cache-status"), Some("cattleguard; hit"));
    tokio::time::advance(secs(2)).await;
    assert!(!get(&cache, "/", &[]).await.is_hit());
    assert_eq!(origin.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn rfc9111_5_1_age_counts_from_the_origin() {
    let old = date(-20);
    let origin = Origin::new(move |request| match request.uri().path() {
        "/age" => response(200, &[FRESH, ("age", "30")], ""),
        "/date" => response(200, &[FRESH, ("date", &old)], ""),
        "/both" => response(200, &[FRESH, ("date", &old), ("age", "30, 5")], ""),
        _ => response(200, &[FRESH], ""),
    });
    let cache = cache(&origin);
    for (path, age) in [("/age", 30), ("/date", 20), ("/both", 30), ("/", 0)] {
        for _ in 0..2 {
            let answer = get(&cache, path, &[]).await;
            let told: u64 = answer.field("age").expect("an age").parse().expect("a number");
            assert!((age..age + 3).contains(&told), "{path}: {told}");
        }
        // What is left of its lifetime.
        tokio::time::advance(secs(60 - age - 3)).await;
        assert!(get(&cache, path, &[]).await.is_hit(), "{path}");
        tokio::time::advance(secs(4)).await;
        assert!(!get(&cache, path, &[]).await.is_hit(), "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn rfc9111_2_other_resources_have_other_entries() {
    let origin = fresh();
    let cache = cache(&origin);
    for path in ["/a", "/b", "/a?x=1", "/a?x=2", "http://other.example/a", "https://example.com/a"]
    {
        assert!(!get(&cache, path, &[]).await.is_hit(), "{path}");
        assert!(get(&cache, path, &[]).await.is_hit(), "{path}");
    }
    assert!(get(&cache, "http://EXAMPLE.com:80/a", &[]).await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn rfc9111_4_1_variants_are_selected_by_the_request() {
    let origin = Origin::new(|request| {
        let language =
            request.headers().get("accept-language").map_or("none", |l| l.to_str().expect("text"));
        response(200, &[FRESH, ("vary", "accept-language"), ("x-l", language)], language)
    });
    let cache = cache(&origin);
    for (value, calls) in [("de", 1), ("en", 2), ("de", 2), (" DE", 2), ("en", 2), ("de,en", 3)] {
        let answer = get(&cache, "/", &[("accept-language", value)]).await;
        assert_eq!(origin.calls(), calls, "{value}");
        assert_eq!(answer.text(), value.trim().to_lowercase());
        assert_eq!(answer.field("x-l"), Some(answer.text()));
    }
    assert_eq!(get(&cache, "/", &[]).await.text(), "none");
    assert_eq!(get(&cache, "/", &[]).await.text(), "none");
    assert_eq!(origin.calls(), 4);
}

#[tokio::test(start_paused = true)]
async fn rfc9111_4_1_all_lines_of_vary_count_and_all_of_a_field() {
    let origin = Origin::new(|request| {
        let of = |name: &str| {
            let lines = request.headers().get_all(name).iter();
            lines.map(|line| line.to_str().expect("text")).collect::<Vec<_>>().join(", ")
        };
        let body = format!("{}|{}", of("x-a"), of("x-b"));
        response(200, &[FRESH, ("vary", "X-A"), ("vary", "x-b")], &body)
    });
    let cache = cache(&origin);
    for (fields, calls) in [
        (&[("x-a", "1"), ("x-b", "1")][..], 1),
        (&[("x-a", "1"), ("x-b", "2")], 2),
        (&[("x-a", "1")], 3),
        (&[("x-a", "1"), ("x-b", "")], 4),
        (&[("x-a", "1"), ("x-a", "2"), ("x-b", "1")], 5),
        (&[("x-b", "1"), ("x-a", "1")], 5),
        (&[("x-a", "A"), ("x-b", "1")], 6),
        (&[("x-a", "a"), ("x-b", "1")], 7),
    ] {
        let first = get(&cache, "/", fields).await;
        assert_eq!(origin.calls(), calls, "{fields:?}");
        let second = get(&cache, "/", fields).await;
        assert_eq!((second.is_hit(), second.text()), (true, first.text()), "{fields:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn rfc9111_4_1_later_vary_fields_select_too() {
    let origin = Origin::new(|request| {
        let has = |name| request.headers().contains_key(name);
        let vary = if has("x-a") { "x-a, x-b" } else { "x-a" };
        let body = format!("{} {}", has("x-a"), has("x-b"));
        response(200, &[FRESH, ("vary", vary)], &body)
    });
    let cache = cache(&origin);
    for _ in 0..3 {
        for (fields, body) in [
            (&[][..], "false false"),
            (&[("x-a", "1")], "true false"),
            (&[("x-a", "1"), ("x-b", "1")], "true true"),
        ] {
            assert_eq!(get(&cache, "/", fields).await.text(), body);
        }
    }
    assert!(origin.calls() <= 5, "{}", origin.calls());
}

#[tokio::test(start_paused = true)]
async fn rfc9110_9_3_2_head_is_answered_from_get() {
    let origin = fresh();
    let cache = cache(&origin);
    let head = async || send(&cache, request(Method::HEAD, "/", &[])).await;
    assert!(!head().await.is_hit());
    assert!(!head().await.is_hit(), "a HEAD leaves nothing to be stored");
    get(&cache, "/", &[]).await;
    let answer = head().await;
    assert_eq!((answer.is_hit(), answer.text()), (true, ""));
    assert_eq!(answer.field("content-length"), Some("4"));
    assert_eq!(origin.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn rfc9111_5_2_1_a_request_for_a_fresher_response_gets_one() {
    for ask in [
        ("cache-control", "no-cache"),
        ("pragma", "no-cache"),
        ("cache-control", "max-age=0"),
        ("cache-control", "min-fresh=61"),
    ] {
        let origin = fresh();
        let cache = layer().allow_reloads().layer(origin.service());
        get(&cache, "/", &[]).await;
        assert!(!get(&cache, "/", &[ask]).await.is_hit(), "{ask:?}");
        assert_eq!(origin.calls(), 2, "{ask:?}");
        // For the others, too.
        assert!(get(&cache, "/", &[]).await.is_hit());
        // But only if the layer allows it.
        let cache = layer().layer(origin.service());
        get(&cache, "/", &[]).await;
        assert!(get(&cache, "/", &[ask]).await.is_hit(), "{ask:?}");
    }
    let origin = fresh();
    let cache = layer().allow_reloads().layer(origin.service());
    get(&cache, "/", &[]).await;
    for ask in ["max-age=100", "min-fresh=10", "max-stale=5", "max-stale"] {
        assert!(get(&cache, "/", &[("cache-control", ask)]).await.is_hit(), "{ask}");
    }
}

#[tokio::test(start_paused = true)]
async fn rfc9111_5_2_1_7_only_if_cached_asks_no_origin() {
    let origin = fresh();
    let cache = cache(&origin);
    let only = [("cache-control", "only-if-cached")];
    assert_eq!(get(&cache, "/", &only).await.status(), 504);
    assert_eq!(origin.calls(), 0);
    get(&cache, "/", &[]).await;
    assert_eq!(get(&cache, "/", &only).await.status(), 200);
    // What else is asked of it counts as well.
    for (value, status) in [
        ("only-if-cached, no-cache", 504),
        ("only-if-cached, max-age=0", 504),
        ("only-if-cached, min-fresh=61", 504),
        ("only-if-cached, min-fresh=10, max-age=10", 200),
    ] {
        let answer = get(&cache, "/", &[("cache-control", value)]).await;
        assert_eq!(answer.status(), status, "{value}");
    }
    assert_eq!(origin.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn rfc9211_2_this_cache_is_named_after_those_before_it() {
    let origin =
        Origin::new(|_| response(200, &[FRESH, ("cache-status", "up; hit; ttl=5")], "body"));
    let cache = cache(&origin);
    let first = get(&cache, "/", &[]).await;
    assert_eq!(first.field("cache-status"), Some("up; hit; ttl=5, cattleguard; fwd=miss; stored"));
    let second = get(&cache, "/", &[]).await;
    assert_eq!(second.field("cache-status"), Some("up; hit; ttl=5, cattleguard; hit"));
}
