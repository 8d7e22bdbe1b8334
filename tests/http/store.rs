//! RFC 9111 §3: which responses are stored, and which of their fields.

use crate::{Fields, Origin, cache, date, get, layer, response, secs};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tower::Layer;

/// Whether a response is reused for a second, equal request.
async fn is_stored(asked: Fields<'_>, status: u16, fields: Fields<'_>) -> bool {
    let owned: Vec<(&'static str, String)> =
        fields.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    let origin = Origin::new(move |_| {
        let fields: Vec<_> = owned.iter().map(|(name, value)| (*name, &**value)).collect();
        response(status, &fields, "body")
    });
    let cache = cache(&origin);
    for _ in 0..2 {
        let answer = get(&cache, "/", asked).await;
        assert_eq!((answer.status(), answer.text()), (status, "body"), "{fields:?}");
    }
    origin.calls() == 1
}

const FRESH: (&str, &str) = ("cache-control", "max-age=60");

#[tokio::test(start_paused = true)]
async fn rfc9111_3_explicitly_fresh_responses_are_stored() {
    let expires = date(60);
    for fields in [
        &[("cache-control", "max-age=60")][..],
        &[("cache-control", "s-maxage=60, max-age=0")],
        &[("cache-control", "public, max-age=60")],
        &[("expires", &expires)],
        &[("cdn-cache-control", "max-age=60"), ("cache-control", "no-store")],
    ] {
        assert!(is_stored(&[], 200, fields).await, "{fields:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn rfc9111_3_no_store_is_never_stored() {
    assert!(!is_stored(&[], 200, &[("cache-control", "max-age=60, no-store")]).await);
    assert!(!is_stored(&[("cache-control", "no-store")], 200, &[FRESH]).await);
    assert!(!is_stored(&[], 200, &[("cdn-cache-control", "no-store"), FRESH]).await);
}

#[tokio::test(start_paused = true)]
async fn rfc9111_5_2_2_3_must_understand_overrules_no_store_for_a_known_status_only() {
    let fields = [("cache-control", "must-understand, no-store, max-age=60")];
    assert!(is_stored(&[], 200, &fields).await);
    assert!(!is_stored(&[], 299, &fields).await);
}

#[tokio::test(start_paused = true)]
async fn rfc9111_3_private_is_never_stored() {
    for value in ["private, max-age=60", "max-age=60, PRIVATE", "private=\"\", max-age=60"] {
        assert!(!is_stored(&[], 200, &[("cache-control", value)]).await, "{value}");
    }
}

#[tokio::test(start_paused = true)]
async fn rfc9111_5_2_2_4_no_cache_is_not_reused() {
    assert!(!is_stored(&[], 200, &[("cache-control", "no-cache, max-age=60")]).await);
}

#[tokio::test(start_paused = true)]
async fn rfc9111_3_5_an_authorized_response_needs_permission() {
    let authorized = [("authorization", "Basic eDp5")];
    assert!(!is_stored(&authorized, 200, &[FRESH]).await);
    for value in ["public, max-age=60", "s-maxage=60", "must-revalidate, max-age=60"] {
        assert!(is_stored(&authorized, 200, &[("cache-control", value)]).await, "{value}");
    }
}

#[tokio::test(start_paused = true)]
async fn rfc9111_3_5_what_the_origin_opens_is_shared_among_all_credentials() {
    for value in ["public, max-age=60", "s-maxage=60", "must-revalidate, max-age=60"] {
        let origin = Origin::new(move |_| response(200, &[("cache-control", value)], "body"));
        let cache = cache(&origin);
        for (hit, fields) in [
            (false, &[("authorization", "Basic eDp5")][..]),
            (true, &[("authorization", "Bearer b")]),
            // Without any an origin answers 401, or another page.
            (false, &[]),
        ] {
            assert_eq!(get(&cache, "/", fields).await.is_hit(), hit, "{value} {fields:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_cookie_is_shared_where_an_option_says_so_and_the_response_is_explicitly_fresh() {
    let modified = date(-1_000);
    for (fields, hit) in [
        (&[FRESH, ("set-cookie", "a=b")][..], true),
        (&[("last-modified", &*modified), ("set-cookie", "a=b")], false),
        (&[("cache-control", "private, max-age=60"), ("set-cookie", "a=b")], false),
    ] {
        let owned: Vec<_> =
            fields.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        let origin = Origin::new(move |_| {
            let fields: Vec<_> = owned.iter().map(|(name, value)| (*name, &**value)).collect();
            response(200, &fields, "body")
        });
        let cache = layer().store_cookies().layer(origin.service());
        for hit in [false, hit] {
            let answer = get(&cache, "/", &[]).await;
            assert_eq!(
                (answer.is_hit(), answer.field("set-cookie")),
                (hit, Some("a=b")),
                "{fields:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn rfc9111_3_statuses() {
    for status in [200, 203, 204, 299, 300, 301, 302, 307, 308, 404, 405, 410, 414, 501] {
        assert!(is_stored(&[], status, &[FRESH]).await, "{status}");
    }
    for status in [206, 304] {
        assert!(!is_stored(&[], status, &[FRESH]).await, "{status}");
    }
    // The errors of RFC 5861, if they say themselves how long they are fresh.
    let modified = date(-1_000);
    let public = [("last-modified", &*modified), ("cache-control", "public")];
    for status in [500, 502, 503, 504] {
        assert!(is_stored(&[], status, &[FRESH]).await, "{status}");
        assert!(!is_stored(&[], status, &public).await, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn rfc9111_4_2_2_only_some_statuses_are_heuristically_fresh() {
    let modified = date(-1_000);
    let fields = [("last-modified", &*modified)];
    for status in [200, 203, 301, 404, 410] {
        assert!(is_stored(&[], status, &fields).await, "{status}");
        assert!(!is_stored(&[], status, &[]).await, "{status}");
    }
    for status in [201, 302, 307, 403] {
        assert!(!is_stored(&[], status, &fields).await, "{status}");
        // "public" allows the heuristic for any status (§5.2.2.9).
        let public = [fields[0], ("cache-control", "public")];
        assert!(is_stored(&[], status, &public).await, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn rfc9111_4_2_1_responses_stale_on_arrival_are_not_stored() {
    let (past, old, ahead) = (date(-60), date(-120), date(60));
    for fields in [
        &[("cache-control", "max-age=0")][..],
        &[("cache-control", "s-maxage=0, max-age=60")],
        &[("expires", &past)],
        &[("expires", "0")],
        &[FRESH, ("age", "60")],
        &[FRESH, ("date", &old)],
        &[("cache-control", "max-age=60"), ("cache-control", "max-age=0")],
        &[("cache-control", "max-age=x"), ("expires", &old)],
        // §4.2.2: no heuristic beside explicit freshness.
        &[("cache-control", "max-age=0"), ("last-modified", &old)],
        &[("expires", "never"), ("last-modified", &old)],
        &[("expires", &ahead), ("expires", &old)],
    ] {
        assert!(!is_stored(&[], 200, fields).await, "{fields:?}");
    }
    // max-age overrules Expires, s-maxage max-age, a targeted field all.
    assert!(is_stored(&[], 200, &[FRESH, ("expires", &past)]).await);
    assert!(
        !is_stored(&[], 200, &[("cdn-cache-control", "max-age=0"), FRESH, ("expires", &date(60))])
            .await
    );
}

#[tokio::test(start_paused = true)]
async fn rfc9111_4_1_vary_star_is_never_stored() {
    for value in ["*", "accept, *", "*, accept"] {
        assert!(!is_stored(&[], 200, &[FRESH, ("vary", value)]).await, "{value}");
    }
    assert!(!is_stored(&[], 200, &[FRESH, ("vary", "accept"), ("vary", "*")]).await);
    // An invalid name may mean any field.
    for value in ["x a", "x-a, (", "x-a: 1", "\u{e4}"] {
        assert!(!is_stored(&[], 200, &[FRESH, ("vary", value)]).await, "{value}");
    }
    for value in ["accept", "", ", accept,"] {
        assert!(is_stored(&[], 200, &[FRESH, ("vary", value)]).await, "{value}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_cookie_is_for_one_client() {
    assert!(!is_stored(&[], 200, &[FRESH, ("set-cookie", "a=b")]).await);
    for value in ["private=\"set-cookie\", max-age=60", "no-cache=\"Set-Cookie\", max-age=60"] {
        let fields = [("cache-control", value), ("set-cookie", "a=b"), ("x-a", "1")];
        let origin = Origin::new(move |_| response(200, &fields, "body"));
        let cache = cache(&origin);
        get(&cache, "/", &[]).await;
        let second = get(&cache, "/", &[]).await;
        assert_eq!((origin.calls(), second.field("set-cookie")), (1, None), "{value}");
        assert_eq!(second.field("x-a"), Some("1"));
    }
}

#[tokio::test(start_paused = true)]
async fn rfc9111_3_1_fields_of_one_connection_are_not_stored() {
    let origin = Origin::new(|_| {
        let fields = [
            FRESH,
            ("connection", "x-hop, close"),
            ("x-hop", "1"),
            ("keep-alive", "5"),
            ("proxy-authenticate", "Basic"),
            ("proxy-connection", "x"),
            ("te", "trailers"),
            ("trailer", "x-t"),
            ("upgrade", "x"),
            ("x-end", "1"),
        ];
        response(200, &fields, "body")
    });
    let cache = cache(&origin);
    get(&cache, "/", &[]).await;
    let second = get(&cache, "/", &[]).await;
    assert!(second.is_hit());
    for name in [
        "connection",
        "x-hop",
        "keep-alive",
        "proxy-authenticate",
        "proxy-connection",
        "te",
        "trailer",
        "upgrade",
    ] {
        assert_eq!(second.field(name), None, "{name}");
    }
    assert_eq!(second.field("x-end"), Some("1"));
    assert!(second.field("date").is_some(), "RFC 9110 §6.6.1");
}

#[tokio::test(start_paused = true)]
async fn rfc9111_3_3_incomplete_responses_are_not_stored() {
    type Frames = Vec<Result<Frame<bytes::Bytes>, crate::origin::Broken>>;
    fn piece() -> Result<Frame<bytes::Bytes>, crate::origin::Broken> {
        Ok(Frame::data(bytes::Bytes::from_static(b"piece")))
    }
    type Maker = fn() -> Frames;
    let makers: [(&str, Maker); 3] = [
        ("breaks off", || vec![piece(), Err(crate::origin::Broken)]),
        ("has trailers", || vec![piece(), Ok(Frame::trailers(http::HeaderMap::new()))]),
        ("is too long", || (0..400).map(|_| piece()).collect()),
    ];
    for (what, frames) in makers {
        let origin = Origin::new(move |_| {
            let stream = futures::stream::iter(frames());
            response(200, &[FRESH], "").map(|_| StreamBody::new(stream).boxed_unsync())
        });
        let cache = layer().max_body_size(1_000).layer(origin.service());
        for calls in 1..=2 {
            let request = crate::request(http::Method::GET, "/", &[]);
            let response = tower::ServiceExt::oneshot(cache.clone(), request).await;
            let Ok(response) = response;
            let collected = response.into_body().collect().await;
            match what {
                "breaks off" => assert!(collected.is_err(), "{what}"),
                "has trailers" => assert!(collected.expect("whole").trailers().is_some(), "{what}"),
                _ => assert_eq!(collected.expect("whole").to_bytes().len(), 2_000, "{what}"),
            }
            assert_eq!(origin.calls(), calls, "{what}");
        }
    }
    // Shorter than it says, or it says what cannot be.
    for length in ["5", "3", "x", "-4", "4, 4", ""] {
        assert!(!is_stored(&[], 200, &[FRESH, ("content-length", length)]).await, "{length}");
    }
    let twice = [FRESH, ("content-length", "4"), ("content-length", "5")];
    assert!(!is_stored(&[], 200, &twice).await);
    assert!(is_stored(&[], 200, &[FRESH, ("content-length", "4")]).await);
}

#[tokio::test(start_paused = true)]
async fn the_default_ttl_applies_without_explicit_freshness() {
    let origin = Origin::new(|request| match request.uri().path() {
        "/silent" => response(200, &[], "body"),
        "/short" => response(200, &[("cache-control", "max-age=1")], "body"),
        _ => response(302, &[], "body"),
    });
    let cache = layer().default_ttl(secs(60)).layer(origin.service());
    for (path, calls) in [("/silent", 1), ("/short", 2), ("/other", 2)] {
        let before = origin.calls();
        get(&cache, path, &[]).await;
        tokio::time::advance(secs(5)).await;
        get(&cache, path, &[]).await;
        assert_eq!(origin.calls() - before, calls, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn rfc9111_3_1_all_other_fields_are_stored_as_they_are() {
    let origin = Origin::new(|_| {
        let fields = [
            FRESH,
            ("x-unknown", "a"),
            ("x-unknown", "b, c"),
            ("content-type", "text/plain"),
            ("content-location", "/a"),
            ("pragma", "no-cache"),
            ("warning", "199 - \"something\""),
            ("link", "<\u{e4}>"),
            ("x-empty", ""),
        ];
        response(200, &fields, "body")
    });
    let cache = cache(&origin);
    let first = get(&cache, "/", &[]).await;
    let second = get(&cache, "/", &[]).await;
    // §5.4: Pragma has no meaning in a response.
    assert!(second.is_hit());
    for name in first.response.headers().keys() {
        let of = |answer: &crate::Answer| -> Vec<_> {
            answer.response.headers().get_all(name).iter().cloned().collect()
        };
        if !["cache-status", "age"].contains(&name.as_str()) {
            assert_eq!(of(&first), of(&second), "{name}");
        }
    }
    let unknown: Vec<_> = second.response.headers().get_all("x-unknown").iter().collect();
    assert_eq!(unknown, ["a", "b, c"]);
    assert_eq!(second.response.headers()["link"].as_bytes(), "<\u{e4}>".as_bytes());
}

#[tokio::test(start_paused = true)]
async fn rfc9111_5_2_3_unknown_and_malformed_directives_permit_nothing() {
    for value in
        ["max-age=60, x", "max-age=60, x=\"no-store\"", "x-private=1, max-age=60", "max-age=60;"]
    {
        assert!(is_stored(&[], 200, &[("cache-control", value)]).await, "{value}");
    }
    for value in [
        "max-age=60, x=\"no-store",
        "max-age=60; no-store",
        "max-age=60 private",
        "max-age=60, private=\"set-cookie",
        "max-age=60, private=\"a b\"",
        "max-age=60, no-cache=@",
        "max-age =60",
        "max-age=\'60\'",
        "max-age=60s",
    ] {
        assert!(!is_stored(&[], 200, &[("cache-control", value)]).await, "{value}");
    }
}

#[tokio::test(start_paused = true)]
async fn oversized_fields_are_passed_and_not_stored() {
    let long = "x".repeat(70_000);
    assert!(!is_stored(&[], 200, &[FRESH, ("x-a", &long)]).await);
    assert!(!is_stored(&[], 200, &[&[FRESH][..], &[("x-a", "1"); 2_000]].concat()).await);
    assert!(is_stored(&[], 200, &[&[FRESH][..], &[("x-a", "1"); 1_000]].concat()).await);
}

#[tokio::test(start_paused = true)]
async fn rfc9110_8_6_no_content_has_no_length() {
    let origin = Origin::new(|_| response(204, &[FRESH], ""));
    let cache = cache(&origin);
    get(&cache, "/", &[]).await;
    let head = crate::send(&cache, crate::request(http::Method::HEAD, "/", &[])).await;
    assert_eq!((head.status(), head.is_hit(), head.field("content-length")), (204, true, None));
}
