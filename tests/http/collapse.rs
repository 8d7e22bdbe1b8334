//! RFC 9111 §4, "collapse requests": one call for many clients, and no client fares worse for it.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use cattleguard::{Clock, Guard, Policy, http::HttpGuardLayer, memory};
use futures::future::join_all;
use http::{Method, Request};
use http_body::Frame;
use http_body_util::{BodyExt, Full};
use tokio::time::Instant;
use tower::{Layer, ServiceExt};

use crate::{
    Origin, cache, get, layer,
    origin::{self, Broken},
    policy, request, response, secs,
};

const FRESH: (&str, &str) = ("cache-control", "max-age=60");

fn layer_with(policy: Policy) -> HttpGuardLayer {
    let far = memory::MemoryFar::with(1_000, Clock::tokio());
    HttpGuardLayer::new(Guard::builder().policy(policy).far(far))
}

/// An origin that numbers its answers.
fn numbered(fields: &'static [(&'static str, &'static str)]) -> Origin {
    let calls = AtomicUsize::new(0);
    Origin::new(move |_| response(200, fields, &calls.fetch_add(1, Ordering::SeqCst).to_string()))
}

#[tokio::test(start_paused = true)]
async fn rfc9111_4_a_hundred_clients_of_a_cold_url_are_one_call() {
    let origin = numbered(&[FRESH]).taking(secs(1));
    let cache = cache(&origin);
    let begun = Instant::now();
    let answers = join_all((0..100).map(|_| get(&cache, "/", &[]))).await;
    assert_eq!(begun.elapsed().as_secs(), 1);
    assert!(answers.iter().all(|answer| (answer.status(), answer.text()) == (200, "0")));
    assert_eq!(origin.calls(), 1);
    let collapsed = |answer: &&crate::Answer| {
        answer.field("cache-status") == Some("cattleguard; fwd=miss; stored; collapsed")
    };
    assert_eq!(answers.iter().filter(collapsed).count(), 99);
}

#[tokio::test(start_paused = true)]
async fn rfc9111_4_uncacheable_responses_do_not_queue_requests() {
    for fields in [
        &[("cache-control", "no-store")][..],
        &[("cache-control", "private, max-age=60")],
        &[FRESH, ("set-cookie", "a=b")],
        &[FRESH, ("vary", "*")],
        &[],
    ] {
        let origin = numbered(fields).taking(secs(1));
        let cache = cache(&origin);
        // The first time they wait for one head; from then on only for their own.
        for (seconds, calls) in [(2, 100), (1, 200)] {
            let begun = Instant::now();
            let answers = join_all((0..100).map(|_| get(&cache, "/", &[]))).await;
            assert_eq!(begun.elapsed().as_secs(), seconds, "{fields:?}");
            assert_eq!(origin.calls(), calls);
            let bodies: std::collections::HashSet<_> =
                answers.iter().map(|answer| answer.text()).collect();
            assert_eq!(bodies.len(), 100, "each has its own: {fields:?}");
        }
        // After the hit-for-pass ttl one request finds out for all whether this has changed.
        tokio::time::advance(secs(11)).await;
        let begun = Instant::now();
        join_all((0..100).map(|_| get(&cache, "/", &[]))).await;
        assert_eq!((begun.elapsed().as_secs(), origin.calls()), (2, 300));
    }
}

#[tokio::test(start_paused = true)]
async fn rfc9111_4_1_each_variant_is_called_for_once() {
    let origin = Origin::new(|request| {
        let language = request.headers()["accept-language"].to_str().expect("text");
        response(200, &[FRESH, ("vary", "accept-language")], language)
    })
    .taking(secs(1));
    let cache = cache(&origin);
    let begun = Instant::now();
    let languages = (0..100).map(|client| format!("x-{}", client % 10));
    let herd = join_all(languages.map(async |language| {
        let answer = get(&cache, "/", &[("accept-language", &language)]).await;
        assert_eq!(answer.text(), language);
        assert!(!answer.is_hit(), "{answer:?}");
    }));
    herd.await;
    // One load finds that there are variants, and stores one.
    assert_eq!((begun.elapsed().as_secs(), origin.calls()), (2, 10));
}

#[tokio::test(start_paused = true)]
async fn rfc9111_4_1_more_selecting_fields_still_share_loads() {
    let origin = Origin::new(|request| {
        let vary = if request.headers().contains_key("x-a") { "x-a, x-b" } else { "x-a" };
        let value = request.headers().get("x-b").map_or("", |value| value.to_str().expect("text"));
        response(200, &[FRESH, ("vary", vary)], value)
    })
    .taking(secs(1));
    let cache = cache(&origin);
    get(&cache, "/", &[]).await;
    let herd = join_all((0..100).map(async |client| {
        let value = (client % 2).to_string();
        let answer = get(&cache, "/", &[("x-a", "1"), ("x-b", &value)]).await;
        assert_eq!(answer.text(), value);
    }));
    herd.await;
    // Two more: one that finds out, and one per value.
    assert!(origin.calls() <= 4, "{}", origin.calls());
    let calls = origin.calls();
    for value in ["0", "1"] {
        let answer = get(&cache, "/", &[("x-a", "1"), ("x-b", value)]).await;
        assert_eq!((answer.is_hit(), answer.text()), (true, value));
    }
    assert_eq!(origin.calls(), calls);
}

#[tokio::test(start_paused = true)]
async fn bodies_that_are_not_stored_stream_through() {
    for (what, fields) in [
        ("not storable", &[("cache-control", "no-store")][..]),
        ("says it is long", &[FRESH, ("content-length", "2000")]),
        ("is a stream of events", &[FRESH, ("content-type", "Text/Event-Stream; charset=utf-8")]),
        ("is long", &[FRESH]),
    ] {
        let (sender, body) = origin::piecewise();
        let body = parking_lot::Mutex::new(Some(body));
        let origin = Origin::new(move |_| {
            let body = body.lock().take().expect("one call");
            response(200, fields, "").map(|_| body)
        });
        let cache = layer().max_body_size(1_000).layer(origin.service());
        let long = if what == "is long" { 1_001 } else { 1 };
        let piece = |length: usize| Ok(Frame::data(Bytes::from(vec![b'x'; length])));
        sender.send(piece(long)).expect("open");
        let Ok(response) = cache.clone().oneshot(request(Method::GET, "/", &[])).await;
        let mut body = response.into_body();
        let first = body.frame().await.expect("a piece").expect("whole");
        assert_eq!(first.into_data().expect("data").len(), long, "{what}");
        sender.send(piece(7)).expect("open");
        let second = body.frame().await.expect("a piece").expect("whole");
        assert_eq!(second.into_data().expect("data").len(), 7, "{what}");
        drop(sender);
        assert!(body.frame().await.is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_body_of_a_declared_length_is_waited_for_once() {
    let (sender, body) = origin::piecewise();
    let body = parking_lot::Mutex::new(Some(body));
    let origin = Origin::new(move |_| {
        let body = body.lock().take().expect("one call");
        response(200, &[FRESH, ("content-length", "15")], "").map(|_| body)
    });
    let cache = cache(&origin);
    let herd = join_all((0..100).map(|_| get(&cache, "/", &[])));
    let sending = async {
        for _ in 0..3 {
            tokio::time::sleep(secs(1)).await;
            sender.send(Ok(Frame::data(Bytes::from_static(b"piece")))).expect("open");
        }
        drop(sender);
    };
    let (answers, ()) = futures::future::join(herd, sending).await;
    assert!(answers.iter().all(|answer| answer.text() == "piecepiecepiece"));
    assert_eq!(origin.calls(), 1);
}

/// An origin whose bodies begin with a piece, and end a minute later.
fn trickling(fields: &'static [(&'static str, &'static str)]) -> Origin {
    Origin::new(move |_| {
        let (sender, body) = origin::piecewise();
        sender.send(Ok(Frame::data(Bytes::from_static(b"first")))).expect("open");
        tokio::spawn(async move {
            tokio::time::sleep(secs(60)).await;
            // The client may have gone.
            let _ = sender.send(Ok(Frame::data(Bytes::from_static(b" last"))));
        });
        response(200, fields, "").map(|_| body)
    })
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_still_coming_after_a_second_is_passed_as_it_comes() {
    for (fields, layer, waited) in [
        (&[FRESH][..], layer(), 1_000),
        (&[], layer().default_ttl(secs(60)), 1_000),
        (&[FRESH], layer().body_timeout(Duration::ZERO), 0),
        // One that says how long it is; half of the load timeout.
        (&[FRESH, ("content-length", "10")], layer(), 5_000),
        (&[FRESH], layer().body_timeout(secs(60)), 5_000),
    ] {
        let origin = trickling(fields);
        let cache = layer.layer(origin.service());
        // The first time they wait for what might be stored, then for nothing.
        for (round, waited) in [(1, waited), (2, 0), (3, 0)] {
            let begun = Instant::now();
            let herd = join_all((0..10).map(async |_| {
                let Ok(response) = cache.clone().oneshot(request(Method::GET, "/", &[])).await;
                assert_eq!(response.status(), 200);
                assert_eq!(begun.elapsed().as_millis() / 100, waited / 100, "{fields:?} {round}");
                let mut body = response.into_body();
                let first = body.frame().await.expect("a piece").expect("whole");
                assert_eq!(&first.into_data().expect("data")[..], b"first");
                body.collect().await.expect("whole").to_bytes()
            }));
            // The others have bodies of their own.
            if round < 3 {
                let early = Duration::from_millis(u64::try_from(waited + 1_000).expect("short"));
                let early = tokio::time::timeout(early, herd).await;
                assert!(early.is_err(), "the rest comes after a minute");
            } else {
                assert!(herd.await.iter().all(|rest| &rest[..] == b" last"));
                assert_eq!(begun.elapsed().as_secs(), 60);
            }
            assert_eq!(origin.calls(), round * 10, "{fields:?}");
        }
        let only = [("cache-control", "only-if-cached")];
        assert_eq!(get(&cache, "/", &only).await.status(), 504);
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_off_fails_one_client() {
    let calls = AtomicUsize::new(0);
    let origin = Origin::new(move |_| {
        let (sender, body) = origin::piecewise();
        sender.send(Ok(Frame::data(Bytes::from_static(b"piece")))).expect("open");
        if calls.fetch_add(1, Ordering::SeqCst) == 0 {
            sender.send(Err(Broken)).expect("open");
        }
        response(200, &[FRESH], "").map(|_| body)
    })
    .taking(secs(1));
    let cache = cache(&origin);
    let herd = join_all((0..10).map(async |_| {
        let Ok(response) = cache.clone().oneshot(request(Method::GET, "/", &[])).await;
        response.into_body().collect().await.map(|whole| whole.to_bytes())
    }));
    let bodies = herd.await;
    assert_eq!(bodies.iter().filter(|body| body.is_err()).count(), 1);
    assert!(bodies.iter().flatten().all(|body| &body[..] == b"piece"));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_away_cancels_nothing() {
    let origin = numbered(&[FRESH]).taking(secs(1));
    let cache = cache(&origin);
    let gone = tokio::time::timeout(Duration::from_millis(100), get(&cache, "/", &[])).await;
    assert!(gone.is_err());
    // One that came later is answered by the same call.
    let begun = Instant::now();
    assert_eq!(get(&cache, "/", &[]).await.text(), "0");
    assert_eq!(begun.elapsed().as_millis() / 100, 9);
    // It is stored even if no client is left.
    let gone = tokio::time::timeout(Duration::from_millis(100), get(&cache, "/b", &[])).await;
    assert!(gone.is_err());
    tokio::time::sleep(secs(1)).await;
    assert!(get(&cache, "/b", &[]).await.is_hit());
    assert_eq!(origin.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_is_503_with_retry_after() {
    let origin = numbered(&[FRESH]).taking(secs(1));
    let policy = policy().max_concurrent_loads(1).max_queued_loads(0);
    let cache = layer_with(policy).layer(origin.service());
    let (first, second) = tokio::join!(get(&cache, "/a", &[]), get(&cache, "/b", &[]));
    assert_eq!((first.status(), second.status()), (200, 503));
    let after: u64 = second.field("retry-after").expect("a time").parse().expect("a number");
    assert!(after >= 1);
    assert_eq!(second.field("cache-control"), Some("no-store"));
    assert_eq!(origin.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn slow_urls_hold_up_others_for_a_second_at_most() {
    let service = tower::service_fn(|request: Request<Full<Bytes>>| async move {
        let (takes, control) = match request.uri().path() {
            "/cold" => (Duration::ZERO, "max-age=60"),
            _ => (secs(9), "no-store"),
        };
        tokio::time::sleep(takes).await;
        Ok::<_, Infallible>(response(200, &[("cache-control", control)], "body"))
    });
    let cache = layer().layer(service);
    let ask = |path: String| cache.clone().oneshot(request(Method::GET, &path, &[]));
    let polls = || join_all((0..64).map(|n| ask(format!("/poll/{n}"))));
    polls().await;
    // Now each is known not to be stored, and goes past the cache.
    let cold = async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let begun = Instant::now();
        let response = ask("/cold".to_owned()).await.expect("a response");
        (response.status(), begun.elapsed())
    };
    let (_, (status, took)) = tokio::join!(polls(), cold);
    assert_eq!(status, 200);
    assert!(took <= secs(1), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_room_in_vain_is_503_with_retry_after() {
    let origin = numbered(&[FRESH]).taking(secs(9));
    let policy = policy().max_concurrent_loads(1).slow_load_after(Duration::MAX);
    let cache = layer_with(policy).layer(origin.service());
    let begun = Instant::now();
    let answers = join_all(["/a", "/b", "/c"].map(|path| get(&cache, path, &[]))).await;
    assert_eq!([0, 1, 2].map(|n: usize| answers[n].status()), [200, 200, 503]);
    let after: u64 = answers[2].field("retry-after").expect("a time").parse().expect("a number");
    assert!((1..=20).contains(&after), "{after}");
    assert_eq!((begun.elapsed().as_secs(), origin.calls()), (18, 2));
}

#[tokio::test(start_paused = true)]
async fn one_permit_is_enough_for_variants_and_reloads() {
    let origin = Origin::new(|_| response(200, &[FRESH, ("vary", "accept")], "body"));
    let cache = layer_with(policy().max_concurrent_loads(1));
    let cache = cache.allow_reloads().layer(origin.service());
    for fields in [&[][..], &[("cache-control", "no-cache")], &[("accept", "a/b")]] {
        assert_eq!(get(&cache, "/", fields).await.status(), 200);
    }
    let origin = numbered(&[FRESH]);
    let cache = layer_with(policy().max_concurrent_loads(1));
    let cache = cache.allow_reloads().layer(origin.service());
    get(&cache, "/", &[]).await;
    let reload = [("cache-control", "no-cache")];
    assert_eq!(get(&cache, "/", &reload).await.text(), "1");
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_panics_is_500_for_each_request_by_itself() {
    let origin = Origin::new(|_| panic!("the handler's bug")).taking(secs(1));
    let cache = cache(&origin);
    let answers = join_all((0..100).map(|_| get(&cache, "/", &[]))).await;
    assert!(answers.iter().all(|answer| answer.status() == 500));
    assert_eq!(origin.calls(), 100);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_takes_longer_than_a_load_may_answers_each_past_the_cache() {
    let origin = numbered(&[FRESH]).taking(secs(100));
    let slow = policy().load_timeout(secs(2)).max_concurrent_loads(8);
    let cache = layer_with(slow).layer(origin.service());
    let begun = Instant::now();
    let answers = join_all((0..16).map(|_| get(&cache, "/", &[]))).await;
    assert!(answers.iter().all(|answer| answer.status() == 200));
    assert_eq!(origin.calls(), 17, "the load, and one for each");
    assert!(begun.elapsed() < secs(210));
    let cache = layer_with(policy().load_timeout(secs(2))).timeout(secs(3)).layer(origin.service());
    let begun = Instant::now();
    assert_eq!(get(&cache, "/other", &[]).await.status(), 504);
    assert_eq!(begun.elapsed().as_secs(), 3, "the client's time is its time");
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_the_wait_and_not_the_load() {
    let origin = numbered(&[FRESH]).taking(secs(5));
    let cache = layer().timeout(secs(1)).layer(origin.service());
    let begun = Instant::now();
    assert_eq!(get(&cache, "/", &[]).await.status(), 504);
    assert_eq!(begun.elapsed().as_secs(), 1);
    tokio::time::sleep(secs(5)).await;
    assert!(get(&cache, "/", &[]).await.is_hit());
    assert_eq!(origin.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn each_client_gets_the_services_error_of_its_own_request() {
    let calls = Arc::new(AtomicUsize::new(0));
    let service = {
        let calls = calls.clone();
        tower::service_fn(move |_: Request<Full<Bytes>>| {
            calls.fetch_add(1, Ordering::SeqCst);
            async {
                tokio::time::sleep(secs(1)).await;
                Err::<http::Response<Full<Bytes>>, _>(Broken)
            }
        })
    };
    let cache = layer().layer(service);
    let herd = (0..100).map(|_| cache.clone().oneshot(request(Method::GET, "/", &[])));
    let answers = join_all(herd).await;
    assert_eq!(calls.load(Ordering::SeqCst), 100);
    assert!(answers.iter().all(Result::is_err));
}

/// It would be by a load for which no request waits.
#[tokio::test(start_paused = true)]
async fn what_is_passed_is_not_refreshed_early() {
    for control in ["no-store", "max-age=60"] {
        let origin = Origin::new(move |_| response(200, &[("cache-control", control)], "too long"));
        let origin = origin.taking(secs(1));
        let layer = layer_with(policy().early_refresh(1_000.0)).max_body_size(4);
        let cache = layer.layer(origin.service());
        for calls in 1..=5 {
            assert_eq!(get(&cache, "/", &[]).await.text(), "too long");
            assert_eq!(origin.calls(), calls, "{control}");
        }
    }
}
