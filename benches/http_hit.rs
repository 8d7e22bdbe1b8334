//! A near hit over HTTP: what the layer adds to a service that does nothing. Allocations are counted, and
//! more than two fail it.

use std::{alloc::System, convert::Infallible, future::Ready, hint::black_box, time::Duration};

use bytes::Bytes;
use cattleguard::{
    Guard, Policy,
    http::{HttpGuard, HttpGuardLayer},
};
use criterion::{Criterion, criterion_group, criterion_main};
use futures::FutureExt;
use http::{HeaderValue, Request, Response, header};
use http_body_util::{Empty, Full};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tower::{Layer, Service, ServiceExt};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

static BODY: [u8; 200] = [b'x'; 200];

type Asked = Request<Empty<Bytes>>;

/// A service that does nothing, with and without `Vary`.
#[derive(Clone)]
struct Constant {
    vary: Option<&'static str>,
}

impl Service<Asked> for Constant {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Infallible>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Asked) -> Self::Future {
        let mut response = Response::new(Full::new(Bytes::from_static(&BODY)));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("max-age=3600"));
        headers.insert(header::ETAG, HeaderValue::from_static("\"1\""));
        if let Some(vary) = self.vary {
            headers.insert(header::VARY, HeaderValue::from_static(vary));
        }
        std::future::ready(Ok(response))
    }
}

fn request(fields: &[(&'static str, &'static str)]) -> Asked {
    let mut request = Request::builder().uri("/products/42?lang=en").header("host", "example.com");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(Empty::new()).expect("a request")
}

/// The fields that browsers send.
const BROWSER: [(&str, &str); 5] = [
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"),
    ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    ("accept-language", "en-US,en;q=0.5"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    ("connection", "keep-alive"),
];

fn cached(vary: Option<&'static str>, runtime: &tokio::runtime::Runtime) -> HttpGuard<Constant> {
    let hour = Duration::from_secs(3600);
    let builder = Guard::builder().policy(Policy::default().near_ttl(hour));
    let service = HttpGuardLayer::new(builder).layer(Constant { vary });
    let Ok(response) = runtime.block_on(service.clone().oneshot(request(&BROWSER)));
    assert_eq!(response.status(), 200);
    service
}

fn hit(c: &mut Criterion) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let _inside = runtime.enter();
    let mut group = c.benchmark_group("http_hit");
    let mut conditional = BROWSER.to_vec();
    conditional.push(("if-none-match", "\"1\""));

    // Each time is that of a request's copy, the call, and the drop of the response: what the layer adds is
    // the difference to the service alone.
    for (what, fields) in [
        ("the service alone", &BROWSER[..]),
        ("the service alone, asked with a condition", &conditional),
    ] {
        let mut call = |request| Constant { vary: None }.call(request).now_or_never();
        count(what, fields, 200, &mut call);
        let asked = request(fields);
        group.bench_function(what, |b| b.iter(|| call(black_box(asked.clone()))));
    }
    for (what, vary, fields, status) in [
        ("near hit", None, &BROWSER[..], 200),
        ("near hit of a variant", Some("accept-encoding"), &BROWSER[..], 200),
        ("304", None, &conditional[..], 304),
    ] {
        let mut service = cached(vary, &runtime);
        let mut call = |request| service.call(request).now_or_never();
        let allocations = count(what, fields, status, &mut call);
        assert!(allocations <= 2.0, "{what}: {allocations} allocations");
        let asked = request(fields);
        group.bench_function(what, |b| b.iter(|| call(black_box(asked.clone()))));
    }
    group.finish();
}

/// Allocations of one call, its request made before.
fn count<B>(
    what: &str,
    fields: &[(&'static str, &'static str)],
    status: u16,
    call: &mut impl FnMut(Asked) -> Option<Result<Response<B>, Infallible>>,
) -> f64 {
    const CALLS: usize = 1000;
    let requests: Vec<Asked> = (0..CALLS).map(|_| request(fields)).collect();
    let region = Region::new(ALLOCATOR);
    for request in requests {
        let Some(Ok(response)) = call(request) else { panic!("{what} is not ready at once") };
        assert_eq!(response.status(), status, "{what}");
    }
    let change = region.change();
    let calls = (change.allocations + change.reallocations) as f64 / CALLS as f64;
    println!("{what}: {calls} allocations");
    calls
}

criterion_group! {
    name = benches;
    config = Criterion::default();
    targets = hit
}
criterion_main!(benches);
