//! The guard before a `tower::Service`.

use std::{
    future::{Ready, poll_fn, ready},
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use cattleguard::{Bypass, Error, Guard, GuardLayer, Key, Loaded, Outcome, Tier};
use futures::future::join_all;
use tokio::time::Instant;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

use crate::{Origin, bounded, idle, memory, ms, origin::row_at, plain, secs};

#[derive(Clone)]
struct Get(Option<&'static str>);

fn key_of(request: &Get) -> Option<&'static str> {
    request.0
}

fn guard() -> Guard<&'static str, String> {
    Guard::builder().far(memory()).build()
}

#[tokio::test(start_paused = true)]
async fn a_herd_of_requests_calls_the_inner_service_once() {
    let origin = Origin::taking(ms(50));
    let load = {
        let origin = origin.clone();
        move |_: Get| origin.load()()
    };
    let service =
        ServiceBuilder::new().layer(GuardLayer::new(guard(), key_of)).service(service_fn(load));
    let herd: Vec<_> =
        (0..250).map(|_| tokio::spawn(service.clone().oneshot(Get(Some("k"))))).collect();
    for response in herd {
        let fetched = bounded(response).await.expect("no panic").expect("a value");
        assert_eq!(fetched.value().map(String::as_str), Some("v1"));
    }
    let hit = service.oneshot(Get(Some("k"))).await.expect("a value");
    assert_eq!((hit.outcome(), origin.loads()), (Outcome::Hit(Tier::Near), 1));
}

#[tokio::test(start_paused = true)]
async fn a_key_may_be_a_part_of_the_request_and_an_answer_a_row() {
    #[derive(Clone)]
    struct GetPage(String);
    let pages: Guard<str, String> = Guard::builder().policy(plain()).far(memory()).build();
    let layer = GuardLayer::by_name(pages.clone(), |page: &GetPage| Some(page.0.name()));
    let read = |page: GetPage| ready(Ok::<_, io::Error>(Some((page.0, 7_i64))));
    let service = layer.layer(service_fn(read));
    for outcome in [Outcome::Loaded, Outcome::Hit(Tier::Near)] {
        let page = service.clone().oneshot(GetPage("/".to_owned())).await.expect("a page");
        assert_eq!((page.version().high(), page.outcome()), (7, outcome));
    }
    assert!(pages.peek("/").is_some());
}

#[tokio::test(start_paused = true)]
async fn a_layer_takes_keys_that_borrow_as_the_guards() {
    let pages: Guard<str, String> = Guard::builder().policy(plain()).far(memory()).build();
    let layer = GuardLayer::new(pages.clone(), |page: &u64| Some(format!("page:{page}")));
    let read = |page: u64| ready(Ok::<_, io::Error>(Loaded::found(page.to_string(), 7)));
    let service = layer.layer(service_fn(read));
    service.oneshot(3).await.expect("a page");
    assert!(pages.peek("page:3").is_some());
}

#[tokio::test(start_paused = true)]
async fn clones_of_a_layer_share_their_flights() {
    let origin = Origin::taking(ms(50));
    let layer = GuardLayer::new(guard(), key_of);
    let services = [layer.clone(), layer].map(|layer| {
        let origin = origin.clone();
        layer.layer(service_fn(move |_: Get| origin.load()()))
    });
    let herd: Vec<_> = services
        .iter()
        .flat_map(|service| (0..50).map(|_| tokio::spawn(service.clone().oneshot(Get(Some("k"))))))
        .collect();
    for response in herd {
        bounded(response).await.expect("no panic").expect("a value");
    }
    assert_eq!(origin.loads(), 1);
}

/// A service that is never ready, and must not be asked in vain.
#[derive(Clone, Default)]
struct NeverReady {
    polls: Arc<AtomicUsize>,
    calls: Arc<AtomicUsize>,
}

impl Service<Get> for NeverReady {
    type Response = Loaded<String>;
    type Error = io::Error;
    type Future = Ready<Result<Loaded<String>, io::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        self.polls.fetch_add(1, Ordering::SeqCst);
        Poll::Pending
    }

    fn call(&mut self, _: Get) -> Self::Future {
        self.calls.fetch_add(1, Ordering::SeqCst);
        ready(Ok(row_at(1)))
    }
}

#[tokio::test(start_paused = true)]
async fn it_is_ready_and_hits_though_the_inner_service_never_is() {
    let guard = guard();
    guard.fetch(&"k", Origin::new().load()).await.expect("a value");
    let inner = NeverReady::default();
    let mut service = GuardLayer::new(guard, key_of).layer(inner.clone());
    assert!(poll_fn(|cx| Poll::Ready(service.poll_ready(cx))).await.is_ready());
    let hit = service.call(Get(Some("k"))).await.expect("a value");
    assert_eq!(hit.outcome(), Outcome::Hit(Tier::Near));
    assert_eq!(inner.polls.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn a_load_whose_inner_service_never_becomes_ready_ends_in_load_timeout() {
    let inner = NeverReady::default();
    let service = GuardLayer::new(guard(), key_of).layer(inner.clone());
    let begin = Instant::now();
    let response = bounded(service.oneshot(Get(Some("k")))).await;
    assert!(matches!(response, Err(Error::LoadTimeout { .. })), "{response:?}");
    assert_eq!(begin.elapsed(), secs(10));
    assert!(inner.polls.load(Ordering::SeqCst) > 0);
    assert_eq!(inner.calls.load(Ordering::SeqCst), 0);
}

/// A service that is ready at the second poll, for one call, and whose clones are not.
#[derive(Default)]
struct Picky {
    polls: usize,
    calls: Arc<AtomicUsize>,
}

impl Clone for Picky {
    fn clone(&self) -> Self {
        Self { polls: 0, calls: self.calls.clone() }
    }
}

impl Service<Get> for Picky {
    type Response = Loaded<String>;
    type Error = io::Error;
    type Future = Ready<Result<Loaded<String>, io::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        self.polls += 1;
        if self.polls < 2 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Get) -> Self::Future {
        assert!(self.polls >= 2, "called before it was ready");
        self.polls = 0;
        self.calls.fetch_add(1, Ordering::SeqCst);
        ready(Ok(row_at(1)))
    }
}

#[tokio::test(start_paused = true)]
async fn every_load_drives_its_own_clone_of_the_inner_service_to_readiness() {
    let inner = Picky::default();
    let calls = inner.calls.clone();
    let mut service = GuardLayer::new(guard(), key_of).layer(inner);
    for key in ["a", "b", "c"] {
        let fetched = service.ready().await.expect("ready").call(Get(Some(key))).await;
        assert_eq!(fetched.expect("a value").outcome(), Outcome::Loaded);
    }
    let past = service.ready().await.expect("ready").call(Get(None)).await.expect("a value");
    assert_eq!(past.outcome(), Outcome::Bypassed(Bypass::NoKey));
    assert_eq!(calls.load(Ordering::SeqCst), 4);
}

#[tokio::test(start_paused = true)]
async fn a_lagging_inner_service_is_made_ready_and_called_again() {
    let guard = guard();
    guard.invalidate_at(&"k", 6).await.expect("the far tier");
    let calls = Arc::new(AtomicUsize::new(0));
    let inner = service_fn({
        let calls = calls.clone();
        move |_: Get| {
            let call = calls.fetch_add(1, Ordering::SeqCst);
            ready(Ok::<_, io::Error>(row_at(if call < 2 { 5 } else { 6 })))
        }
    });
    let service = GuardLayer::new(guard, key_of).layer(inner);
    let fetched = bounded(service.oneshot(Get(Some("k")))).await.expect("a value");
    assert_eq!(fetched.version(), 6.into());
    assert_eq!(calls.load(Ordering::SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn a_request_without_a_key_goes_past_the_guard() {
    let guard = guard();
    let origin = Origin::new();
    let inner = service_fn({
        let origin = origin.clone();
        move |_: Get| origin.load()()
    });
    let service = GuardLayer::new(guard.clone(), key_of).layer(inner);
    for calls in 1..=3 {
        let past = service.clone().oneshot(Get(None)).await.expect("a value");
        assert_eq!(past.outcome(), Outcome::Bypassed(Bypass::NoKey));
        assert_eq!((origin.loads(), guard.flights()), (calls, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn the_inner_services_error_can_be_downcast() {
    for key in [Some("k"), None] {
        let inner = service_fn(|_: Get| {
            ready(Err::<Loaded<String>, _>(io::Error::new(io::ErrorKind::NotConnected, "down")))
        });
        let service = GuardLayer::new(guard(), key_of).layer(inner);
        match service.oneshot(Get(key)).await {
            Err(Error::Origin(error)) => {
                let error = error.downcast_ref::<io::Error>().expect("the inner error");
                assert_eq!(error.kind(), io::ErrorKind::NotConnected);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_boxed_inner_error_can_be_downcast_too() {
    let inner = service_fn(|_: Get| {
        ready(Err::<Loaded<String>, tower::BoxError>(Box::new(io::Error::other("down"))))
    });
    let service = GuardLayer::new(guard(), key_of).layer(inner);
    match service.oneshot(Get(Some("k"))).await {
        Err(Error::Origin(error)) => assert!(error.is::<io::Error>()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_response_future_does_not_cancel_the_load() {
    let guard = guard();
    let (origin, gate) = Origin::gated();
    let inner = service_fn({
        let origin = origin.clone();
        move |_: Get| origin.load()()
    });
    let mut service = GuardLayer::new(guard.clone(), key_of).layer(inner);
    let response = tokio::time::timeout(ms(5), service.call(Get(Some("k")))).await;
    assert!(response.is_err());
    assert_eq!(guard.flights(), 1);
    gate.open();
    idle().await;
    let hit = service.call(Get(Some("k"))).await.expect("a value");
    assert_eq!((hit.outcome(), origin.loads()), (Outcome::Hit(Tier::Near), 1));
}

#[tokio::test(start_paused = true)]
async fn a_response_future_that_is_never_polled_starts_nothing() {
    let guard: Guard<&'static str, String> = guard();
    let origin = Origin::new();
    let inner = service_fn({
        let origin = origin.clone();
        move |_: Get| origin.load()()
    });
    let mut service = GuardLayer::new(guard.clone(), key_of).layer(inner);
    drop(service.call(Get(Some("k"))));
    idle().await;
    assert_eq!((origin.loads(), guard.flights()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_stale_entry_answers_a_request_at_once() {
    let policy = plain().ttl(secs(1)).grace(secs(30));
    let guard: Guard<&'static str, String> = Guard::builder().policy(policy).far(memory()).build();
    let origin = Origin::taking(ms(50));
    guard.fetch(&"k", origin.load()).await.expect("a value");
    tokio::time::advance(secs(1)).await;
    let inner = service_fn({
        let origin = origin.clone();
        move |_: Get| origin.load()()
    });
    let service = GuardLayer::new(guard, key_of).layer(inner);
    let begin = Instant::now();
    let stale = service.oneshot(Get(Some("k"))).await.expect("a value");
    assert_eq!(stale.outcome(), Outcome::Stale(Tier::Near));
    assert!(begin.elapsed() < ms(1));
    tokio::time::sleep(ms(60)).await;
    assert_eq!(origin.loads(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_request_refreshes_early_as_often_as_a_fetch() {
    // A second before the end, loaded in 100 ms: half of the requests refresh at β·0.1 s·ln 2 = 1 s.
    let policy = plain()
        .ttl(secs(10))
        .near_ttl(secs(60))
        .early_refresh(10.0 / std::f64::consts::LN_2)
        .max_concurrent_loads(1_000)
        .max_refreshes(1_000);
    let guard: Guard<String, String> = Guard::builder().policy(policy).far(memory()).build();
    let origin = Origin::taking(ms(100));
    let load = {
        let origin = origin.clone();
        move |_: String| origin.load()()
    };
    let service = GuardLayer::new(guard, |key: &String| Some(key.clone())).layer(service_fn(load));
    let keys: Vec<_> = (0..400).map(|key| key.to_string()).collect();
    let ask = |key: &String| service.clone().oneshot(key.clone());
    join_all(keys.iter().map(ask)).await;
    tokio::time::advance(secs(9)).await;
    join_all(keys.iter().map(ask)).await;
    idle().await;
    let refreshed = origin.loads() - keys.len();
    assert!((150..=250).contains(&refreshed), "{refreshed} of {}", keys.len());
}

#[tokio::test(start_paused = true)]
async fn each_request_has_the_layers_deadline() {
    let origin = Origin::taking(secs(2));
    let layer = GuardLayer::new(guard(), key_of).timeout(ms(300));
    let load = {
        let origin = origin.clone();
        move |_: Get| origin.load()()
    };
    let service = layer.layer(service_fn(load));
    let begun = Instant::now();
    let answer = bounded(service.clone().oneshot(Get(Some("k")))).await;
    assert!(matches!(answer, Err(Error::DeadlineExceeded)), "{answer:?}");
    assert_eq!(begun.elapsed(), ms(300));
    tokio::time::sleep(secs(2)).await;
    assert!(service.oneshot(Get(Some("k"))).await.is_ok());
    assert_eq!(origin.loads(), 1);
    // A timeout without end is none.
    let service = GuardLayer::new(guard(), key_of)
        .timeout(std::time::Duration::MAX)
        .layer(service_fn(|_: Get| ready(Ok::<_, io::Error>(row_at(1)))));
    assert!(service.oneshot(Get(Some("k"))).await.is_ok());
}
