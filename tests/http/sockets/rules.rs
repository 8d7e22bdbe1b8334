//! The rules of RFC 9111 through the example `reverse_proxy`, in front of a scripted origin, over sockets.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{Router, body::Body as AxumBody};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, header};
use http_body_util::{BodyExt, Full};
use parking_lot::Mutex;

use super::{
    HyperClient, client,
    proxied::{over, proxy_of},
    serve,
    store::{Store, over_each_store},
};
use crate::{Fields, date};

/// A status and fields.
type Said = (u16, Vec<(String, String)>);

/// What the origin says of a path, and what it was asked.
#[derive(Clone, Default)]
struct Script {
    says: Arc<HashMap<String, Said>>,
    asked: Arc<Mutex<Vec<(Method, String, HeaderMap)>>>,
}

impl Script {
    fn answer(&self, request: &Request<AxumBody>) -> Response<AxumBody> {
        let path = request.uri().path().to_owned();
        let headers = request.headers().clone();
        self.asked.lock().push((request.method().clone(), path.clone(), headers));
        let (status, fields) = self.says.get(&path).expect("a path of the script");
        let validated = request.headers().contains_key(header::IF_NONE_MATCH);
        let status = if validated { 304 } else { *status };
        let mut response = Response::builder().status(status);
        for (name, value) in fields {
            response = response.header(name, value);
        }
        let body = if status == 304 { "" } else { "0123456789" };
        response.body(AxumBody::from(body)).expect("a response")
    }

    fn asked(&self, path: &str) -> Vec<(Method, HeaderMap)> {
        let asked = self.asked.lock();
        let of_path = asked.iter().filter(|(_, of, _)| of == path);
        of_path.map(|(method, _, headers)| (method.clone(), headers.clone())).collect()
    }
}

struct Proxied {
    client: HyperClient,
    at: SocketAddr,
    script: Script,
}

impl Proxied {
    async fn start(store: Store, says: &[(&str, u16, Fields<'_>)]) -> Self {
        let owned = |fields: Fields<'_>| {
            fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let says = says
            .iter()
            .map(|(path, status, fields)| ((*path).to_owned(), (*status, owned(fields))));
        let script = Script { says: Arc::new(says.collect()), ..Script::default() };
        let origin = {
            let script = script.clone();
            Router::new().fallback(async move |request: Request<AxumBody>| script.answer(&request))
        };
        let at = proxy_of(serve(origin).await, over(store)).await;
        Self { client: client(false), at, script }
    }

    async fn ask(&self, method: Method, path: &str, fields: Fields<'_>) -> (Response<()>, Bytes) {
        let mut request =
            Request::builder().method(method).uri(format!("http://{}{path}", self.at));
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::default()).expect("a request");
        let (head, body) = self.client.request(request).await.expect("a response").into_parts();
        let body = body.collect().await.expect("a whole body").to_bytes();
        (Response::from_parts(head, ()), body)
    }

    async fn get(&self, path: &str, fields: Fields<'_>) -> (Response<()>, Bytes) {
        self.ask(Method::GET, path, fields).await
    }
}

pub(super) const FRESH: (&str, &str) = ("cache-control", "max-age=60");

/// What is asked, what the origin says, and whether the second client has it from the cache.
pub(super) type Rule<'a> = (&'a str, Fields<'a>, u16, Fields<'a>, bool);

over_each_store!(
    rfc9111_3_the_proxy_stores_what_it_may_and_nothing_else,
    rfc9111_4_the_proxy_selects_validates_and_forgets,
);

async fn rfc9111_3_the_proxy_stores_what_it_may_and_nothing_else(store: Store) {
    const KEY: (&str, &str) = ("authorization", "Basic eDp5");
    let (past, future, old) = (date(-60), date(60), date(-120));
    let expires = [("expires", &*future)];
    let stale = [("cache-control", "max-age=0"), ("expires", &*future)];
    let expired = [("expires", &*past)];
    let dated = [FRESH, ("date", &*old)];
    let rules: &[Rule<'_>] = &[
        ("/3-fresh", &[], 200, &[FRESH], true),
        ("/3-shared", &[], 200, &[("cache-control", "s-maxage=60, max-age=0")], true),
        ("/3-expires", &[], 200, &expires, true),
        (
            "/3-targeted",
            &[],
            200,
            &[("cdn-cache-control", "max-age=60"), ("cache-control", "no-store")],
            true,
        ),
        ("/3-targeted-not", &[], 200, &[("cdn-cache-control", "no-store"), FRESH], false),
        ("/3-gone", &[], 410, &[FRESH], true),
        ("/3-unknown-status", &[], 299, &[FRESH], true),
        ("/3-no-store", &[], 200, &[("cache-control", "max-age=60, no-store")], false),
        ("/3-no-store-asked", &[("cache-control", "no-store")], 200, &[FRESH], false),
        (
            "/3-understood",
            &[],
            200,
            &[("cache-control", "must-understand, no-store, max-age=60")],
            true,
        ),
        (
            "/3-not-understood",
            &[],
            299,
            &[("cache-control", "must-understand, no-store, max-age=60")],
            false,
        ),
        ("/3-private", &[], 200, &[("cache-control", "max-age=60, private")], false),
        ("/3-cookie", &[], 200, &[FRESH, ("set-cookie", "a=b")], false),
        (
            "/3-cookie-withheld",
            &[],
            200,
            &[("cache-control", "max-age=60, no-cache=\"set-cookie\""), ("set-cookie", "a=b")],
            true,
        ),
        ("/3-part", &[], 206, &[FRESH], false),
        ("/3-failure", &[], 503, &[("cache-control", "public")], false),
        ("/3-failure-fresh", &[], 503, &[FRESH], true),
        ("/3-silent", &[], 200, &[], false),
        ("/3-authorized", &[KEY], 200, &[FRESH], false),
        ("/3-authorized-public", &[KEY], 200, &[("cache-control", "public, max-age=60")], true),
        ("/4-stale", &[], 200, &stale, false),
        ("/4-expired", &[], 200, &expired, false),
        ("/4-no-date", &[], 200, &[("expires", "0")], false),
        ("/4-aged", &[], 200, &[FRESH, ("age", "60")], false),
        ("/4-old", &[], 200, &dated, false),
        ("/4-no-cache", &[], 200, &[("cache-control", "max-age=60, no-cache")], false),
        ("/4-vary-all", &[], 200, &[FRESH, ("vary", "*")], false),
    ];
    obeys(store, rules).await;
}

/// A proxy of its own obeys these rules.
pub(super) async fn obeys(store: Store, rules: &[Rule<'_>]) {
    let says: Vec<_> =
        rules.iter().map(|(path, _, status, fields, _)| (*path, *status, *fields)).collect();
    let proxied = Proxied::start(store, &says).await;
    for (path, asked, status, _, reused) in rules {
        let (first, _) = proxied.get(path, asked).await;
        assert_eq!(first.status().as_u16(), *status, "{path}");
        let (second, body) = proxied.get(path, asked).await;
        let runs = proxied.script.asked(path).len();
        assert_eq!(runs, if *reused { 1 } else { 2 }, "{path}");
        if *reused {
            assert_eq!(
                (second.status().as_u16(), &body[..]),
                (*status, &b"0123456789"[..]),
                "{path}"
            );
            assert!(second.headers().contains_key("age"), "{path}: §5.1");
            assert!(second.headers()["cache-status"].to_str().expect("text").contains("; hit"));
            assert!(!second.headers().contains_key("set-cookie"), "{path}");
        }
    }
}

async fn rfc9111_4_the_proxy_selects_validates_and_forgets(store: Store) {
    let vary = [FRESH, ("vary", "accept-language"), ("connection", "x-hop"), ("x-hop", "1")];
    let valid = [("cache-control", "max-age=2, must-revalidate"), ("etag", "\"1\"")];
    let tagged = [FRESH, ("etag", "\"1\"")];
    let each = [("cache-control", "no-cache"), ("etag", "\"1\"")];
    let says: &[(&str, u16, Fields<'_>)] = &[
        ("/each", 200, &each),
        ("/vary", 200, &vary),
        ("/valid", 200, &valid),
        ("/tagged", 200, &tagged),
        ("/written", 200, &[FRESH]),
    ];
    let proxied = Proxied::start(store, says).await;
    let runs = |path: &str| proxied.script.asked(path).len();

    for (language, expected) in [("de", 1), ("en", 2), ("DE", 2), ("en", 2)] {
        let (answer, _) = proxied.get("/vary", &[("accept-language", language)]).await;
        assert_eq!(runs("/vary"), expected, "§4.1: {language}");
        assert!(!answer.headers().contains_key("x-hop"), "§3.1");
    }
    // §4.2.4, §4.3: validated when it is stale, and not before.
    let begun = Instant::now();
    while runs("/valid") < 2 {
        let (answer, body) = proxied.get("/valid", &[]).await;
        assert_eq!((answer.status().as_u16(), &body[..]), (200, &b"0123456789"[..]));
        assert!(begun.elapsed() < Duration::from_secs(20), "never validated");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Of its two seconds one may be gone: a Date has no fractions.
    assert!(begun.elapsed() >= Duration::from_millis(700), "{:?}", begun.elapsed());

    let was_conditional =
        |path, run: usize| proxied.script.asked(path)[run].1.contains_key(header::IF_NONE_MATCH);
    assert!(was_conditional("/valid", 1), "§4.3.1: it may not be served stale, and is still there");
    // §5.2.2.4, §4.3.1.
    for run in 0..3 {
        let (answer, body) = proxied.get("/each", &[]).await;
        assert_eq!((answer.status().as_u16(), &body[..]), (200, &b"0123456789"[..]));
        assert_eq!((runs("/each"), was_conditional("/each", run)), (run + 1, run > 0));
    }

    // §4.3.2 and RFC 9110 §14, §9.3.2.
    proxied.get("/tagged", &[]).await;
    for (method, fields, status, body) in [
        (Method::GET, &[("if-none-match", "W/\"1\"")][..], 304, &b""[..]),
        (Method::GET, &[("if-none-match", "\"2\"")], 200, b"0123456789"),
        (Method::GET, &[("range", "bytes=2-4")], 206, b"234"),
        (Method::GET, &[("range", "bytes=20-")], 416, b""),
        (Method::GET, &[("cache-control", "only-if-cached")], 200, b"0123456789"),
        (Method::HEAD, &[], 200, b""),
    ] {
        let (answer, got) = proxied.ask(method, "/tagged", fields).await;
        assert_eq!((answer.status().as_u16(), &got[..]), (status, body), "{fields:?}");
    }
    assert_eq!(runs("/tagged"), 1);
    let (nothing, _) = proxied.get("/never", &[("cache-control", "only-if-cached")]).await;
    assert_eq!(nothing.status(), 504, "§5.2.1.7");

    // §4.4.
    for method in [Method::PUT, Method::POST, Method::DELETE] {
        proxied.get("/written", &[]).await;
        let before = runs("/written");
        proxied.get("/written", &[]).await;
        assert_eq!(runs("/written"), before, "stored");
        proxied.ask(method.clone(), "/written", &[]).await;
        proxied.get("/written", &[]).await;
        assert_eq!(runs("/written"), before + 2, "{method} and a new load");
    }
    // RFC 9110 §7.6.3.
    let (_, headers) = proxied.script.asked("/vary").remove(0);
    assert_eq!(headers["via"], "1.1 cattleguard");
}
