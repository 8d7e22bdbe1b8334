//! What an upstream may do to the proxy, and what clients see of it.

use super::*;
use crate::{proxy_policy::namespace, secs};

/// Longer than the length that stands beside it.
const LONG: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef01234567";
const FRESH: &str = "cache-control: max-age=60\r\n";

over_each_store!(
    rfc9110_9_2_2_an_idempotent_request_that_met_a_closing_connection_is_sent_again,
    rfc9110_9_2_2_no_other_request_is_sent_twice,
    rfc9110_15_2_interim_responses_change_no_final_one,
);

#[tokio::test]
async fn rfc9112_6_3_a_length_beside_chunks_counts_for_nothing() {
    for fields in ["", FRESH, "cache-control: no-store\r\n"] {
        let chunks = format!("48\r\n{LONG}\r\n0\r\n\r\n");
        let (origin, _) = says(move |head| {
            if head.starts_with("GET /other") {
                return ok("", "other");
            }
            format!(
                "HTTP/1.1 200 OK\r\n{fields}content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n{chunks}"
            )
        })
        .await;
        let proxy = proxy_of(origin, OPTIONS).await;
        for http2 in [false, true] {
            let client = client(http2);
            for _ in 0..2 {
                assert_eq!(get(&client, proxy, "/a").await.text(), LONG, "{fields}");
                assert_eq!(get(&client, proxy, "/other").await.text(), "other", "{fields}");
            }
        }
        let answer = one(proxy, "GET /a HTTP/1.1\r\nhost: a").await;
        assert!(!answer.contains("content-length: 5\r\n"), "{answer}");
        let answer = one(proxy, "HEAD /b HTTP/1.1\r\nhost: a").await;
        assert!(!answer.contains("content-length: 5\r\n"), "{answer}");
    }
}

#[tokio::test]
async fn rfc9112_6_3_a_response_without_one_clear_end_is_refused() {
    for framing in [
        "transfer-encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "transfer-encoding: chunked, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "transfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "transfer-encoding: gzip\r\ncontent-length: 5\r\n\r\nhello",
        "transfer-encoding: identity\r\n\r\nhello",
        "content-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        "content-length: 5, 6\r\n\r\nhello",
        "content-length: +5\r\n\r\nhello",
        "content-length: -5\r\n\r\nhello",
        "content-length: 5 5\r\n\r\nhello",
    ] {
        for fields in ["", FRESH] {
            let answer = format!("HTTP/1.1 200 OK\r\n{fields}{framing}");
            let (origin, _) = says(move |_| answer.clone()).await;
            let proxy = proxy_of(origin, OPTIONS).await;
            let answer = one(proxy, "GET /a HTTP/1.1\r\nhost: a").await;
            assert!(answer.starts_with("HTTP/1.1 502 "), "{framing}: {answer}");
            assert!(!answer.contains("hello"), "{framing}: {answer}");
        }
    }
    // The same length twice is one.
    let (origin, _) =
        says(|_| "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\nhello").await;
    let proxy = proxy_of(origin, OPTIONS).await;
    let answer = one(proxy, "GET /a HTTP/1.1\r\nhost: a").await;
    assert_eq!(answer.matches("content-length: 5\r\n").count(), 1, "{answer}");
    assert!(answer.ends_with("hello"), "{answer}");
}

/// Answers the first request of a connection, and ends it at the second, with these bytes.
async fn closes_when_reused(end: &'static str) -> (SocketAddr, Heads) {
    let heads = Heads::default();
    let read = heads.clone();
    let at = origin(move |mut stream| {
        let heads = read.clone();
        async move {
            if heads.read(&mut stream).await.is_some() {
                let _ = stream.write_all(ok("", "hello").as_bytes()).await;
            }
            if heads.read(&mut stream).await.is_some() {
                let _ = stream.write_all(end.as_bytes()).await;
            }
        }
    })
    .await;
    (at, heads)
}

async fn statuses(proxy: SocketAddr, heads: &[&str]) -> Vec<String> {
    let mut statuses = Vec::new();
    for head in heads {
        let answer = one(proxy, head).await;
        statuses.push(answer.split(' ').nth(1).expect("a status").to_owned());
    }
    statuses
}

async fn rfc9110_9_2_2_an_idempotent_request_that_met_a_closing_connection_is_sent_again(
    store: Store,
) {
    let (origin, heads) = closes_when_reused("").await;
    let proxy = proxy_of(origin, over(store)).await;
    for method in ["GET", "HEAD", "OPTIONS", "DELETE", "PUT"] {
        let head = format!("{method} /a HTTP/1.1\r\nhost: a\r\ncontent-length: 0");
        let answered = statuses(proxy, &[&*head; 6]).await;
        assert_eq!(answered, ["200"; 6], "{method}");
    }
    assert!(heads.count() > 30, "{}", heads.count());
}

async fn rfc9110_9_2_2_no_other_request_is_sent_twice(store: Store) {
    let first = "GET /first HTTP/1.1\r\nhost: a";
    // Neither idempotent, nor to be had a second time.
    for second in [
        "POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 0",
        "PATCH /a HTTP/1.1\r\nhost: a\r\ncontent-length: 0",
    ] {
        let (origin, heads) = closes_when_reused("").await;
        let proxy = proxy_of(origin, over(store)).await;
        assert_eq!(statuses(proxy, &[first, second]).await, ["200", "502"], "{second}");
        assert_eq!(heads.count(), 2, "{second}");
    }
    let (origin, heads) = closes_when_reused("").await;
    let proxy = proxy_of(origin, over(store)).await;
    one(proxy, first).await;
    let put = "PUT /a HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello";
    let answer = write(proxy, put).await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    assert_eq!(heads.count(), 2);
    // The answer had begun.
    let (origin, heads) = closes_when_reused("HTTP/1.1 2").await;
    let proxy = proxy_of(origin, over(store)).await;
    assert_eq!(statuses(proxy, &[first, "GET /a HTTP/1.1\r\nhost: a"]).await, ["200", "502"]);
    assert_eq!(heads.count(), 2);
    // A connection that has never answered.
    let heads = Heads::default();
    let read = heads.clone();
    let origin = super::origin(move |mut stream| {
        let heads = read.clone();
        async move { drop(heads.read(&mut stream).await) }
    })
    .await;
    let proxy = proxy_of(origin, over(store)).await;
    assert_eq!(statuses(proxy, &[first]).await, ["502"]);
    assert_eq!(heads.count(), 1);
}

async fn rfc9110_15_2_interim_responses_change_no_final_one(store: Store) {
    let (origin, heads) = says(|_| {
        let hint =
            "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\ncache-control: max-age=600\r\n\r\n";
        let progress = "HTTP/1.1 102 Processing\r\nset-cookie: a=b\r\n\r\n";
        format!("{hint}{progress}{hint}{}", ok("cache-control: max-age=60\r\n", "hello"))
    })
    .await;
    let proxy = proxy_of(origin, over(store)).await;
    for http2 in [false, true, false] {
        let got = get(&client(http2), proxy, "/a").await;
        assert_eq!((got.head.status.as_u16(), got.text()), (200, "hello"));
        assert_eq!(got.head.headers["cache-control"], "max-age=60");
        for name in ["link", "set-cookie"] {
            assert!(!got.head.headers.contains_key(name), "{name}");
        }
    }
    assert_eq!(heads.count(), 1);
}

/// Answers each request after so long.
async fn slow(after: Duration) -> SocketAddr {
    origin(move |mut stream| async move {
        while read_head(&mut stream).await.is_some() {
            tokio::time::sleep(after).await;
            let _ = stream.write_all(ok("cache-control: max-age=600\r\n", "late").as_bytes()).await;
        }
    })
    .await
}

#[tokio::test]
async fn a_response_is_waited_for_as_long_as_the_timeout_says() {
    hurry();
    for (timeout, takes) in [(30, 25), (60, 50)] {
        let origin = slow(secs(takes)).await;
        let proxy = proxy_of(origin, Options { timeout: secs(timeout), ..OPTIONS }).await;
        for path in ["/a", "/a", "/b"] {
            let answer = one(proxy, &format!("GET {path} HTTP/1.1\r\nhost: a")).await;
            assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("late"), "{answer}");
        }
    }
}

#[tokio::test]
async fn a_response_slower_than_the_timeout_is_one_clear_504() {
    hurry();
    for timeout in [5, 30, 60] {
        let origin = slow(secs(timeout + 5)).await;
        let proxy = proxy_of(origin, Options { timeout: secs(timeout), ..OPTIONS }).await;
        for head in
            ["GET /a HTTP/1.1\r\nhost: a", "POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 0"]
        {
            let begun = tokio::time::Instant::now();
            let answer = one(proxy, head).await;
            let took = begun.elapsed().as_secs();
            assert!((timeout..=timeout + 4).contains(&took), "{head}: {took} s");
            assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
            assert!(answer.ends_with("the upstream takes too long\n"), "{answer}");
        }
    }
}

/// Answers the first request with what is fresh for two seconds, and fails from then on.
async fn fails_later() -> SocketAddr {
    let runs = Runs::default();
    let answer = move |_: &str| match runs.one_more() {
        1 => ok("cache-control: max-age=2\r\n", "hello"),
        _ => "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\ndown".to_owned(),
    };
    says(answer).await.0
}

/// The age of each response, until there is another status or one as old as that.
async fn ages(proxy: SocketAddr, oldest: u64) -> (Vec<u64>, u16) {
    let client = client(false);
    let mut ages = Vec::new();
    // Bounded: each waits, and none is older than five seconds.
    for _ in 0..200 {
        let got = get(&client, proxy, "/a").await;
        let status = got.head.status.as_u16();
        if status != 200 {
            return (ages, status);
        }
        let age = got.head.headers.get("age").map_or("0", |age| age.to_str().expect("text"));
        ages.push(age.parse().expect("a number"));
        if ages.last().is_some_and(|age| *age >= oldest) {
            return (ages, status);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the response does not age: {ages:?}");
}

#[tokio::test]
async fn rfc9111_4_2_4_the_proxy_serves_nothing_stale_without_permission() {
    let proxy = proxy_of(fails_later().await, OPTIONS).await;
    let (ages, status) = ages(proxy, 3).await;
    assert!(ages.len() > 1 && ages.iter().all(|age| *age < 2), "{ages:?}");
    // The origin's failure, or that of an early refresh.
    assert!(status >= 500, "{status}");
}

#[tokio::test]
async fn the_proxy_serves_stale_where_an_option_says_so() {
    let proxy = proxy_of(fails_later().await, Options { stale: secs(300), ..OPTIONS }).await;
    let (ages, status) = ages(proxy, 3).await;
    assert_eq!((ages.last(), status), (Some(&3), 200), "{ages:?}");
}

#[test]
fn each_upstream_has_a_namespace_of_its_own() {
    let of = |upstream: &str| namespace(&upstream.parse().expect("an authority"));
    assert_eq!(of("Shop.test"), of("shop.test:80"));
    assert_ne!(of("shop.test"), of("shop.test:8080"));
    assert_ne!(of("shop.test"), of("blog.test"));
}
