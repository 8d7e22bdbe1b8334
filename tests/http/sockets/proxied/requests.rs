//! What clients write, and what of it the cache and the upstream see.

use hyper::client::conn::http2;

use super::*;

const FRESH: &str = "cache-control: max-age=60\r\n";

async fn fresh() -> (SocketAddr, Heads) {
    let (origin, heads) = says(|_| ok(FRESH, "hello")).await;
    (proxy_of(origin, OPTIONS).await, heads)
}

#[tokio::test]
async fn rfc9112_3_2_a_request_without_one_valid_host_is_refused() {
    let (proxy, heads) = fresh().await;
    for head in [
        "GET /a HTTP/1.1\r\nx-a: 1",
        "GET /a HTTP/1.1\r\nhost: a\r\nhost: b",
        "GET /a HTTP/1.1\r\nhost: a\r\nhost: a",
        "GET /a HTTP/1.0\r\nhost: a\r\nhost: b",
        "POST /a HTTP/1.1\r\ncontent-length: 0",
        "GET /a HTTP/1.1\r\nhost:",
        "GET /a HTTP/1.1\r\nhost: a b",
        "GET /a HTTP/1.1\r\nhost: a, b",
        "GET /a HTTP/1.1\r\nhost: a/b",
        "GET /a HTTP/1.1\r\nhost: a?b",
        "GET /a HTTP/1.1\r\nhost: user@a",
        "GET /a HTTP/1.1\r\nhost: http://a",
        "GET /a HTTP/1.1\r\nhost: :80",
        "GET /a HTTP/1.1\r\nhost: shop.test:99999",
        "GET /a HTTP/1.1\r\nhost: shop.test:+80",
        "GET /a HTTP/1.1\r\nhost: shop.test:80:80",
        "GET /a HTTP/1.1\r\nhost: shop.test:eighty",
        "GET http://a/a HTTP/1.1\r\nhost: a\r\nhost: b",
        "GET http://a/a HTTP/1.1\r\nhost: b c",
        "GET http://a:99999/a HTTP/1.1\r\nhost: a",
        "GET http://user@a/a HTTP/1.1\r\nhost: a",
    ] {
        let answer = one(proxy, head).await;
        assert!(
            answer.starts_with("HTTP/1.1 400 ") || answer.starts_with("HTTP/1.0 400 "),
            "{head}: {answer}"
        );
    }
    assert_eq!(heads.count(), 0);
    // HTTP/1.0 knows no host. Such a request has no key.
    for run in 1..=2 {
        assert!(one(proxy, "GET /a HTTP/1.0\r\nx-a: 1").await.ends_with("hello"));
        assert_eq!(heads.count(), run);
    }
}

#[tokio::test]
async fn rfc9110_4_2_3_what_shares_an_entry_is_forwarded_alike() {
    for (shared, spellings) in [
        (
            "shop.test",
            &[
                "GET /a HTTP/1.1\r\nhost: SHOP.TEST",
                "GET /a HTTP/1.1\r\nhost: shop.test:80",
                "GET /a HTTP/1.1\r\nhost: shop.test:0080",
                "GET /a HTTP/1.1\r\nhost: shop.test:",
                "GET http://Shop.Test/a HTTP/1.1\r\nhost: evil",
                "GET https://shop.test/a HTTP/1.1\r\nhost: shop.test",
                "GET /a HTTP/1.1\r\nhost: shop.test\r\nconnection: host",
            ][..],
        ),
        (
            "[::1]:8080",
            &["GET /a HTTP/1.1\r\nhost: [::1]:8080", "GET /a HTTP/1.1\r\nhost: [::1]:08080"],
        ),
    ] {
        for first in spellings {
            let (proxy, heads) = fresh().await;
            for spelling in [first].into_iter().chain(spellings) {
                assert!(one(proxy, spelling).await.ends_with("hello"), "{spelling}");
                assert_eq!(heads.count(), 1, "{first} and {spelling}");
            }
            assert_eq!(heads.last("host"), [shared], "{first}");
        }
    }
}

/// A client of HTTP/2 that says what it likes.
async fn http2_client(proxy: SocketAddr) -> http2::SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(proxy).await.expect("a connection");
    let (client, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("a handshake");
    tokio::spawn(connection);
    client
}

#[tokio::test]
async fn rfc9113_8_3_1_a_client_of_http_2_chooses_neither_scheme_nor_a_second_host() {
    let (proxy, heads) = fresh().await;
    let mut client = http2_client(proxy).await;
    let mut status = async |request: http::request::Builder| {
        let request = request.body(Full::default()).expect("a request");
        client.send_request(request).await.expect("a response").status().as_u16()
    };
    assert_eq!(status(Request::get("https://shop.test/a")).await, 200);
    assert_eq!(status(Request::get("http://shop.test/a")).await, 200);
    assert_eq!(status(Request::get("ftp://SHOP.test:80/a")).await, 200);
    assert!(one(proxy, "GET /a HTTP/1.1\r\nhost: shop.test").await.ends_with("hello"));
    assert_eq!(heads.count(), 1);
    assert_eq!(heads.last("host"), ["shop.test"]);
    assert_eq!(status(Request::get("http://shop.test/b").header("host", "evil")).await, 400);
    assert_eq!(status(Request::get("http://shop.test:99999/b")).await, 400);
    assert_eq!(heads.count(), 1);
}

#[tokio::test]
async fn rfc9113_8_2_3_cookies_in_pieces_are_one_field() {
    let (proxy, heads) = fresh().await;
    let mut client = http2_client(proxy).await;
    let request = Request::get("http://a/a").header("cookie", "a=1").header("cookie", "b=2");
    let request = request.body(Full::default()).expect("a request");
    client.send_request(request).await.expect("a response");
    assert_eq!(heads.last("cookie"), ["a=1; b=2"]);
}

#[tokio::test]
async fn rfc9110_7_6_1_connection_takes_no_field_that_the_message_needs() {
    let (origin, heads) = says(|_| {
        let fields = "connection: vary, cache-control, x-hop\r\nvary: accept\r\nx-hop: 1\r\n";
        ok(&format!("{FRESH}{fields}"), "hello")
    })
    .await;
    let proxy = proxy_of(origin, OPTIONS).await;
    let mut run = 0;
    for accept in ["a", "b"] {
        let head = format!(
            "GET /a HTTP/1.1\r\nhost: shop.test\r\naccept: {accept}\r\nauthorization: Basic eDp5\r\nx-hop: 1\r\nconnection: host, authorization, x-hop"
        );
        for _ in 0..2 {
            let answer = one(proxy, &head).await;
            assert!(
                answer.contains("\r\nvary: accept\r\n") && !answer.contains("x-hop"),
                "{answer}"
            );
            run += 1;
            assert_eq!(heads.count(), run, "a response to Authorization is not shared");
        }
        assert_eq!(heads.last("host"), ["shop.test"]);
        assert_eq!(heads.last("authorization"), ["basic edp5"]);
        assert!(heads.last("x-hop").is_empty());
    }
}

#[tokio::test]
async fn fields_by_which_a_stranger_chooses_a_response_are_not_forwarded() {
    let (origin, heads) = says(|_| ok(FRESH, "hello")).await;
    let proxy = proxy_of(origin, OPTIONS).await;
    let names = [
        "forwarded",
        "x-forwarded-host",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-forwarded-prefix",
        "x-forwarded-anything",
        "x-original-url",
        "x-rewrite-url",
        "x-original-host",
        "x-host",
        "x-real-ip",
        "x-http-method-override",
        "x-http-method",
        "x-method-override",
    ];
    for path in ["/a", "/b"] {
        let fields: String = names.map(|name| format!("{name}: evil\r\n")).concat();
        one(proxy, &format!("GET {path} HTTP/1.1\r\nhost: shop.test\r\n{fields}x-own: 1")).await;
        for name in names {
            assert!(heads.last(name).is_empty(), "{name}");
        }
        assert_eq!(
            (heads.last("host"), heads.last("x-own")),
            (vec!["shop.test".into()], vec!["1".into()])
        );
    }
    assert_eq!(heads.count(), 2);
}

#[tokio::test]
async fn rfc9110_7_6_2_forwards_are_counted() {
    let (proxy, heads) = fresh().await;
    let answer = one(proxy, "OPTIONS /a HTTP/1.1\r\nhost: a\r\nmax-forwards: 0").await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && !answer.contains("hello"), "{answer}");
    let answer = one(proxy, "TRACE /a HTTP/1.1\r\nhost: a\r\nmax-forwards: 0").await;
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    let answer = one(proxy, "TRACE /a HTTP/1.1\r\nhost: a\r\nmax-forwards: many").await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(heads.count(), 0);
    one(proxy, "OPTIONS /a HTTP/1.1\r\nhost: a\r\nmax-forwards: 3").await;
    assert_eq!((heads.count(), heads.last("max-forwards")), (1, vec!["2".to_owned()]));
}
