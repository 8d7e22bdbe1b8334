//! Which requests go to the origin, and as what; and which resources have entries of their own (RFC 9111 §2).

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Version, header};
use http_body::Frame;
use http_body_util::Full;
use tower::{Layer, ServiceExt};

use crate::{Answer, Cache, Fields, Origin, cache, get, layer, origin, request, response, send};

const FRESH: (&str, &str) = ("cache-control", "max-age=60");

fn fresh() -> Origin {
    Origin::new(|_| response(200, &[FRESH], "body"))
}

async fn send_body(cache: &Cache, method: Method, uri: &str, body: &'static str) -> Answer {
    let (head, _) = request(method, uri, &[]).into_parts();
    send(cache, Request::from_parts(head, Full::new(Bytes::from_static(body.as_bytes())))).await
}

#[tokio::test(start_paused = true)]
async fn rfc9111_4_other_methods_are_written_through_with_their_bodies() {
    let origin = fresh();
    let cache = cache(&origin);
    let methods = ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "BREW"];
    for (at, method) in methods.into_iter().enumerate() {
        let method: Method = method.parse().expect("a method");
        for body in ["one", "two"] {
            let answer = send_body(&cache, method.clone(), "/", body).await;
            assert_eq!(answer.text(), "body");
            assert_eq!(answer.field("cache-status"), Some("cattleguard; fwd=method"));
        }
        let asked = &origin.asked()[2 * at..];
        assert_eq!(asked.len(), 2, "{method}");
        assert!(asked.iter().all(|asked| asked.method == method));
        assert_eq!((&asked[0].body[..], &asked[1].body[..]), (&b"one"[..], &b"two"[..]));
    }
    let answer = send(&cache, request(Method::CONNECT, "example.com:443", &[])).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(origin.asked().last().expect("a request").uri, "example.com:443");
}

#[tokio::test(start_paused = true)]
async fn rfc9110_9_3_1_a_get_with_a_body_goes_to_the_origin() {
    let origin = fresh();
    let cache = cache(&origin);
    for _ in 0..2 {
        let answer = send_body(&cache, Method::GET, "/", "query").await;
        assert_eq!(answer.field("cache-status"), Some("cattleguard; fwd=request"));
        assert_eq!(&origin.asked().last().expect("a request").body[..], b"query");
    }
    // Its response is not for others, and theirs is not for it.
    assert!(!get(&cache, "/", &[]).await.is_hit());
    assert!(!send_body(&cache, Method::GET, "/", "query").await.is_hit());
    assert!(get(&cache, "/", &[]).await.is_hit());
}

/// A body that does not know that it is empty.
#[derive(Default)]
struct Silent;

impl http_body::Body for Silent {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(None)
    }
}

#[tokio::test(start_paused = true)]
async fn rfc9112_6_3_the_fields_tell_whether_there_is_a_body() {
    for (version, field, stored) in [
        (Version::HTTP_11, None, true),
        (Version::HTTP_11, Some(("content-length", "0")), true),
        (Version::HTTP_11, Some(("content-length", "5")), false),
        (Version::HTTP_11, Some(("transfer-encoding", "chunked")), false),
        (Version::HTTP_2, None, false),
        (Version::HTTP_2, Some(("content-length", "0")), true),
    ] {
        let service = tower::service_fn(|_: Request<Silent>| async {
            Ok::<_, Infallible>(response(200, &[FRESH], "body"))
        });
        let cache = layer().layer(service);
        let mut last = None;
        for _ in 0..2 {
            let mut request = Request::builder().version(version).uri("http://a/");
            if let Some((name, value)) = field {
                request = request.header(name, value);
            }
            let request = request.body(Silent).expect("a request");
            let Ok(response) = cache.clone().oneshot(request).await;
            last = Some(crate::whole(response).await);
        }
        assert_eq!(last.is_some_and(|last| last.is_hit()), stored, "{version:?} {field:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn requests_that_only_the_origin_can_answer_reach_it_as_they_are() {
    for fields in [
        &[("connection", "upgrade"), ("upgrade", "websocket")][..],
        &[("if-match", "\"v1\""), ("range", "bytes=0-1")],
        &[("if-unmodified-since", "Sun, 06 Nov 1994 08:49:37 GMT")],
    ] {
        let origin = fresh();
        let cache = cache(&origin);
        for _ in 0..2 {
            assert!(!get(&cache, "/", fields).await.is_hit(), "{fields:?}");
            let asked = origin.asked().pop().expect("a request");
            for (name, value) in fields {
                assert_eq!(asked.headers[*name], *value);
            }
        }
        assert!(!get(&cache, "/", &[]).await.is_hit(), "nothing of it was kept: {fields:?}");
        assert!(!get(&cache, "/", fields).await.is_hit(), "nor is what was kept given: {fields:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn rfc9110_13_conditions_reach_the_origin_where_nothing_is_stored() {
    let origin = Origin::new(|_| response(200, &[], "body"));
    let cache = cache(&origin);
    let fields = [("if-none-match", "\"v1\""), ("range", "bytes=0-1"), ("x-a", "1")];
    for calls in [2, 3] {
        get(&cache, "/", &fields).await;
        // The very first asks for the whole response, to see whether it may be stored.
        assert!(!origin.asked()[0].headers.contains_key(header::RANGE));
        assert_eq!(origin.calls(), calls);
        let asked = origin.asked().pop().expect("a request");
        assert_eq!(asked.headers[header::IF_NONE_MATCH], "\"v1\"");
        assert_eq!(asked.headers[header::RANGE], "bytes=0-1");
    }
}

#[tokio::test(start_paused = true)]
async fn rfc9110_14_a_part_of_a_body_that_is_too_long_to_store_passes_as_a_part() {
    let origin = Origin::new(|request| match request.headers().contains_key(header::RANGE) {
        true => response(206, &[FRESH, ("content-range", "bytes 0-3/2000")], "part"),
        false => response(200, &[FRESH], &"x".repeat(2_000)),
    });
    let cache = layer().max_body_size(1_000).layer(origin.service());
    for _ in 0..3 {
        let answer = get(&cache, "/", &[("range", "bytes=0-3")]).await;
        assert_eq!((answer.status(), answer.text()), (206, "part"));
    }
    assert_eq!(get(&cache, "/", &[]).await.text().len(), 2_000);
}

#[tokio::test(start_paused = true)]
async fn rfc9111_3_1_trailers_pass_and_become_no_fields() {
    let origin = Origin::new(|_| {
        let (sender, body) = origin::piecewise();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "1".parse().expect("a value"));
        sender.send(Ok(Frame::data(Bytes::from_static(b"body")))).expect("open");
        sender.send(Ok(Frame::trailers(trailers))).expect("open");
        response(200, &[FRESH], "").map(|_| body)
    });
    let cache = cache(&origin);
    for _ in 0..2 {
        let answer = get(&cache, "/", &[]).await;
        assert_eq!((answer.is_hit(), answer.text()), (false, "body"));
        assert_eq!(answer.field("x-sum"), None);
    }
}

#[tokio::test(start_paused = true)]
async fn rfc9110_7_2_a_request_without_a_clear_host_bypasses_the_cache() {
    let origin = fresh();
    let cache = cache(&origin);
    let built = |uri: &str, hosts: &[&str]| {
        let mut request = Request::builder().uri(uri);
        for host in hosts {
            request = request.header("host", *host);
        }
        request.body(Full::default()).expect("a request")
    };
    for (uri, hosts) in [
        ("/", &[][..]),
        ("/", &["a", "b"]),
        ("/", &["a", "a"]),
        ("/", &["user@a"]),
        ("/", &["a/b"]),
        ("/", &[""]),
        // A response chosen by this Host is not for clients of the target.
        ("http://a/", &["evil"]),
        ("http://a/", &["a", "evil"]),
    ] {
        for _ in 0..2 {
            let answer = send(&cache, built(uri, hosts)).await;
            let expected = Some("cattleguard; fwd=bypass; detail=no-key");
            assert_eq!(answer.field("cache-status"), expected, "{uri} {hosts:?}");
        }
    }
    send(&cache, built("http://a/", &["A:80"])).await;
    assert!(send(&cache, built("/", &["a"])).await.is_hit());
    assert!(send(&cache, built("http://a/", &[])).await.is_hit());
}

/// The origin answers the first request for each, the cache the second.
async fn differ(cache: &Cache, requests: &[(&str, Fields<'_>)]) {
    for (uri, fields) in requests {
        assert!(!get(cache, uri, fields).await.is_hit(), "{uri} {fields:?}");
        assert!(get(cache, uri, fields).await.is_hit(), "{uri} {fields:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_part_separates_clients_and_none_bypasses_the_cache() {
    let origin = fresh();
    let tenant = |parts: &http::request::Parts| {
        Some(parts.headers.get("x-tenant")?.to_str().ok()?.to_owned())
    };
    let cache = layer().key_part(tenant).layer(origin.service());
    let tenants = ["a", "b", "a b", ""].map(|tenant| [("x-tenant", tenant)]);
    differ(&cache, &tenants.each_ref().map(|fields| ("/", &fields[..]))).await;
    for _ in 0..2 {
        assert!(!get(&cache, "/", &[]).await.is_hit());
    }
    assert!(get(&cache, "/", &tenants[0]).await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn a_field_that_is_not_in_the_key_must_be_in_vary_or_a_part() {
    let reflect = |fields: &'static [(&'static str, &'static str)]| {
        Origin::new(move |request| {
            let host = request.headers().get("x-forwarded-host");
            response(200, fields, host.map_or("own", |host| host.to_str().expect("text")))
        })
    };
    let evil = [("x-forwarded-host", "evil")];
    // The documentation warns of this.
    let origin = reflect(&[FRESH]);
    let open = cache(&origin);
    get(&open, "/", &evil).await;
    assert_eq!(get(&open, "/", &[]).await.text(), "evil");

    let origin = reflect(&[FRESH, ("vary", "x-forwarded-host")]);
    let varying = cache(&origin);
    let origin = reflect(&[FRESH]);
    let part = |parts: &http::request::Parts| {
        let field = parts.headers.get("x-forwarded-host").map(|field| field.to_str());
        Some(field.unwrap_or(Ok("")).ok()?.to_owned())
    };
    let parted = layer().key_part(part).layer(origin.service());
    for safe in [varying, parted] {
        get(&safe, "/", &evil).await;
        assert_eq!(get(&safe, "/", &[]).await.text(), "own");
        assert_eq!(get(&safe, "/", &evil).await.text(), "evil");
    }
}

#[tokio::test(start_paused = true)]
async fn requests_without_a_scheme_have_that_of_the_layer() {
    let origin = fresh();
    let cache = layer().https().layer(origin.service());
    assert!(!get(&cache, "/a", &[]).await.is_hit());
    assert!(get(&cache, "https://example.com/a", &[]).await.is_hit());
    assert!(get(&cache, "https://example.com:443/a", &[]).await.is_hit());
    assert!(!get(&cache, "http://example.com/a", &[]).await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn a_sorted_query_is_one_key_and_reaches_the_origin_as_it_was_sent() {
    let origin = fresh();
    let cache = layer().sorted_query(["utm"]).layer(origin.service());
    assert!(!get(&cache, "/?b=2&utm=x&a=1", &[]).await.is_hit());
    assert_eq!(origin.asked()[0].uri, "/?b=2&utm=x&a=1");
    for same in ["/?a=1&b=2", "/?b=2&a=1&utm=y", "/?a=1&utm&b=2"] {
        assert!(get(&cache, same, &[]).await.is_hit(), "{same}");
    }
    differ(&cache, &[("/?a=2&b=2", &[]), ("/?a=1", &[]), ("/?a=1&b=2&c", &[]), ("/", &[])]).await;
    // Without the option all of it counts.
    let origin = fresh();
    let plain = crate::cache(&origin);
    differ(&plain, &[("/?a&b", &[]), ("/?b&a", &[]), ("/?", &[]), ("/", &[])]).await;
}

#[tokio::test(start_paused = true)]
async fn long_urls_are_told_apart() {
    let origin = fresh();
    let cache = cache(&origin);
    let long = "x".repeat(5_000);
    let (a, b) = (format!("/{long}a"), format!("/{long}b"));
    differ(&cache, &[(&a, &[]), (&b, &[])]).await;
}
