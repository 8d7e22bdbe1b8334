//! Bodies that are slow, long or broken off, from a scripted server behind the cache.

use std::{sync::Arc, time::Duration};

use tokio::sync::Notify;

use super::*;
use crate::layer;

const HEAD: &str = "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\n";

/// Answers each connection with these pieces, one at a time, each after a permit but the first; then
/// closes.
async fn script(pieces: Vec<String>, permit: Arc<Notify>, runs: Runs) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") {
                if stream.read_exact(&mut byte).await.is_err() {
                    break;
                }
                head.push(byte[0]);
            }
            runs.one_more();
            for (at, piece) in pieces.iter().enumerate() {
                if at > 0 {
                    permit.notified().await;
                }
                let _ = stream.write_all(piece.as_bytes()).await;
            }
        }
    });
    address
}

/// A proxy in front of the script.
async fn proxy(pieces: &[&str], max_body_size: usize) -> (SocketAddr, Arc<Notify>, Runs) {
    let (permit, runs) = (Arc::new(Notify::new()), Runs::default());
    let pieces = pieces.iter().map(|piece| (*piece).to_owned()).collect();
    let origin = script(pieces, permit.clone(), runs.clone()).await;
    let layer = layer().max_body_size(max_body_size).hit_for_pass_ttl(Duration::from_secs(60));
    (serve_by_hyper(tower::Layer::layer(&layer, upstream(origin))).await, permit, runs)
}

#[tokio::test]
async fn a_body_that_breaks_off_is_an_error_for_the_client_and_never_stored() {
    let chunked = format!("{HEAD}transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n");
    let counted = format!("{HEAD}content-length: 9\r\n\r\nhello");
    for answer in [chunked, counted] {
        for http2 in [false, true] {
            let (server, _, runs) = proxy(&[&answer], 1 << 20).await;
            let client = client(http2);
            for run in 1..=3 {
                // The server may close before it has sent the head.
                if let Ok(got) = ask(&client, server, "/a").await {
                    assert!(got.body.is_err(), "{answer}: {:?}", got.body);
                }
                assert_eq!(runs.count(), run);
            }
        }
    }
}

#[tokio::test]
async fn a_slow_body_is_waited_for_and_stored() {
    let head = format!("{HEAD}content-length: 10\r\n\r\nhello");
    let (server, permit, runs) = proxy(&[&head, "world"], 1 << 20).await;
    let client = client(false);
    let mut answers = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let client = client.clone();
        answers.spawn(async move { get(&client, server, "/a").await.text().to_owned() });
    }
    permit.notify_one();
    assert_eq!(answers.join_all().await, vec!["helloworld"; 10]);
    assert_eq!(get(&client, server, "/a").await.how(), "cattleguard; hit");
    assert_eq!(runs.count(), 1);
}

#[tokio::test]
async fn a_long_body_arrives_while_it_is_sent() {
    let head = format!("{HEAD}transfer-encoding: chunked\r\n\r\na\r\n0123456789\r\n");
    let (server, permit, runs) = proxy(&[&head, "5\r\nworld\r\n0\r\n\r\n"], 8).await;
    let client = client(false);
    for run in 1..=2 {
        let request = Request::get(format!("http://{server}/a")).body(Full::default());
        let response = client.request(request.expect("a request")).await.expect("a response");
        let mut body = response.into_body();
        // The rest is not sent before this is here.
        let first = body.frame().await.expect("a frame").expect("whole").into_data();
        assert_eq!(first.expect("data"), "0123456789");
        permit.notify_one();
        let rest = body.collect().await.expect("whole").to_bytes();
        assert_eq!(rest, "world");
        assert_eq!(runs.count(), run);
    }
}

#[tokio::test]
async fn a_body_that_does_not_end_arrives_while_it_is_sent() {
    let head = format!("{HEAD}transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n");
    let (server, permit, runs) = proxy(&[&head, "5\r\nworld\r\n0\r\n\r\n"], 1 << 20).await;
    let client = client(false);
    for run in 1..=2 {
        let request = Request::get(format!("http://{server}/a")).body(Full::default());
        let response = client.request(request.expect("a request")).await.expect("a response");
        let mut body = response.into_body();
        // The rest is not sent before this is here.
        let first = body.frame().await.expect("a frame").expect("whole").into_data();
        assert_eq!(first.expect("data"), "hello");
        permit.notify_one();
        assert_eq!(body.collect().await.expect("whole").to_bytes(), "world");
        assert_eq!(runs.count(), run);
    }
}

#[tokio::test]
async fn trailers_pass_and_prevent_storing() {
    let answer = format!(
        "{HEAD}transfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n"
    );
    let (server, _, runs) = proxy(&[&answer], 1 << 20).await;
    let client = client(true);
    for run in 1..=2 {
        let request = Request::get(format!("http://{server}/a")).body(Full::default());
        let response = client.request(request.expect("a request")).await.expect("a response");
        let body = response.into_body().collect().await.expect("whole");
        assert_eq!(body.trailers().expect("trailers")["x-sum"], "1");
        assert_eq!(body.to_bytes(), "hello");
        assert_eq!(runs.count(), run);
    }
}

#[tokio::test]
async fn a_head_that_is_too_long_for_the_proxy_is_never_stored() {
    let answer = format!("{HEAD}x-a: {}\r\ncontent-length: 2\r\n\r\nhi", "x".repeat(1 << 20));
    let (server, _, _) = proxy(&[&answer], 1 << 20).await;
    for _ in 0..2 {
        let request = format!("GET /a HTTP/1.1\r\nhost: {server}\r\nconnection: close\r\n\r\n");
        let answer = write(server, &request).await;
        assert!(!answer.contains("200 OK"), "{answer}");
    }
}

#[tokio::test]
async fn rfc9112_6_3_a_length_beside_chunks_counts_for_nothing_whatever_is_behind_the_cache() {
    let long = "0123456789abcdef".repeat(4);
    for fields in ["cache-control: max-age=60\r\n", "cache-control: no-store\r\n"] {
        let head = format!("HTTP/1.1 200 OK\r\n{fields}content-length: 5\r\n");
        let answer = format!("{head}transfer-encoding: chunked\r\n\r\n40\r\n{long}\r\n0\r\n\r\n");
        for http2 in [false, true] {
            let (server, _, _) = proxy(&[&answer], 1 << 20).await;
            let client = client(http2);
            for _ in 0..3 {
                assert_eq!(get(&client, server, "/a").await.text(), long, "{fields}");
            }
            let request = Request::post(format!("http://{server}/a")).body(Full::default());
            let response = client.request(request.expect("a request")).await.expect("a response");
            let body = response.into_body().collect().await.expect("a whole body").to_bytes();
            assert_eq!(body, long.as_bytes(), "{fields}");
        }
    }
}

#[tokio::test]
async fn a_response_that_contradicts_its_length_is_not_the_start_of_the_next() {
    for (length, is_longer) in [("2", true), ("9", false)] {
        let service = service_fn(move |request: Request<AxumBody>| async move {
            let response = Response::builder().header("cache-control", "max-age=60");
            Ok::<_, std::convert::Infallible>(match request.uri().path() {
                "/other" => response.body(Full::from("other")),
                _ => response.header("content-length", length).body(Full::from("hello")),
            })
            .map(|response| response.expect("a response"))
        });
        let server = serve_by_hyper(tower::Layer::layer(&layer(), service)).await;
        let both = format!(
            "GET /a HTTP/1.1\r\nhost: {server}\r\n\r\nGET /other HTTP/1.1\r\nhost: {server}\r\nconnection: close\r\n\r\n"
        );
        let answer = write(server, &both).await;
        let (head, rest) = answer.split_once("\r\n\r\n").expect("a head");
        assert!(head.contains(&format!("content-length: {length}")), "{head}");
        match is_longer {
            true => {
                assert!(rest.starts_with("heHTTP/1.1 200 OK") && rest.ends_with("other"), "{rest}")
            }
            // The client sees that it is incomplete (RFC 9112 §8).
            false => assert_eq!(rest, "hello"),
        }
    }
}
