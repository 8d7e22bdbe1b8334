//! HTTP/1.1 and HTTP/2, under axum and under hyper alone.

use std::sync::Arc;

use axum::{Router, routing};
use tokio::{io::AsyncWriteExt, net::TcpStream, sync::Notify, task::JoinSet};

use super::*;
use crate::layer;

#[tokio::test]
async fn a_layer_on_a_router_caches_over_http_1_and_http_2() {
    let runs = Runs::default();
    let server = serve(Router::new().route("/a", runs.handler()).layer(layer())).await;
    let (one, two) = (client(false), client(true));
    let first = get(&one, server, "/a").await;
    assert_eq!((first.head.status.as_u16(), first.text()), (200, "run 1"));
    assert_eq!(first.how(), "cattleguard; fwd=miss; stored");
    // The same URL, with `Host` in one and `:authority` in the other.
    let second = get(&two, server, "/a").await;
    assert_eq!((second.text(), second.how()), ("run 1", "cattleguard; hit"));
    assert_eq!(get(&one, server, "/a").await.how(), "cattleguard; hit");
    assert_eq!(get(&two, server, "/b").await.head.status, 404);
    assert_eq!(runs.count(), 1);
}

#[tokio::test]
async fn a_route_layer_caches_its_routes_and_no_other() {
    let (cached, other) = (Runs::default(), Runs::default());
    let router = Router::new()
        .route("/cached", cached.handler())
        .route_layer(layer())
        .route("/other", other.handler());
    let (server, client) = (serve(router).await, client(false));
    for _ in 0..3 {
        assert_eq!(get(&client, server, "/cached").await.text(), "run 1");
        assert!(get(&client, server, "/other").await.head.headers.get("cache-status").is_none());
    }
    assert_eq!((cached.count(), other.count()), (1, 3));
}

#[tokio::test]
async fn all_services_of_one_layer_share_its_guard() {
    let (runs, layer) = (Runs::default(), layer());
    // axum calls the layer for each of the routes, and a service may have several routers.
    let router = || {
        let routes = Router::new().route("/a", runs.handler()).route("/b", runs.handler());
        routes.layer(layer.clone())
    };
    let servers = [serve(router()).await, serve(router()).await];
    for path in ["/a", "/b"] {
        for server in servers {
            let request = format!("GET {path} HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n\r\n");
            assert!(write(server, &request).await.contains("run "));
        }
    }
    assert_eq!(runs.count(), 2);
}

#[tokio::test]
async fn hyper_alone_serves_it() {
    let runs = Runs::default();
    let counted = runs.clone();
    let handler = service_fn(move |_: Request<AxumBody>| {
        let text = format!("run {}", counted.one_more());
        let response = Response::builder().header("cache-control", "max-age=60");
        async move { response.body(Full::new(Bytes::from(text))) }
    });
    let server = serve_by_hyper(tower::Layer::layer(&layer(), handler)).await;
    for http2 in [false, true] {
        assert_eq!(get(&client(http2), server, "/a").await.text(), "run 1");
    }
    assert_eq!(runs.count(), 1);
}

#[tokio::test]
async fn streams_of_one_connection_share_one_load() {
    let (runs, open) = (Runs::default(), Arc::new(Notify::new()));
    let (counted, gate) = (runs.clone(), open.clone());
    let handler = routing::get(async move || {
        let run = counted.one_more();
        gate.notified().await;
        ([("cache-control", "max-age=60")], format!("run {run}"))
    });
    let server = serve(Router::new().route("/a", handler).layer(layer())).await;
    let client = client(true);
    let mut streams = JoinSet::new();
    for _ in 0..100 {
        let client = client.clone();
        streams.spawn(async move { get(&client, server, "/a").await.text().to_owned() });
    }
    open.notify_one();
    assert_eq!(streams.join_all().await, vec!["run 1"; 100]);
    assert_eq!(runs.count(), 1);
}

#[tokio::test]
async fn a_client_that_hangs_up_cancels_no_load() {
    let (runs, begun, open) = (Runs::default(), Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (counted, begin, gate) = (runs.clone(), begun.clone(), open.clone());
    let handler = routing::get(async move || {
        let run = counted.one_more();
        begin.notify_one();
        gate.notified().await;
        ([("cache-control", "max-age=60")], format!("run {run}"))
    });
    let server = serve(Router::new().route("/a", handler).layer(layer())).await;
    let mut stream = TcpStream::connect(server).await.expect("a connection");
    let request = format!("GET /a HTTP/1.1\r\nhost: {server}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("written");
    begun.notified().await;
    // Comes along, and stays.
    let client = client(false);
    let other = tokio::spawn(async move { get(&client, server, "/a").await.text().to_owned() });
    drop(stream);
    open.notify_one();
    assert_eq!(other.await.expect("an answer"), "run 1");
    assert_eq!(runs.count(), 1);
}

#[tokio::test]
async fn oversized_fields_are_refused_before_the_handler() {
    let runs = Runs::default();
    let server = serve(Router::new().route("/a", runs.handler()).layer(layer())).await;
    let long = "x".repeat(1 << 20);
    let request =
        format!("GET /a HTTP/1.1\r\nhost: {server}\r\nx-a: {long}\r\nconnection: close\r\n\r\n");
    let answer = write(server, &request).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    assert_eq!(runs.count(), 0);
    assert_eq!(get(&client(false), server, "/a").await.text(), "run 1");
}

#[tokio::test]
async fn an_ambiguous_host_bypasses_the_cache() {
    let runs = Runs::default();
    let server = serve(Router::new().route("/a", runs.handler()).layer(layer())).await;
    for hosts in ["host: a\r\nhost: b\r\n", "host: a b\r\n", "host: user@a\r\n", ""] {
        let request = format!("GET /a HTTP/1.1\r\n{hosts}connection: close\r\n\r\n");
        let before = runs.count();
        for _ in 0..2 {
            let answer = write(server, &request).await;
            assert!(!answer.contains("cattleguard; hit"), "{hosts}: {answer}");
        }
        // hyper may refuse it; else the handler is asked each time.
        assert!([before, before + 2].contains(&runs.count()), "{hosts}");
    }
}

#[tokio::test]
async fn an_origin_that_cannot_be_reached_is_an_error_of_the_service() {
    let closed = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = closed.local_addr().expect("an address");
    drop(closed);
    let service = tower::Layer::layer(&layer(), upstream(address));
    let request = Request::get("http://shop/a").body(AxumBody::empty()).expect("a request");
    let error = service.oneshot(request).await.expect_err("nobody listens");
    assert!(error.is_connect());
}
