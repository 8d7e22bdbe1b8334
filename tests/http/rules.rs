//! Rules at the edges: freshness that nobody stated, dates, withheld fields, `Cache-Status`.

use super::*;

/// Whether a second client gets the response that a first one has caused.
async fn is_shared(
    layer: &HttpGuardLayer,
    status: u16,
    request: Fields<'_>,
    fields: Fields<'static>,
) -> bool {
    let origin = Origin::new(move |_| response(status, fields, "body"));
    let cache = layer.layer(origin.service());
    let path = format!("/{}", fastrand::u64(..));
    get(&cache, &path, request).await;
    get(&cache, &path, request).await.is_hit()
}

const MODIFIED: (&str, &str) = ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT");

#[tokio::test]
async fn rfc9111_4_2_2_no_heuristic_freshness_for_who_says_who_he_is() {
    for layer in [layer(), layer().default_ttl(secs(60))] {
        assert!(is_shared(&layer, 200, &[], &[MODIFIED]).await);
        assert!(is_shared(&layer, 200, &[("accept", "x/y")], &[MODIFIED]).await);
        for personal in [("cookie", "session=1"), ("authorization", "Basic eA==")] {
            assert!(!is_shared(&layer, 200, &[personal], &[MODIFIED]).await, "{personal:?}");
            assert!(!is_shared(&layer, 404, &[personal], &[]).await, "{personal:?}");
            // The origin says that it is for all.
            let public = &[MODIFIED, ("cache-control", "public")];
            assert!(is_shared(&layer, 200, &[personal], public).await, "{personal:?}");
            let explicit = &[("cache-control", "s-maxage=60")];
            assert!(is_shared(&layer, 200, &[personal], explicit).await, "{personal:?}");
        }
    }
}

#[tokio::test]
async fn the_default_ttl_is_for_statuses_that_speak_of_the_resource() {
    let with_default = layer().default_ttl(secs(60));
    for status in [200, 203, 204, 300, 301, 302, 308, 400, 403, 404, 405, 410, 414, 500, 501, 503] {
        let has_default = [200, 203, 301, 308, 404, 410].contains(&status);
        assert_eq!(is_shared(&with_default, status, &[], &[]).await, has_default, "{status}");
        let public = &[("cache-control", "public")];
        assert_eq!(is_shared(&with_default, status, &[], public).await, has_default, "{status}");
        assert!(!is_shared(&layer(), status, &[], &[]).await, "{status}");
        assert!(!is_shared(&layer(), status, &[], public).await, "{status}");
    }
}

const CAN: &str = "cache-control";
const CDN: &str = "cdn-cache-control";

#[tokio::test]
async fn rfc9213_2_1_a_value_of_the_wrong_type_is_ignored_and_the_others_count() {
    for wrong in [
        "max-age=\"10000\"",
        "max-age=10000.5",
        "max-age=abc",
        "max-age",
        "max-age=(10000)",
        "max-age=:MTA=:",
        "s-maxage=\"10000\", stale-if-error=\"5\"",
        "public=1",
        "must-revalidate=\"x\"",
    ] {
        // As if the field were not there.
        for other in [("cache-control", "no-store"), ("cache-control", "private")] {
            let fields = Box::leak(Box::new([MODIFIED, other, (CDN, wrong)]));
            assert!(!is_shared(&layer(), 200, &[], fields).await, "{wrong}");
            assert!(!is_shared(&layer().default_ttl(secs(60)), 200, &[], fields).await, "{wrong}");
        }
        // The others count.
        let both = &*format!("{wrong}, max-age=60").leak();
        let fields = Box::leak(Box::new([(CAN, "no-store"), (CDN, both)]));
        assert!(is_shared(&layer(), 200, &[], fields).await, "{wrong}");
        let both = &*format!("{wrong}, no-store").leak();
        let fields = Box::leak(Box::new([(CAN, "max-age=60"), (CDN, both)]));
        assert!(!is_shared(&layer(), 200, &[], fields).await, "{wrong}");
    }
    for right in ["max-age=60", "max-age=60;x=y", "public, s-maxage=60", "max-age=60, ext=(1 2)"] {
        let fields = Box::leak(Box::new([(CAN, "no-store"), (CDN, right)]));
        assert!(is_shared(&layer(), 200, &[], fields).await, "{right}");
    }
    // A negative age is one, and past; an unknown directive is no wrong one.
    for none in ["max-age=-1", "ext=5"] {
        let fields = Box::leak(Box::new([(CAN, "max-age=60"), (CDN, none)]));
        assert!(!is_shared(&layer(), 200, &[], fields).await, "{none}");
    }
}

#[tokio::test]
async fn rfc9110_5_6_7_a_date_is_read_in_three_forms_and_any_case() {
    let expires = async |text: &str| {
        let fields = Box::leak(Box::new([("expires", &*text.to_owned().leak())]));
        is_shared(&layer(), 200, &[], fields).await
    };
    for date in [
        "Sun, 06 Nov 2044 08:49:37 GMT",
        "sun, 06 nOV 2044 08:49:37 gmt",
        "SUN, 06 NOV 2044 08:49:37 Gmt",
        "Sunday, 06-Nov-44 08:49:37 GMT",
        "sunDAY, 06-NOV-44 08:49:37 gmt",
        "Sun Nov  6 08:49:37 2044",
        "SUN NOV  6 08:49:37 2044",
    ] {
        assert!(expires(date).await, "{date}");
    }
    for other in [
        "Sun, 6 Nov 2044 08:49:37 GMT",
        "Sun, 06 Nov 2044 08:49:37 UTC",
        "Sun, 06 Nov 2044 08:49:37 +0000",
        "Sun, 06 Nov 2044 08:49:37",
        "Sun, 06 Nov 2044 08:49 GMT",
        "Sun, 06 Nov 2044  08:49:37 GMT",
        "Sun, 06 Nov 2044 24:49:37 GMT",
        "Sun, 06 Nov 44 08:49:37 GMT",
        "Sun, 06-Nov-2044 08:49:37 GMT",
        "Sunday, 06 Nov 2044 08:49:37 GMT",
        "Sun 06 Nov 2044 08:49:37 GMT",
        "Sun Nov 6 08:49:37 2044",
        "Sun Nov  6 08:49:37 2044 GMT",
        "Mon, 06 Nov 2044 08:49:37 GMT",
        "Sun, 31 Nov 2044 08:49:37 GMT",
        "2044-11-06T08:49:37Z",
        "2362034977",
        "60",
        "never",
        "",
    ] {
        assert!(!expires(other).await, "{other}");
    }
}

#[tokio::test]
async fn rfc9530_2_a_part_has_no_digest_of_the_whole() {
    let fields = [
        ("cache-control", "max-age=60"),
        ("content-digest", "sha-256=:eA==:"),
        ("content-md5", "eA=="),
        ("repr-digest", "sha-256=:eA==:"),
    ];
    let origin = Origin::new(move |_| response(200, &fields, "0123456789"));
    let cache = cache(&origin);
    get(&cache, "/", &[]).await;
    for (range, status) in [("bytes=2-4", 206), ("bytes=20-", 416)] {
        let part = get(&cache, "/", &[("range", range)]).await;
        assert_eq!(part.status(), status);
        assert_eq!((part.field("content-digest"), part.field("content-md5")), (None, None));
        // That is of the whole by definition (§3).
        assert!(part.field("repr-digest").is_some());
    }
    let whole = get(&cache, "/", &[]).await;
    assert!(whole.field("content-digest").is_some() && whole.field("content-md5").is_some());
}

#[tokio::test(start_paused = true)]
async fn rfc9211_2_2_what_was_stale_is_forwarded_as_stale() {
    let policy = policy().stale_if_error(secs(60));
    let far = memory::MemoryFar::with(1_000, Clock::tokio());
    let layer = HttpGuardLayer::new(Guard::builder().policy(policy).far(far));
    let origin = Origin::new(|request| {
        let fields = [("cache-control", "max-age=5"), ("etag", "\"1\"")];
        match request.headers().contains_key("if-none-match") {
            true => response(304, &fields, ""),
            false => response(200, &fields, "body"),
        }
    });
    let cache = layer.layer(origin.service());
    for status in ["cattleguard; fwd=miss; stored", "cattleguard; fwd=stale; stored"] {
        assert_eq!(get(&cache, "/", &[]).await.field("cache-status"), Some(status));
        assert!(get(&cache, "/", &[]).await.is_hit());
        tokio::time::advance(secs(6)).await;
    }
}

/// `Set-Cookie` for one client, on a page for all.
#[tokio::test(start_paused = true)]
async fn rfc9111_5_2_2_7_a_withheld_field_reaches_its_own_client_and_no_other() {
    for control in ["max-age=5, private=\"set-cookie\"", "max-age=5, no-cache=\"set-cookie\""] {
        for vary in ["x-none", "accept"] {
            let runs = std::sync::atomic::AtomicUsize::new(0);
            let fields = [
                ("cache-control", control),
                ("vary", vary),
                ("etag", "\"1\""),
                ("set-cookie", "b=2"),
            ];
            let origin = Origin::new(move |request| {
                let run = runs.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                let status =
                    if request.headers().contains_key("if-none-match") { 304 } else { 200 };
                let mut response = response(status, &fields, "body");
                let cookie = format!("a={run}").parse().expect("a value");
                response.headers_mut().append("set-cookie", cookie);
                response
            })
            .taking(secs(1));
            let policy = policy().stale_if_error(secs(60));
            let far = memory::MemoryFar::with(1_000, Clock::tokio());
            let layer = HttpGuardLayer::new(Guard::builder().policy(policy).far(far));
            let cache = layer.layer(origin.service());
            for run in 0..3 {
                let all = (0..10).map(|_| get(&cache, "/", &[("accept", "x/y")]));
                let all = futures::future::join_all(all).await;
                let cookies = |answer: &Answer| {
                    let all = answer.response.headers().get_all("set-cookie");
                    all.iter().map(|value| value.to_str().expect("text").to_owned()).collect()
                };
                let all: Vec<Vec<String>> = all.iter().map(cookies).collect();
                let with: Vec<_> = all.iter().filter(|cookies| !cookies.is_empty()).collect();
                assert_eq!(with, [&["b=2".to_owned(), format!("a={run}")]], "{control} {vary}");
                assert_eq!(get(&cache, "/", &[("accept", "x/y")]).await.field("set-cookie"), None);
                tokio::time::advance(secs(6)).await;
            }
        }
    }
}

#[tokio::test]
async fn rfc9211_2_caches_in_a_row_are_told_apart_by_their_names() {
    let origin = Origin::new(|request| match request.uri().path() {
        "/none" => response(200, &[("cache-control", "no-store")], "body"),
        _ => response(200, &[("cache-control", "max-age=60")], "body"),
    });
    let cache = |name| layer().cache_name(name).layer(origin.service());
    for (name, sent) in [
        ("edge-1.example", "edge-1.example"),
        ("edge 1", "\"edge 1\""),
        ("1", "\"1\""),
        ("a\"b\\c", "\"a\\\"b\\\\c\""),
        ("caf\u{e9}\n", "\"caf??\""),
        ("", "\"\""),
        ("cattleguard", "cattleguard"),
    ] {
        let cache = cache(name);
        for (path, method, rest) in [
            ("/", Method::GET, "; fwd=miss; stored"),
            ("/", Method::GET, "; hit"),
            ("/", Method::HEAD, "; hit"),
            ("/", Method::POST, "; fwd=method"),
            ("/none", Method::GET, "; fwd=miss; detail=not-storable"),
        ] {
            let answer = send(&cache, request(method, path, &[])).await;
            assert_eq!(answer.field("cache-status"), Some(&*format!("{sent}{rest}")), "{path}");
        }
        let only = get(&cache, "/other", &[("cache-control", "only-if-cached")]).await;
        assert_eq!(only.field("cache-status"), Some(&*format!("{sent}; detail=only-if-cached")));
    }
    // One that the other cache before it has the name of, too.
    for upstream in ["cattleguard; hit", "edge; fwd=miss, cattleguard; fwd=miss; stored"] {
        let origin = Origin::new(move |_| {
            response(200, &[("cache-control", "max-age=60"), ("cache-status", upstream)], "body")
        });
        let cache = layer().cache_name("near").layer(origin.service());
        for how in ["fwd=miss; stored", "hit"] {
            let expected = format!("{upstream}, near; {how}");
            assert_eq!(get(&cache, "/", &[]).await.field("cache-status"), Some(&*expected));
        }
    }
}

#[tokio::test]
async fn a_client_that_loads_a_purged_response_again_gets_its_own_fields() {
    let origin = Origin::new(|_| {
        let control = ("cache-control", "max-age=60, private=\"set-cookie\"");
        response(200, &[control, ("surrogate-key", "shop"), ("set-cookie", "a=1")], "body")
    });
    let layer = layer().tag_field(HeaderName::from_static("surrogate-key"));
    let cache = layer.layer(origin.service());
    for _ in 0..3 {
        assert_eq!(get(&cache, "/", &[]).await.field("set-cookie"), Some("a=1"));
        assert_eq!(get(&cache, "/", &[]).await.field("set-cookie"), None);
        layer.purge_tag("shop").await.expect("purged");
    }
}
