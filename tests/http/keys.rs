//! What is keyed is what is sent: two clients share an entry only if the origin got the same from both.

use axum::{
    Router,
    body::Body as AxumBody,
    extract::OriginalUri,
    http::Request as AxumRequest,
    routing::{get as on_get, post},
};
use cattleguard::http::HttpGuardLayer;
use http::{HeaderMap, Method, Request, Uri, request::Parts};
use http_body_util::{BodyExt, Full};
use tower::{Layer, ServiceExt};

use crate::{Cache, Fields, Origin, cache, get, layer, request, response, send};

const FRESH: (&str, &str) = ("cache-control", "max-age=60");

/// Answers with what it got of a field, joined if it has several lines.
fn echo(name: &'static str, fields: &'static [(&'static str, &'static str)]) -> Origin {
    Origin::new(move |request| response(200, fields, &told(request.headers(), name)))
}

fn told(headers: &HeaderMap, name: &str) -> String {
    let lines = headers.get_all(name).iter();
    lines.map(|line| line.to_str().expect("text")).collect::<Vec<_>>().join(" | ")
}

async fn is_stored(cache: &Cache, uri: &str, fields: Fields<'_>) -> bool {
    let only = [("cache-control", "only-if-cached")];
    let fields: Vec<_> = fields.iter().copied().chain(only).collect();
    get(cache, uri, &fields).await.status() == 200
}

/// The status, and what the cache says of it, and the body.
async fn ask(router: &Router, method: Method, uri: &str) -> (u16, String, String) {
    let request = AxumRequest::builder().method(method).uri(uri).header("host", "example.com");
    let request = request.body(AxumBody::empty()).expect("a request");
    let Ok(response) = router.clone().oneshot(request).await;
    let (head, body) = response.into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    let body = String::from_utf8(body.to_vec()).expect("text");
    (head.status.as_u16(), told(&head.headers, "cache-status"), body)
}

/// The inner routers have the layer, and each handler tells which URI the client sent.
fn nested(cache: &HttpGuardLayer) -> Router {
    let say = async |uri: OriginalUri| ([FRESH], uri.0.to_string());
    let inner = || {
        let routes = Router::new().route("/", on_get(say)).route("/orders", on_get(say).post(say));
        routes.layer(cache.clone())
    };
    let deep = Router::new().nest("/{version}", inner());
    Router::new()
        .nest("/t/{tenant}", inner())
        .nest("/admin", inner())
        .nest("/public", inner())
        .nest("/api", deep)
        .nest_service("/service", cache.layer(Router::new().route("/orders", on_get(say))))
        .route("/orders", on_get(say).layer(cache.clone()))
        .route("/purge", post(async || "").layer(cache.clone()))
}

#[tokio::test(start_paused = true)]
async fn rfc9111_2_a_nested_router_is_keyed_on_the_uri_that_the_client_sent() {
    let layer = layer();
    let router = nested(&layer);
    let uris = [
        "/t/acme/orders",
        "/t/globex/orders",
        "/t/acme/orders?page=2",
        "/t/acme",
        "/t/globex",
        "/admin/orders",
        "/public/orders",
        "/api/v1/orders",
        "/api/v2/orders",
        "/service/orders",
        "/orders",
    ];
    for is_hit in [false, true] {
        for uri in uris {
            let (_, status, body) = ask(&router, Method::GET, uri).await;
            assert_eq!(body, uri);
            assert_eq!(status.contains("cattleguard; hit"), is_hit, "{uri}: {status}");
        }
    }
    let purged: Uri = "http://example.com/t/acme/orders".parse().expect("a URL");
    layer.purge(&purged, None).await.expect("done");
    ask(&router, Method::POST, "/t/globex/orders").await;
    for uri in uris {
        let (_, status, _) = ask(&router, Method::GET, uri).await;
        let is_forgotten = ["/t/acme/orders", "/t/globex/orders"].contains(&uri);
        assert_eq!(status.contains("cattleguard; hit"), !is_forgotten, "{uri}: {status}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_purge_by_request_finds_what_a_nested_router_has_stored() {
    let cache = layer();
    let orders = on_get(async || ([FRESH], "orders")).layer(cache.clone());
    let inner = Router::new().route("/orders", orders);
    let router = Router::new().nest("/t/{tenant}", inner);
    ask(&router, Method::GET, "/t/acme/orders").await;

    let inner = Router::new().fallback_service(cache.purge_service("secret"));
    let purging = Router::new().nest("/t/{tenant}", inner);
    let purge = AxumRequest::builder()
        .method("PURGE")
        .uri("http://example.com/t/acme/orders")
        .header("authorization", "Bearer secret");
    let Ok(done) = purging.oneshot(purge.body(AxumBody::empty()).expect("a request")).await;
    assert_eq!(done.status(), 204);
    let (_, status, _) = ask(&router, Method::GET, "/t/acme/orders").await;
    assert_eq!(status, "cattleguard; fwd=miss; stored");
}

/// Takes the first segment off the path, and notes what was sent, as routers do.
#[derive(Clone)]
struct Noted(Uri);

async fn nested_elsewhere(cache: &Cache, uri: &str) -> String {
    let mut request = request(Method::GET, uri, &[]);
    let stripped = uri.rsplit_once('/').map_or(uri, |(prefix, _)| &uri[prefix.len()..]);
    *request.uri_mut() = stripped.parse().expect("a URI");
    request.extensions_mut().insert(Noted(uri.parse().expect("a URI")));
    send(cache, request).await.text().to_owned()
}

#[tokio::test(start_paused = true)]
async fn another_router_tells_where_it_notes_the_uri_that_was_sent() {
    let origin = Origin::new(|request| {
        let noted = request.extensions().get::<Noted>();
        response(200, &[FRESH], &noted.map_or_else(String::new, |noted| noted.0.to_string()))
    });
    let layer = layer().sent_uri(|extensions| extensions.get().map(|Noted(uri)| uri));
    let cache = layer.layer(origin.service());
    for _ in 0..2 {
        for uri in ["/a/list", "/b/list"] {
            assert_eq!(nested_elsewhere(&cache, uri).await, uri);
        }
    }
    assert_eq!(origin.calls(), 2);
    // Without a note, the URI of the request is the one that was sent.
    get(&cache, "/list", &[]).await;
    assert!(get(&cache, "/list", &[]).await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn a_uri_that_middleware_has_rewritten_has_no_key() {
    let cache = layer();
    let say = async |uri: Uri| ([FRESH], uri.to_string());
    let by_language = |mut request: AxumRequest<AxumBody>| async {
        let language = told(request.headers(), "accept-language");
        *request.uri_mut() = format!("/{language}/a").parse().expect("a URI");
        request
    };
    let layers =
        tower::ServiceBuilder::new().layer(axum::middleware::map_request(by_language)).layer(cache);
    let router = Router::new().route("/a", on_get(say)).layer(layers);
    for language in ["de", "en"] {
        let request = AxumRequest::builder().uri("/a").header("host", "example.com");
        let request = request.header("accept-language", language).body(AxumBody::empty());
        let Ok(response) = router.clone().oneshot(request.expect("a request")).await;
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        assert_eq!(body, format!("/{language}/a"));
    }
}

#[tokio::test(start_paused = true)]
async fn rfc9110_7_6_1_fields_that_connection_names_leave_before_the_key_is_made() {
    // The variant.
    let origin = echo("x-tenant", &[FRESH, ("vary", "x-tenant")]);
    let cache = cache(&origin);
    let hidden = [("x-tenant", "a"), ("connection", "close, X-Tenant")];
    assert_eq!(get(&cache, "/", &hidden).await.text(), "");
    assert_eq!(get(&cache, "/", &[("x-tenant", "a")]).await.text(), "a");
    assert!(get(&cache, "/", &[]).await.is_hit(), "it is what a request without the field gets");
    assert_eq!(origin.asked()[0].headers.get("connection"), None);

    // The user's part of the key.
    let origin = echo("x-tenant", &[FRESH]);
    let part = |parts: &Parts| Some(told(&parts.headers, "x-tenant"));
    let cache = layer().key_part(part).layer(origin.service());
    assert_eq!(get(&cache, "/", &hidden).await.text(), "");
    assert_eq!(get(&cache, "/", &[("x-tenant", "a")]).await.text(), "a");
    assert!(get(&cache, "/", &[]).await.is_hit());

    // What passes, as well.
    send(&cache, request(Method::POST, "/", &hidden)).await;
    let asked = origin.asked().pop().expect("a request");
    assert_eq!(
        (asked.headers.get("x-tenant"), &asked.headers["connection"]),
        (None, &"close".parse().expect("a value"))
    );
}

#[tokio::test(start_paused = true)]
async fn rfc9110_7_6_1_connection_takes_nothing_off_that_decides_who_may_have_a_response() {
    let fields = [
        ("connection", "host, authorization, content-type, x-a"),
        ("connection", "Cache-Control, close"),
        ("authorization", "Bearer a"),
        ("content-type", "a/b"),
        ("x-a", "1"),
    ];
    let origin = echo("authorization", &[FRESH]);
    let cache = cache(&origin);
    assert_eq!(get(&cache, "/", &fields).await.text(), "Bearer a");
    let asked = origin.asked().pop().expect("a request");
    assert_eq!(
        (asked.headers["host"].as_bytes(), asked.headers["content-type"].as_bytes()),
        (&b"example.com"[..], &b"a/b"[..])
    );
    assert_eq!(asked.headers.get("x-a"), None);
    assert_eq!(get(&cache, "/", &[]).await.text(), "", "it is not public");
    let no_store = [("connection", "cache-control"), ("cache-control", "no-store")];
    get(&cache, "/b", &no_store).await;
    assert!(!get(&cache, "/b", &[]).await.is_hit(), "nothing of it was kept");
}

#[tokio::test(start_paused = true)]
async fn rfc9110_7_6_1_fields_of_one_connection_reach_no_load_and_select_nothing() {
    let origin = echo("te", &[FRESH, ("vary", "te, connection")]);
    let cache = cache(&origin);
    let fields = [("te", "trailers"), ("connection", "te"), ("keep-alive", "timeout=5")];
    assert_eq!(get(&cache, "/", &fields).await.text(), "");
    for name in ["te", "connection", "keep-alive"] {
        assert_eq!(origin.asked()[0].headers.get(name), None, "{name}");
    }
    assert!(get(&cache, "/", &[]).await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn rfc9110_4_2_3_a_load_names_the_host_as_its_key_does() {
    for (uri, host) in [
        ("/", Some("SHOP.test")),
        ("/", Some("shop.test:80")),
        ("http://SHOP.test:80/", None),
        ("http://SHOP.test/", Some("shop.TEST:80")),
    ] {
        let origin = Origin::new(|request| {
            let authority = request.uri().authority().map(|authority| authority.to_string());
            let host = told(request.headers(), "host");
            response(200, &[FRESH], &format!("{host}{}", authority.unwrap_or_default()))
        });
        let cache = cache(&origin);
        let mut sent = Request::builder().uri(uri);
        if let Some(host) = host {
            sent = sent.header("host", host);
        }
        let first = send(&cache, sent.body(Full::default()).expect("a request")).await;
        assert_eq!(first.text().replace("shop.test", ""), "", "{uri} {host:?}");
        let same = Request::builder().uri("/").header("host", "shop.test");
        assert!(send(&cache, same.body(Full::default()).expect("a request")).await.is_hit());
    }
}

#[tokio::test(start_paused = true)]
async fn rfc9110_4_2_a_host_that_servers_read_in_different_ways_has_no_key() {
    for host in ["shop.test:99999", "shop.test:0080", "shop.test:", "shop.test:+80", "shop.test:0"]
    {
        let origin = echo("host", &[FRESH]);
        let cache = cache(&origin);
        for host in [host, "shop.test"] {
            let sent = Request::builder().uri("/").header("host", host).body(Full::default());
            assert_eq!(send(&cache, sent.expect("a request")).await.text(), host);
        }
        assert_eq!(origin.calls(), 2, "{host}");
    }
    for uri in ["ftp://shop.test/", "https+x://shop.test/", "HTTPx://shop.test/"] {
        let origin = echo("host", &[FRESH]);
        let cache = cache(&origin);
        for _ in 0..2 {
            let answer = get(&cache, uri, &[]).await;
            let told = answer.field("cache-status");
            assert_eq!(told, Some("cattleguard; fwd=bypass; detail=no-key"), "{uri}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn rfc9113_8_2_3_crumbs_are_one_cookie() {
    let origin = echo("cookie", &[FRESH, ("vary", "cookie")]);
    let part = |parts: &Parts| Some(told(&parts.headers, "cookie"));
    for cache in [cache(&origin), layer().key_part(part).layer(origin.service())] {
        let crumbs = [("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3")];
        assert_eq!(get(&cache, "/", &crumbs).await.text(), "a=1; b=2; c=3");
        assert!(get(&cache, "/", &[("cookie", "a=1; b=2; c=3")]).await.is_hit());
        assert!(!get(&cache, "/", &[("cookie", "a=1,b=2,c=3")]).await.is_hit());
    }
}

#[tokio::test(start_paused = true)]
async fn rfc9111_4_1_a_variant_is_selected_by_what_was_sent() {
    for (name, sent, other) in [
        ("accept-language", "d e", "de"),
        ("accept", "application/ json", "application/json"),
        ("accept", "a/b;c=D", "a/b;c=d"),
        ("accept-encoding", "gzip,,br", "gzip,br"),
    ] {
        let origin = Origin::new(move |request| {
            response(200, &[FRESH, ("vary", name)], &told(request.headers(), name))
        });
        let cache = cache(&origin);
        for value in [sent, other, sent, other] {
            assert_eq!(get(&cache, "/", &[(name, value)]).await.text(), value);
        }
        assert_eq!(origin.calls(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_query_is_sorted_only_where_every_origin_finds_the_same_parameters() {
    let origin = Origin::new(|request| response(200, &[FRESH], &request.uri().to_string()));
    for (cloaked, plain) in [
        ("/?a=1&utm=x;a=2", "/?a=1"),
        ("/?a=1&utm=x%26a=2", "/?a=1"),
        ("/?a=1&utm=x%3Ba=2", "/?a=1"),
        ("/?utm;a=2", "/"),
        ("/?b=1;a=2&a=1", "/?a=1&b=1;a=2"),
        ("/?b=1%26a=2&a=1", "/?a=1&b=1%26a=2"),
        // Names that an origin may take for one.
        ("/?%61=2&a=1", "/?a=1&%61=2"),
        ("/?a=1&A=2", "/?A=2&a=1"),
        ("/?a[]=1&a=2", "/?a=2&a[]=1"),
        ("/?a.b=1&a_b=2", "/?a_b=2&a.b=1"),
    ] {
        let cache = layer().sorted_query(["utm"]).layer(origin.service());
        for uri in [cloaked, plain] {
            assert_eq!(get(&cache, uri, &[]).await.text(), uri);
            assert!(get(&cache, uri, &[]).await.is_hit());
        }
    }
}

#[derive(Clone)]
struct User;

#[tokio::test(start_paused = true)]
async fn rfc9111_4_4_what_has_no_key_part_still_invalidates() {
    let by_cookie = |parts: &Parts| match parts.headers.contains_key("cookie") {
        true => None,
        false => Some(told(&parts.headers, "x-tenant")),
    };
    let by_extension = |parts: &Parts| match parts.extensions.get::<User>() {
        Some(User) => None,
        None => Some(told(&parts.headers, "x-tenant")),
    };
    let by_field = |parts: &Parts| match parts.headers.contains_key("x-user") {
        true => None,
        false => Some(String::new()),
    };
    let by_method =
        |parts: &Parts| (parts.method == Method::GET).then(|| told(&parts.headers, "x-tenant"));
    let layers = [
        layer().key_part(by_cookie),
        layer().key_part(by_extension),
        layer().key_part(by_field),
        layer().key_part(by_method),
    ];
    for layer in layers {
        let origin = Origin::new(|_| {
            response(200, &[("cache-control", "public, max-age=60"), ("location", "/list")], "page")
        });
        let cache = layer.layer(origin.service());
        for uri in ["/page", "/list", "/other"] {
            get(&cache, uri, &[]).await;
            assert!(is_stored(&cache, uri, &[]).await);
        }
        let user = [("cookie", "session=1"), ("x-user", "1"), ("authorization", "Bearer a")];
        let mut change = request(Method::POST, "/page", &user);
        change.extensions_mut().insert(User);
        send(&cache, change).await;
        for (uri, is_kept) in [("/page", false), ("/list", false), ("/other", true)] {
            assert_eq!(is_stored(&cache, uri, &[]).await, is_kept, "{uri}");
        }
    }
}
