//! Purging by URL, by tag, and by request.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use cattleguard::{far::Invalidated, memory::MemoryFar};
use tokio::sync::Notify;
use tower::service_fn;

use super::*;

/// Every response has the tags `shop` and that of its path.
fn tagged() -> Origin {
    let runs = AtomicUsize::new(0);
    Origin::new(move |request| {
        let tags = format!("shop path{}", request.uri().path().replace('/', "-"));
        let fields = [("cache-control", "max-age=60"), ("surrogate-key", &*tags)];
        let run = runs.fetch_add(1, Ordering::SeqCst) + 1;
        response(200, &fields, &format!("run {run}"))
    })
}

fn by_tag() -> HttpGuardLayer {
    layer().tag_field(HeaderName::from_static("surrogate-key"))
}

#[tokio::test]
async fn a_purged_tag_purges_its_responses_and_no_others() {
    let (origin, layer) = (tagged(), by_tag());
    let cache = layer.layer(origin.service());
    for path in ["/a", "/b"] {
        get(&cache, path, &[]).await;
        let hit = get(&cache, path, &[]).await;
        assert!(hit.is_hit(), "{hit:?}");
        assert!(hit.field("surrogate-key").is_some_and(|tags| tags.starts_with("shop ")));
    }
    assert_eq!(layer.purge_tag("path-a").await.expect("purged"), Invalidated::Everywhere);
    assert_eq!(get(&cache, "/a", &[]).await.text(), "run 3");
    assert!(get(&cache, "/a", &[]).await.is_hit());
    assert_eq!(get(&cache, "/b", &[]).await.text(), "run 2");
    layer.purge_tag("shop").await.expect("purged");
    assert_eq!(get(&cache, "/a", &[]).await.text(), "run 4");
    assert_eq!(get(&cache, "/b", &[]).await.text(), "run 5");
    layer.purge_tag("nobody's").await.expect("purged");
    assert!(get(&cache, "/a", &[]).await.is_hit());
}

#[tokio::test]
async fn a_purged_tag_is_purged_in_other_processes() {
    let (origin, far) = (tagged(), MemoryFar::with(1_000, Clock::tokio()));
    let process = || {
        let builder = Guard::builder().policy(policy()).far(far.clone());
        HttpGuardLayer::new(builder).tag_field(HeaderName::from_static("surrogate-key"))
    };
    let (one, two) = (process(), process());
    let (first, second) = (one.layer(origin.service()), two.layer(origin.service()));
    assert_eq!(get(&first, "/a", &[]).await.text(), "run 1");
    assert_eq!(get(&second, "/a", &[]).await.text(), "run 1");
    one.purge_tag("shop").await.expect("purged");
    assert_eq!(get(&second, "/a", &[]).await.text(), "run 2");
    // It was loaded again by the other one.
    assert_eq!(get(&first, "/a", &[]).await.text(), "run 2");
    assert_eq!(origin.calls(), 2);
}

#[tokio::test]
async fn only_if_cached_and_head_do_not_see_purged_responses() {
    let (origin, layer) = (tagged(), by_tag());
    let cache = layer.layer(origin.service());
    get(&cache, "/a", &[]).await;
    layer.purge_tag("shop").await.expect("purged");
    let cached = get(&cache, "/a", &[("cache-control", "only-if-cached")]).await;
    assert_eq!(cached.status(), 504);
    send(&cache, request(Method::HEAD, "/a", &[])).await;
    assert_eq!(origin.calls(), 2);
    // Old enough for this client, but purged.
    let younger = get(&cache, "/a", &[("cache-control", "max-age=30")]).await;
    assert_eq!(younger.text(), "run 3");
}

#[tokio::test]
async fn all_variants_of_a_purged_tag_are_purged() {
    let origin = Origin::new(|request| {
        let fields =
            [("cache-control", "max-age=60"), ("vary", "accept"), ("surrogate-key", "shop")];
        response(200, &fields, request.headers()["accept"].to_str().expect("text"))
    });
    let layer = by_tag();
    let cache = layer.layer(origin.service());
    for round in 1..=3 {
        for accept in ["x/a", "x/b"] {
            assert_eq!(get(&cache, "/", &[("accept", accept)]).await.text(), accept);
            assert!(get(&cache, "/", &[("accept", accept)]).await.is_hit());
        }
        assert_eq!(origin.calls(), 2 * round);
        layer.purge_tag("shop").await.expect("purged");
    }
}

#[tokio::test]
async fn the_variants_that_do_not_have_a_purged_tag_stay() {
    let origin = Origin::new(|request| {
        let language = request.headers()["accept-language"].to_str().expect("text");
        let vary = ("vary", "accept-language");
        response(200, &[("cache-control", "max-age=60"), vary, ("surrogate-key", language)], "")
    });
    let layer = by_tag();
    let cache = layer.layer(origin.service());
    for (purged, hits) in [("none", [false, false]), ("de", [false, true]), ("en", [true, false])] {
        layer.purge_tag(purged).await.expect("purged");
        for (language, is_hit) in ["de", "en"].into_iter().zip(hits) {
            let answer = get(&cache, "/", &[("accept-language", language)]).await;
            assert_eq!(answer.is_hit(), is_hit, "{purged}: {language}");
        }
    }
}

#[tokio::test]
async fn requests_after_a_purge_share_one_load() {
    let (origin, layer) = (tagged().taking(secs(1)), by_tag());
    tokio::time::pause();
    let cache = layer.layer(origin.service());
    get(&cache, "/a", &[]).await;
    layer.purge_tag("shop").await.expect("purged");
    let all = (0..100).map(|_| get(&cache, "/a", &[]));
    for answer in futures::future::join_all(all).await {
        assert_eq!(answer.text(), "run 2");
    }
    assert_eq!(origin.calls(), 2);
}

#[tokio::test]
async fn a_load_from_before_a_purge_of_its_tag_answers_no_later_request() {
    let (begun, open) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let runs = Arc::new(AtomicUsize::new(0));
    let (begin, gate, counted) = (begun.clone(), open.clone(), runs.clone());
    let origin = service_fn(move |_: Request<Full<Bytes>>| {
        let (begin, gate) = (begin.clone(), gate.clone());
        let run = counted.fetch_add(1, Ordering::SeqCst) + 1;
        async move {
            begin.notify_one();
            if run == 1 {
                gate.notified().await;
            }
            let fields = [("cache-control", "max-age=60"), ("surrogate-key", "shop")];
            Ok::<_, Infallible>(response(200, &fields, &format!("run {run}")))
        }
    });
    let layer = by_tag();
    let cache = layer.layer(origin);
    let ask = || {
        let cache = cache.clone();
        async move {
            let Ok(response) = cache.oneshot(request(Method::GET, "/a", &[])).await;
            whole(response).await
        }
    };
    let early = tokio::spawn(ask());
    begun.notified().await;
    layer.purge_tag("shop").await.expect("purged");
    let late = tokio::spawn(ask());
    tokio::task::yield_now().await;
    open.notify_one();
    assert_eq!(late.await.expect("an answer").text(), "run 2");
    early.await.expect("an answer");
    let hit = ask().await;
    assert_eq!(hit.text(), "run 2");
    assert!(hit.is_hit());
    assert_eq!(runs.load(Ordering::SeqCst), 2);
}

/// A request to the service that purges: its status.
async fn purge(layer: &HttpGuardLayer, method: &str, fields: Fields<'_>, body: &str) -> u16 {
    let mut request = Request::builder().method(method).uri("/a").header("host", "example.com");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let body = Full::<Bytes>::from(body.to_owned());
    let request = request.body(body).expect("a request");
    let Ok(response) = layer.purge_service("secret").oneshot(request).await;
    assert_eq!(response.headers()["cache-control"], "no-store");
    response.status().as_u16()
}

const TOKEN: (&str, &str) = ("authorization", "Bearer secret");

#[tokio::test]
async fn a_purge_needs_the_token() {
    let (origin, layer) = (tagged(), by_tag());
    let cache = layer.layer(origin.service());
    get(&cache, "/a", &[]).await;
    for credentials in
        ["Bearer secre", "Bearer secret2", "Bearer ", "Bearer", "secret", "Basic secret", ""]
    {
        let fields = [("authorization", credentials)];
        assert_eq!(purge(&layer, "PURGE", &fields, "").await, 401, "{credentials:?}");
    }
    assert_eq!(purge(&layer, "PURGE", &[], "").await, 401);
    assert_eq!(purge(&layer, "PURGE", &[TOKEN, TOKEN], "").await, 401);
    let empty = layer.purge_service("");
    let request = Request::builder().method("PURGE").uri("http://example.com/a");
    let request = request.header("authorization", "Bearer ").body(Full::<Bytes>::default());
    let Ok(response) = empty.oneshot(request.expect("a request")).await;
    assert_eq!(response.status(), 401);
    assert!(get(&cache, "/a", &[]).await.is_hit());
}

#[tokio::test]
async fn a_request_with_the_token_purges_what_it_names() {
    let (origin, layer) = (tagged(), by_tag());
    let cache = layer.layer(origin.service());
    let urls = "http://example.com/a\n\n http://example.com/b \n";
    for (method, fields, body, status, purged) in [
        ("PURGE", &[TOKEN][..], "", 204, [true, false]),
        ("POST", &[TOKEN], urls, 204, [true, true]),
        ("POST", &[("authorization", "bearer secret")], "http://example.com/b", 204, [false, true]),
        ("POST", &[TOKEN, ("surrogate-key", "path-b x")], "", 204, [false, true]),
        ("POST", &[TOKEN, ("surrogate-key", "shop")], "", 204, [true, true]),
        ("POST", &[TOKEN], "/a", 400, [false, false]),
        ("POST", &[TOKEN], "", 400, [false, false]),
        ("POST", &[TOKEN], &"x".repeat(70_000), 413, [false, false]),
        ("GET", &[TOKEN], "", 405, [false, false]),
    ] {
        get(&cache, "/a", &[]).await;
        get(&cache, "/b", &[]).await;
        let case = format!("{method} {fields:?} {}", body.len());
        assert_eq!(purge(&layer, method, fields, body).await, status, "{case}");
        let cached = [get(&cache, "/a", &[]).await, get(&cache, "/b", &[]).await];
        assert_eq!(cached.map(|answer| !answer.is_hit()), purged, "{case}");
    }
}

#[tokio::test]
async fn a_purge_below_a_version_spares_newer_responses() {
    let origin = Origin::new(|_| {
        response(200, &[("cache-control", "max-age=60"), ("x-version", "7")], "seven")
    });
    let layer = layer().version_field(HeaderName::from_static("x-version"));
    let cache = layer.layer(origin.service());
    get(&cache, "/a", &[]).await;
    assert_eq!(purge(&layer, "PURGE", &[TOKEN, ("x-version", "7")], "").await, 204);
    assert!(get(&cache, "/a", &[]).await.is_hit());
    assert_eq!(purge(&layer, "PURGE", &[TOKEN, ("x-version", "new")], "").await, 400);
    assert_eq!(origin.calls(), 1);
}
