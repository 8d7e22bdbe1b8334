//! One client's trouble is its own: a failure, a cookie, a request for another protocol.

use std::{
    collections::HashSet,
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use futures::future::join_all;
use http::{Method, Request};
use http_body_util::Full;
use tower::{Layer, ServiceExt};

use crate::{
    Origin, cache, get, layer, layer_of, policy, request, response, secs, stale::stale_policy,
};

const FRESH: (&str, &str) = ("cache-control", "max-age=60");

/// An origin that one cookie upsets.
fn upset_by_a_cookie(fields: &'static [(&'static str, &'static str)]) -> Origin {
    Origin::new(move |request| match request.headers().contains_key("cookie") {
        true => response(500, &[], "upset"),
        false => response(200, fields, "well"),
    })
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_the_answer_of_the_request_that_met_it() {
    let bad = [("cookie", "bad")];
    for fields in [&[FRESH][..], &[("cache-control", "no-store")], &[]] {
        // Also with a back-off after a failure.
        for policy in [policy(), stale_policy().failure_backoff(secs(5))] {
            let origin = upset_by_a_cookie(fields).taking(secs(1));
            let cache = layer_of(policy).layer(origin.service());
            for _ in 0..3 {
                let herd = (0..20).map(|client| get(&cache, "/", &bad[..usize::from(client == 0)]));
                let answers = join_all(herd).await;
                let well = answers.iter().filter(|answer| answer.text() == "well").count();
                assert!(well >= 19, "{well} of 20: {fields:?}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_503_reaches_each_client_with_its_own_body_and_fields() {
    let calls = AtomicUsize::new(0);
    let origin = Origin::new(move |_| {
        let call = calls.fetch_add(1, Ordering::SeqCst).to_string();
        response(503, &[("retry-after", "7")], &call)
    })
    .taking(secs(1));
    let cache = cache(&origin);
    let answers = join_all((0..100).map(|_| get(&cache, "/", &[]))).await;
    let bodies: HashSet<_> = answers.iter().map(|answer| answer.text()).collect();
    assert_eq!(bodies.len(), 100);
    for answer in &answers {
        assert_eq!((answer.status(), answer.field("retry-after")), (503, Some("7")));
    }
}

#[tokio::test(start_paused = true)]
async fn an_origin_that_fails_is_not_asked_by_all_at_once() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let service = {
        let most = most.clone();
        tower::service_fn(move |_: Request<Full<Bytes>>| {
            let (now, most) = (now.clone(), most.clone());
            async move {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::time::sleep(secs(1)).await;
                now.fetch_sub(1, Ordering::SeqCst);
                Ok::<_, Infallible>(response(500, &[], "down"))
            }
        })
    };
    let cache = layer_of(policy().max_concurrent_loads(4)).layer(service);
    let herd = (0..40).map(|_| cache.clone().oneshot(request(Method::GET, "/", &[])));
    for answer in join_all(herd).await {
        assert_eq!(answer.expect("an answer").status(), 500);
    }
    assert_eq!(most.load(Ordering::SeqCst), 4);
}

#[tokio::test(start_paused = true)]
async fn a_reload_that_fails_takes_nothing_away() {
    let calls = AtomicUsize::new(0);
    let origin = Origin::new(move |_| match calls.fetch_add(1, Ordering::SeqCst) {
        1 => response(503, &[], "down"),
        call => response(200, &[FRESH], &call.to_string()),
    });
    let cache = layer().allow_reloads().layer(origin.service());
    get(&cache, "/", &[]).await;
    let reload = [("cache-control", "no-cache")];
    assert_eq!(get(&cache, "/", &reload).await.text(), "down");
    let hit = get(&cache, "/", &[]).await;
    assert_eq!((hit.is_hit(), hit.text()), (true, "0"));
    for fields in [&reload[..], &[]] {
        assert_eq!(get(&cache, "/", fields).await.text(), "2");
    }
    assert_eq!(origin.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_purge_during_a_reload_keeps_its_response_out() {
    let calls = Arc::new(AtomicUsize::new(0));
    let service = tower::service_fn(move |_: Request<Full<Bytes>>| {
        let call = calls.fetch_add(1, Ordering::SeqCst).to_string();
        async move {
            tokio::time::sleep(secs(1)).await;
            Ok::<_, Infallible>(response(200, &[FRESH], &call))
        }
    });
    let shared = layer().allow_reloads();
    let cache = shared.layer(service);
    let ask = async |fields| {
        let Ok(response) = cache.clone().oneshot(request(Method::GET, "/", fields)).await;
        crate::whole(response).await
    };
    ask(&[]).await;
    let purging = async {
        tokio::time::sleep(secs(1) / 2).await;
        let url = "http://example.com/".parse().expect("a URL");
        let _ = shared.purge(&url, None).await.expect("a purge");
    };
    tokio::join!(ask(&[("cache-control", "no-cache")]), purging);
    assert_ne!(ask(&[]).await.text(), "1", "its call began before the purge");
}

#[tokio::test(start_paused = true)]
async fn one_response_that_cannot_be_stored_is_no_rule() {
    let origin = Origin::new(|request| match request.headers().contains_key("cookie") {
        true => response(200, &[FRESH], "page"),
        false => response(200, &[FRESH, ("set-cookie", "visitor=1")], "page"),
    });
    let cache = cache(&origin);
    let known = [("cookie", "visitor=1")];
    assert!(get(&cache, "/", &[]).await.field("set-cookie").is_some());
    // It passes, and could be stored; so the next is.
    for is_hit in [false, false, true] {
        assert_eq!(get(&cache, "/", &known).await.is_hit(), is_hit);
        tokio::task::yield_now().await;
    }
    assert!(get(&cache, "/", &[]).await.is_hit());
    assert_eq!(origin.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn rfc9113_3_1_a_request_that_would_take_http2_is_answered_from_the_cache() {
    let origin = Origin::new(|_| response(200, &[FRESH], "body"));
    let cache = cache(&origin);
    let fields =
        [("connection", "Upgrade, HTTP2-Settings"), ("upgrade", "h2c"), ("http2-settings", "AAM")];
    assert!(!get(&cache, "/", &fields).await.is_hit());
    assert!(get(&cache, "/", &fields).await.is_hit());
    let others = [("connection", "upgrade"), ("upgrade", "h2c, websocket")];
    assert!(!get(&cache, "/", &others).await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn rfc9111_5_2_1_5_a_request_with_no_store_is_answered_from_the_cache_and_stores_nothing() {
    let origin = Origin::new(|_| response(200, &[FRESH], "body"));
    for layer in [layer(), layer().allow_reloads()] {
        let cache = layer.layer(origin.service());
        let no_store = [("cache-control", "no-store")];
        for _ in 0..2 {
            let answer = get(&cache, "/", &no_store).await;
            assert_eq!(answer.field("cache-status"), Some("cattleguard; fwd=request"));
        }
        assert!(!get(&cache, "/", &[]).await.is_hit(), "nothing of it was kept");
        assert!(get(&cache, "/", &no_store).await.is_hit());
    }
}
