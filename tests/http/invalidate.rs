//! RFC 9111 §4.4, and purges: what is invalidated, and what must not come back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use cattleguard::{
    Version,
    far::Invalidated,
    http::{HttpGuardLayer, PurgeError},
};
use http::{Method, Uri};
use tower::Layer;

use crate::{Cache, Fields, Origin, cache, get, layer, request, response, secs, send};

const FRESH: (&str, &str) = ("cache-control", "public, max-age=60");

/// Stored on GET; other methods are answered with a status and fields.
fn origin(status: u16, fields: Fields<'_>) -> Origin {
    let owned: Vec<(&'static str, String)> =
        fields.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    Origin::new(move |request| match request.method() {
        &Method::GET => response(200, &[FRESH, ("vary", "accept")], "body"),
        _ => {
            let fields: Vec<_> = owned.iter().map(|(name, value)| (*name, &**value)).collect();
            response(status, &fields, "")
        }
    })
}

async fn is_stored(cache: &Cache, uri: &str, fields: Fields<'_>) -> bool {
    let only = [("cache-control", "only-if-cached")];
    let fields: Vec<_> = fields.iter().copied().chain(only).collect();
    get(cache, uri, &fields).await.status() == 200
}

#[tokio::test(start_paused = true)]
async fn rfc9111_4_4_an_unsafe_request_that_succeeds_invalidates_the_target() {
    let clients =
        [&[][..], &[("accept", "a/b")], &[("authorization", "x")], &[("authorization", "y")]];
    for method in ["POST", "PUT", "PATCH", "DELETE", "PROPFIND", "BREW"] {
        for status in [200, 201, 204, 299, 303, 307] {
            let origin = origin(status, &[]);
            let cache = cache(&origin);
            for fields in clients {
                get(&cache, "/a", fields).await;
                get(&cache, "/b", fields).await;
            }
            send(&cache, request(method.parse().expect("a method"), "/a", &[])).await;
            for fields in clients {
                assert!(!is_stored(&cache, "/a", fields).await, "{method} {status} {fields:?}");
                assert!(is_stored(&cache, "/b", fields).await, "{method} {status} {fields:?}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn rfc9111_4_4_failed_and_safe_requests_invalidate_nothing() {
    for (method, status) in [
        ("POST", 400),
        ("PUT", 401),
        ("DELETE", 404),
        ("PATCH", 500),
        ("POST", 503),
        ("OPTIONS", 200),
        ("TRACE", 200),
        ("HEAD", 200),
    ] {
        let origin = origin(status, &[("location", "/b")]);
        let cache = cache(&origin);
        get(&cache, "/a", &[]).await;
        get(&cache, "/b", &[]).await;
        send(&cache, request(method.parse().expect("a method"), "/a", &[])).await;
        assert!(is_stored(&cache, "/a", &[]).await, "{method} {status}");
        assert!(is_stored(&cache, "/b", &[]).await, "{method} {status}");
    }
}

#[tokio::test(start_paused = true)]
async fn rfc9111_4_4_urls_of_the_same_origin_in_the_response_are_invalidated() {
    for name in ["location", "content-location"] {
        for (value, of, forgotten) in [
            ("/b", "/b", true),
            ("/b#part", "/b", true),
            ("http://example.com/b", "/b", true),
            ("http://EXAMPLE.com:80/b", "/b", true),
            ("http://other.org/b", "http://other.org/b", false),
            ("https://example.com/b", "https://example.com/b", false),
            ("http://example.com:81/b", "http://example.com:81/b", false),
        ] {
            let origin = origin(201, &[(name, value)]);
            let cache = cache(&origin);
            get(&cache, "/a", &[]).await;
            get(&cache, of, &[]).await;
            send(&cache, request(Method::POST, "/a", &[])).await;
            assert!(!is_stored(&cache, "/a", &[]).await);
            assert_eq!(is_stored(&cache, of, &[]).await, !forgotten, "{name}: {value}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn rfc9111_4_4_a_key_part_does_not_evade_invalidation() {
    let origin = origin(200, &[("location", "/b")]);
    let part = |parts: &http::request::Parts| {
        Some(parts.headers.get("x-tenant")?.to_str().ok()?.to_owned())
    };
    let layer = layer().key_part(part);
    let cache = layer.layer(origin.service());
    let (one, other) = (&[("x-tenant", "1")][..], &[("x-tenant", "2")][..]);
    for uri in ["/a", "/b", "/c"] {
        get(&cache, uri, one).await;
        get(&cache, uri, other).await;
    }
    send(&cache, request(Method::POST, "/a", one)).await;
    for uri in ["/a", "/b"] {
        assert!(!is_stored(&cache, uri, one).await);
        assert!(is_stored(&cache, uri, other).await, "the other's is another resource");
    }
    layer.purge_part(&"/c".parse().expect("a URL"), Some("example.com"), "1").await.expect("done");
    assert!(!is_stored(&cache, "/c", one).await);
    assert!(is_stored(&cache, "/c", other).await);
}

fn url(text: &str) -> Uri {
    text.parse().expect("a URL")
}

#[tokio::test(start_paused = true)]
async fn a_purge_forgets_all_variants_of_a_url() {
    let origin = origin(200, &[]);
    let layer = layer();
    let cache = layer.layer(origin.service());
    let clients = [&[][..], &[("accept", "a/b")], &[("authorization", "x")]];
    for (purged, host) in [("/a?b", Some("example.com")), ("http://EXAMPLE.com:80/a?b", None)] {
        for fields in clients {
            get(&cache, "/a?b", fields).await;
            get(&cache, "/a", fields).await;
        }
        let done = layer.purge(&url(purged), host).await.expect("done");
        assert_eq!(done, Invalidated::Everywhere);
        for fields in clients {
            assert!(!is_stored(&cache, "/a?b", fields).await, "{fields:?}");
            assert!(is_stored(&cache, "/a", fields).await, "{fields:?}");
        }
    }
    assert!(matches!(layer.purge(&url("/a"), None).await, Err(PurgeError::NoHost)));
}

#[tokio::test(start_paused = true)]
async fn a_load_from_before_a_purge_answers_no_later_request() {
    for vary in ["x-none", "accept"] {
        let row = Arc::new(AtomicU64::new(1));
        let origin = {
            let row = row.clone();
            Origin::new(move |_| {
                let row = row.load(Ordering::SeqCst).to_string();
                response(200, &[FRESH, ("vary", vary)], &row)
            })
        };
        let origin = origin.taking(secs(2));
        let layer = layer();
        let cache = layer.layer(origin.service());
        if vary == "accept" {
            // The next load is one of a variant that is known.
            get(&cache, "/", &[]).await;
        }
        let accept = [("accept", "a/b")];
        let before = tokio::spawn({
            let cache = cache.clone();
            async move { get(&cache, "/", &accept).await.text().to_owned() }
        });
        tokio::time::sleep(secs(1)).await;
        row.store(2, Ordering::SeqCst);
        layer.purge(&url("/"), Some("example.com")).await.expect("done");
        assert_eq!(get(&cache, "/", &accept).await.text(), "2", "{vary}");
        assert!(["1", "2"].contains(&&*before.await.expect("an answer")));
        assert_eq!(get(&cache, "/", &accept).await.text(), "2", "{vary}");
        assert!(get(&cache, "/", &accept).await.is_hit());
    }
}

#[tokio::test(start_paused = true)]
async fn a_load_that_finds_more_variants_restores_nothing_purged() {
    let row = Arc::new(AtomicU64::new(1));
    let origin = {
        let row = row.clone();
        Origin::new(move |request| {
            let vary = if request.headers().contains_key("x-a") { "x-a, x-b" } else { "x-a" };
            let row = row.load(Ordering::SeqCst).to_string();
            response(200, &[FRESH, ("vary", vary)], &row)
        })
    };
    let origin = origin.taking(secs(2));
    let layer = layer();
    let cache = layer.layer(origin.service());
    get(&cache, "/", &[]).await;
    let fields = [("x-a", "1")];
    let before = tokio::spawn({
        let cache = cache.clone();
        async move { get(&cache, "/", &fields).await.text().to_owned() }
    });
    tokio::time::sleep(secs(1)).await;
    row.store(2, Ordering::SeqCst);
    layer.purge(&url("/"), Some("example.com")).await.expect("done");
    assert_eq!(before.await.expect("an answer"), "1", "it asked before");
    assert_eq!(get(&cache, "/", &fields).await.text(), "2");
}

/// Its version is what it reads; each call lags behind by as many as there are left.
fn versioned(lags: u64, vary: &'static str) -> (Origin, Arc<AtomicU64>, Arc<AtomicU64>) {
    let (row, lag) = (Arc::new(AtomicU64::new(1)), Arc::new(AtomicU64::new(lags)));
    let origin = {
        let (row, lag) = (row.clone(), lag.clone());
        Origin::new(move |_| {
            let behind = lag.load(Ordering::SeqCst);
            let _ = lag.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |lag| lag.checked_sub(1));
            let read = row.load(Ordering::SeqCst) - u64::from(behind > 0);
            let mut response = response(200, &[FRESH, ("vary", vary)], &read.to_string());
            response.extensions_mut().insert(Version::new(read));
            response
        })
    };
    (origin, row, lag)
}

async fn purge_at(layer: &HttpGuardLayer, version: u64) {
    layer.purge_at(&url("/"), Some("example.com"), version).await.expect("done");
}

#[tokio::test(start_paused = true)]
async fn a_response_older_than_a_purge_is_not_stored() {
    let (origin, row, lag) = versioned(0, "x-none");
    let layer = layer();
    let cache = layer.layer(origin.service());
    assert_eq!(get(&cache, "/", &[]).await.text(), "1");
    row.store(2, Ordering::SeqCst);
    purge_at(&layer, 2).await;
    // A replica that lags for two more reads.
    lag.store(2, Ordering::SeqCst);
    assert_eq!(get(&cache, "/", &[]).await.text(), "2");
    assert_eq!(origin.calls(), 4);
    // A response as new as the purge stays.
    purge_at(&layer, 2).await;
    assert!(get(&cache, "/", &[]).await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn a_variant_older_than_a_purge_is_not_stored_either() {
    let (origin, row, lag) = versioned(0, "accept");
    let layer = layer();
    let cache = layer.layer(origin.service());
    get(&cache, "/", &[]).await;
    row.store(2, Ordering::SeqCst);
    purge_at(&layer, 2).await;
    assert_eq!(get(&cache, "/", &[]).await.text(), "2");
    lag.store(1, Ordering::SeqCst);
    let accept = [("accept", "a/b")];
    let old = get(&cache, "/", &accept).await;
    assert_eq!((old.text(), old.is_hit()), ("1", false), "the handler's answer, kept by nobody");
    assert_eq!(get(&cache, "/", &accept).await.text(), "2");
    assert!(get(&cache, "/", &accept).await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn a_version_may_come_in_a_field_or_with_the_change() {
    let row = Arc::new(AtomicU64::new(1));
    let origin = {
        let row = row.clone();
        Origin::new(move |request| {
            let version = match request.method() {
                &Method::PUT => row.fetch_add(1, Ordering::SeqCst) + 1,
                _ => row.load(Ordering::SeqCst),
            };
            response(200, &[FRESH, ("x-version", &version.to_string())], &version.to_string())
        })
    };
    let layer = layer().version_field(http::HeaderName::from_static("x-version"));
    let cache = layer.layer(origin.service());
    assert_eq!(get(&cache, "/", &[]).await.field("x-version"), Some("1"));
    send(&cache, request(Method::PUT, "/", &[])).await;
    // A replica that lags behind.
    row.store(1, Ordering::SeqCst);
    let catching_up = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        row.store(2, Ordering::SeqCst);
    };
    let (answer, ()) = futures::future::join(get(&cache, "/", &[]), catching_up).await;
    assert_eq!(answer.text(), "2");
}

#[tokio::test(start_paused = true)]
async fn a_response_without_version_is_not_stored_after_a_purge_by_version() {
    for vary in [None, Some(("vary", "accept"))] {
        let origin = Origin::new(move |_| {
            let fields: Vec<_> = [FRESH].into_iter().chain(vary).collect();
            response(404, &fields, "gone")
        });
        let layer = layer();
        let cache = layer.layer(origin.service());
        purge_at(&layer, 2).await;
        let begun = tokio::time::Instant::now();
        for calls in [2, 3] {
            let answer = get(&cache, "/", &[]).await;
            assert_eq!((answer.status(), answer.text(), answer.is_hit()), (404, "gone", false));
            assert_eq!(origin.calls(), calls);
        }
        assert!(begun.elapsed() < secs(1), "{:?}", begun.elapsed());
    }
}
