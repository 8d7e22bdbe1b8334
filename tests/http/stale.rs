//! RFC 9111 §4.2.4, RFC 5861: which responses are served stale.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use cattleguard::{
    Clock, Guard, GuardEventKind, Outcome, Policy, Tier, http::HttpGuardLayer, memory,
};
use http_body_util::Full;
use parking_lot::Mutex;
use tower::{Layer, ServiceExt};

use crate::{
    Fields, Origin, builder, cache, get, layer,
    origin::{Broken, OriginBody},
    policy, request, response, secs,
};

const FRESH: (&str, &str) = ("cache-control", "max-age=60");

pub(crate) fn stale_policy() -> Policy {
    policy().grace(secs(30)).stale_if_error(secs(300))
}

pub(crate) fn stale_cache(origin: &Origin) -> crate::Cache {
    let far = memory::MemoryFar::with(100, Clock::tokio());
    let builder = Guard::builder().policy(stale_policy()).far(far);
    HttpGuardLayer::new(builder).layer(origin.service())
}

/// The first response, then one made of each request for it anew.
pub(crate) fn then(
    first: Fields<'static>,
    second: impl Fn(&http::Request<()>) -> http::Response<OriginBody> + Send + Sync + 'static,
) -> Origin {
    let calls = AtomicUsize::new(0);
    Origin::new(move |request| match calls.fetch_add(1, Ordering::SeqCst) {
        0 => response(200, first, "old"),
        _ => second(request),
    })
}

#[tokio::test(start_paused = true)]
async fn rfc9111_4_2_4_what_must_be_revalidated_is_never_served_stale() {
    for value in [
        "max-age=60, must-revalidate",
        "max-age=60, proxy-revalidate",
        "s-maxage=60",
        "max-age=60, stale-while-revalidate=0, stale-if-error=0",
    ] {
        let calls = Arc::new(AtomicUsize::new(0));
        let origin = Origin::new(move |_| match calls.fetch_add(1, Ordering::SeqCst) {
            0 => response(200, &[("cache-control", value)], "body"),
            _ => response(503, &[], "down"),
        });
        let cache = stale_cache(&origin);
        get(&cache, "/", &[]).await;
        tokio::time::advance(secs(61)).await;
        assert_eq!(get(&cache, "/", &[]).await.status(), 503, "{value}");
    }
}

#[tokio::test(start_paused = true)]
async fn rfc5861_a_response_says_how_long_it_may_be_served_stale() {
    for (after, detail) in [
        (65, Some("stale-while-revalidate")),
        (75, Some("stale-if-error")),
        (165, Some("stale-if-error")),
        (175, None),
    ] {
        let calls = Arc::new(AtomicUsize::new(0));
        let origin = Origin::new(move |_| match calls.fetch_add(1, Ordering::SeqCst) {
            0 => {
                let value = "max-age=60, stale-while-revalidate=10, stale-if-error=100";
                response(200, &[("cache-control", value)], "body")
            }
            _ => response(503, &[], "down"),
        });
        // Longer than the policy's, which is none.
        let cache = cache(&origin);
        get(&cache, "/", &[]).await;
        tokio::time::advance(secs(after)).await;
        let answer = get(&cache, "/", &[]).await;
        match detail {
            Some(detail) => {
                let expected = format!("cattleguard; hit; detail={detail}");
                assert_eq!(answer.field("cache-status"), Some(&*expected), "{after}");
            }
            None => assert_eq!(answer.status(), 503),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_hook_is_told_how_old_a_response_is_that_a_request_takes_stale() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let hook = told.clone();
    let builder = builder().on_event(move |event| {
        if let GuardEventKind::ServedStale { outcome, beyond } = event.kind() {
            hook.lock().push((outcome, beyond, event.key().is_some()));
        }
    });
    let fields = [("cache-control", "max-age=60, stale-if-error=100")];
    let origin = Origin::new(move |_| response(200, &fields, "body"));
    let cache = HttpGuardLayer::new(builder).layer(origin.service());
    get(&cache, "/", &[]).await;
    tokio::time::advance(secs(100)).await;
    assert!(get(&cache, "/", &[("cache-control", "max-stale")]).await.is_hit());
    assert_eq!(*told.lock(), [(Outcome::Stale(Tier::Far), secs(40), false)]);
}

#[tokio::test(start_paused = true)]
async fn rfc9111_5_2_1_2_max_stale_takes_what_the_origin_lets_be_served_stale() {
    const LIMITED: &str = "max-age=60, stale-while-revalidate=10, stale-if-error=100";
    for (value, after, ask, is_served) in [
        (LIMITED, 100, "max-stale", true),
        (LIMITED, 100, "max-stale=50", true),
        (LIMITED, 100, "max-stale=50, max-age=200", true),
        (LIMITED, 100, "max-stale=50, no-cache", false),
        (LIMITED, 100, "only-if-cached, max-stale=50", true),
        (LIMITED, 100, "max-age=200", false),
        // Beyond what the origin permits.
        (LIMITED, 180, "max-stale", false),
        (LIMITED, 180, "only-if-cached, max-stale=10000", false),
        ("max-age=60", 61, "max-stale", false),
        ("max-age=60, must-revalidate, stale-if-error=100", 61, "max-stale", false),
        ("max-age=60, proxy-revalidate, stale-if-error=100", 61, "max-stale", false),
        ("s-maxage=60, stale-if-error=100", 61, "max-stale", false),
    ] {
        for allowed in [false, true] {
            let fields = [("cache-control", value), ("vary", "accept"), ("etag", "\"1\"")];
            let origin = Origin::new(move |_| response(200, &fields, "body"));
            let layer = if allowed { layer().allow_reloads() } else { layer() };
            let cache = layer.layer(origin.service());
            get(&cache, "/", &[]).await;
            tokio::time::advance(secs(after)).await;
            let answer = get(&cache, "/", &[("cache-control", ask)]).await;
            assert_eq!(answer.is_hit(), is_served, "{value} {after} {ask}");
            if is_served {
                let told = answer.field("cache-status");
                assert_eq!(told, Some("cattleguard; hit; detail=max-stale"), "{ask}");
            }
            let is_asked = !is_served && !ask.contains("only-if-cached");
            assert_eq!(origin.calls(), 1 + usize::from(is_asked), "{value} {after} {ask}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn rfc9111_4_3_3_a_failure_leaves_the_stored_response() {
    for status in [500, 502, 503, 504] {
        let origin = then(&[FRESH], move |_| response(status, &[], "down"));
        let cache = stale_cache(&origin);
        get(&cache, "/", &[]).await;
        tokio::time::advance(secs(100)).await;
        let answer = get(&cache, "/", &[]).await;
        let detail = Some("cattleguard; hit; detail=stale-if-error");
        assert_eq!((answer.text(), answer.field("cache-status")), ("old", detail), "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn rfc9111_4_2_4_nothing_stale_is_served_without_permission() {
    let origin = then(&[FRESH], |_| response(503, &[], "down"));
    // The policy gives none, nor does the response.
    let cache = cache(&origin);
    get(&cache, "/", &[]).await;
    tokio::time::advance(secs(61)).await;
    assert_eq!(get(&cache, "/", &[]).await.status(), 503);
    let only = [("cache-control", "only-if-cached")];
    assert_eq!(get(&cache, "/", &only).await.status(), 504);
}

#[tokio::test(start_paused = true)]
async fn rfc9111_5_2_2_2_an_unreachable_origin_is_an_error_and_nothing_stale() {
    let calls = Arc::new(AtomicUsize::new(0));
    let service = tower::service_fn(move |_: http::Request<Full<Bytes>>| {
        let call = calls.fetch_add(1, Ordering::SeqCst);
        async move {
            tokio::time::sleep(secs(1)).await;
            let must = ("cache-control", "max-age=60, must-revalidate");
            if call == 0 { Ok(response(200, &[must], "old")) } else { Err(Broken) }
        }
    });
    let far = memory::MemoryFar::with(100, Clock::tokio());
    let builder = Guard::builder().policy(stale_policy()).far(far);
    let cache = HttpGuardLayer::new(builder).layer(service);
    let ask = || cache.clone().oneshot(request(http::Method::GET, "/", &[]));
    assert_eq!(ask().await.expect("an answer").status(), 200);
    tokio::time::advance(secs(61)).await;
    let (first, second) = tokio::join!(ask(), ask());
    assert!(first.is_err() && second.is_err());
}
