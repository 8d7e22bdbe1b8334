//! The HTTP cache: a test for each rule, with the section of the RFC in its name.

mod bounds;
#[path = "../../examples/reverse_proxy/client.rs"]
mod client;
mod collapse;
#[path = "../../examples/console/mod.rs"]
#[expect(dead_code, reason = "the example uses the rest")]
mod console;
mod failures;
mod forward;
#[path = "../guard/gate.rs"]
#[expect(dead_code, reason = "the tests of the guard use it")]
mod gate;
#[path = "../../examples/reverse_proxy/hop.rs"]
mod hop;
#[path = "../../examples/reverse_proxy/inbound.rs"]
mod inbound;
mod invalidate;
mod keys;
#[path = "../../examples/reverse_proxy/link.rs"]
mod link;
#[path = "../../examples/reverse_proxy/observed.rs"]
mod observed;
mod origin;
mod privacy;
#[path = "../../examples/reverse_proxy/proxy.rs"]
mod proxy;
#[path = "../../examples/reverse_proxy/policy.rs"]
mod proxy_policy;
mod purge;
mod reuse;
mod rules;
#[path = "../servers/mod.rs"]
mod servers;
mod sockets;
mod stale;
mod store;
mod tags;
#[path = "../../examples/reverse_proxy/upstream.rs"]
mod upstream;
mod validate;
#[path = "../guard/wire.rs"]
#[expect(dead_code, reason = "the tests of the guard use the rest")]
mod wire;

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use cattleguard::{
    Clock, Guard, GuardBuilder, Policy,
    http::{Body, HttpGuard, HttpGuardLayer, StoredResponse},
    memory,
};
use http::{HeaderName, HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt, Full};
use tower::{Layer, Service, ServiceExt};

use self::origin::{Origin, OriginBody, OriginService};

type Cache = HttpGuard<OriginService>;
type Fields<'a> = &'a [(&'static str, &'a str)];

/// Entries live as long as the responses say; nothing is refreshed early.
fn policy() -> Policy {
    Policy::default()
        .jitter(0.0)
        .early_refresh(0.0)
        .grace(Duration::ZERO)
        .stale_if_error(Duration::ZERO)
        .failure_backoff(Duration::ZERO)
}

fn builder() -> GuardBuilder<str, StoredResponse> {
    let far = memory::MemoryFar::with(1_000, Clock::tokio());
    Guard::builder().policy(policy()).far(far)
}

fn layer() -> HttpGuardLayer {
    HttpGuardLayer::new(builder())
}

fn layer_of(policy: Policy) -> HttpGuardLayer {
    HttpGuardLayer::new(builder().policy(policy))
}

fn cache(origin: &Origin) -> Cache {
    layer().layer(origin.service())
}

fn request(method: Method, path: &str, fields: Fields<'_>) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(path);
    if path.starts_with('/') {
        request = request.header("host", "example.com");
    }
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(Full::default()).expect("a request")
}

/// A response with its whole body.
#[derive(Debug)]
struct Answer {
    response: Response<()>,
    body: Bytes,
}

impl Answer {
    fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name).map(|value| value.to_str().expect("text"))
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    /// Whether the cache answered without the origin.
    fn is_hit(&self) -> bool {
        self.field("cache-status").is_some_and(|status| status.contains("cattleguard; hit"))
    }
}

async fn send(cache: &Cache, request: Request<Full<Bytes>>) -> Answer {
    let Ok(response) = cache.clone().oneshot(request).await;
    whole(response).await
}

async fn whole(response: Response<Body<OriginBody>>) -> Answer {
    let (head, body) = response.into_parts();
    let body = body.collect().await.expect("a whole body").to_bytes();
    Answer { response: Response::from_parts(head, ()), body }
}

async fn get(cache: &Cache, path: &str, fields: Fields<'_>) -> Answer {
    send(cache, request(Method::GET, path, fields)).await
}

fn response(status: u16, fields: Fields<'_>, body: &str) -> Response<OriginBody> {
    let mut response = Response::new(origin::full(body.to_owned()));
    *response.status_mut() = status.try_into().expect("a status");
    for (name, value) in fields {
        let value = HeaderValue::from_str(value).expect("a value");
        response.headers_mut().append(HeaderName::from_static(name), value);
    }
    response
}

/// The HTTP date some seconds from now.
fn date(seconds: i64) -> String {
    let now = std::time::SystemTime::now();
    let shift = Duration::from_secs(seconds.unsigned_abs());
    httpdate::fmt_http_date(if seconds < 0 { now - shift } else { now + shift })
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The tables of the documentation name a test for each rule.
#[test]
fn every_test_that_the_documentation_names_exists() {
    let tests = [
        include_str!("collapse.rs"),
        include_str!("failures.rs"),
        include_str!("forward.rs"),
        include_str!("invalidate.rs"),
        include_str!("keys.rs"),
        include_str!("privacy.rs"),
        include_str!("reuse.rs"),
        include_str!("rules.rs"),
        include_str!("sockets/bodies.rs"),
        include_str!("sockets/proxied/edges.rs"),
        include_str!("sockets/proxied/expired.rs"),
        include_str!("sockets/proxied/streams.rs"),
        include_str!("sockets/proxied/upstreams.rs"),
        include_str!("sockets/rules.rs"),
        include_str!("stale.rs"),
        include_str!("store.rs"),
        include_str!("tags.rs"),
        include_str!("validate.rs"),
        include_str!("../../src/http/cache_mode.rs"),
        include_str!("../../src/http/fields/cache_control.rs"),
        include_str!("../../src/http/key/variants.rs"),
        include_str!("../../src/http/response/codec.rs"),
        include_str!("../../src/http/response/freshness.rs"),
    ]
    .concat();
    let documentation = include_str!("../../src/http/mod.rs");
    let names: Vec<_> = documentation
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|name| name.split('_').count() > 3 && !name.contains("::"))
        .collect();
    assert!(names.len() > 60, "{}", names.len());
    for name in names {
        assert!(tests.contains(&format!("fn {name}(")), "{name}");
    }
}

/// The bounds of a service in a router.
#[test]
fn the_service_is_what_routers_ask_for() {
    fn check<S>(_: S)
    where
        S: Service<Request<Full<Bytes>>, Error = Infallible> + Clone + Send + Sync + 'static,
        S::Future: Send,
    {
    }
    check(cache(&Origin::new(|_| response(200, &[], ""))));
}
