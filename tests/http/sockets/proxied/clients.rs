//! Clients that are silent, half gone, or too many.

use std::pin::Pin;

use rustix::net::sockopt;
use tokio::time::Instant;

use super::*;
use crate::secs;

const IDLE: u64 = 20;

fn limits(connections: u32) -> Options {
    Options { limits: Limits { idle_timeout: secs(IDLE), connections }, ..OPTIONS }
}

/// When the proxy closes, after this is written and nothing else.
async fn lasts(proxy: SocketAddr, sent: &[u8]) -> u64 {
    let begun = Instant::now();
    let mut stream = TcpStream::connect(proxy).await.expect("a connection");
    stream.write_all(sent).await.expect("written");
    let mut got = Vec::new();
    let end = stream.read_to_end(&mut got);
    let _ = tokio::time::timeout(secs(10 * IDLE), end).await.expect("it ends");
    begun.elapsed().as_secs()
}

#[tokio::test]
async fn a_silent_connection_ends_after_the_idle_timeout() {
    hurry();
    let (origin, _) = says(|_| ok("", "hello")).await;
    let proxy = proxy_of(origin, limits(10)).await;
    for sent in [
        &b""[..],
        b"G",
        b"GET /a HTTP/1.1\r\nhost: a\r\n",
        b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET /a HTTP/1.1\r\nhost: a\r\n\r\nGET /b",
        b"PRI * HTTP/2.0\r\n",
        PREFACE,
    ] {
        let lasted = lasts(proxy, sent).await;
        let text = String::from_utf8_lossy(sent);
        assert!((IDLE - 1..=IDLE + 5).contains(&lasted), "{text:?}: {lasted} s");
    }
}

#[tokio::test]
async fn a_head_that_comes_byte_by_byte_does_not_outlast_the_idle_timeout() {
    hurry();
    let (origin, _) = says(|_| ok("", "hello")).await;
    let proxy = proxy_of(origin, limits(10)).await;
    // The head of a request, and a frame of HTTP/2 that never ends.
    for start in
        [&b"GET /a HTTP/1.1\r\nx-a: "[..], &[PREFACE, &[0, 63, 0, 1, 4, 0, 0, 0, 1]].concat()]
    {
        let begun = Instant::now();
        let stream = TcpStream::connect(proxy).await.expect("a connection");
        let (mut reading, mut writing) = stream.into_split();
        writing.write_all(start).await.expect("written");
        let trickle = tokio::spawn(async move {
            while writing.write_all(b"a").await.is_ok() {
                tokio::time::sleep(secs(1)).await;
            }
        });
        let _ = reading.read_to_end(&mut Vec::new()).await;
        trickle.abort();
        assert!(begun.elapsed() <= secs(IDLE + 5), "{:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn a_client_waits_for_the_upstream_longer_than_it_may_be_silent() {
    hurry();
    let origin = origin(|mut stream| async move {
        while read_head(&mut stream).await.is_some() {
            tokio::time::sleep(secs(2 * IDLE)).await;
            let head =
                "HTTP/1.1 200 OK\r\ncache-control: no-store\r\ntransfer-encoding: chunked\r\n\r\n";
            let _ = stream.write_all(head.as_bytes()).await;
            for _ in 0..3 {
                tokio::time::sleep(secs(2 * IDLE)).await;
                let _ = stream.write_all(b"5\r\nhello\r\n").await;
            }
            let _ = stream.write_all(b"0\r\n\r\n").await;
        }
    })
    .await;
    let proxy = proxy_of(origin, Options { timeout: secs(3 * IDLE), ..limits(10) }).await;
    let answer = one(proxy, "GET /a HTTP/1.1\r\nhost: a").await;
    assert_eq!(answer.matches("hello").count(), 3, "{answer}");
}

/// Answers with more than all buffers on the way hold.
async fn endless() -> SocketAddr {
    origin(|mut stream| async move {
        while read_head(&mut stream).await.is_some() {
            let head = "HTTP/1.1 200 OK\r\ncache-control: no-store\r\n\r\n";
            let _ = stream.write_all(head.as_bytes()).await;
            let much = vec![b'x'; 1 << 20];
            while stream.write_all(&much).await.is_ok() {}
        }
    })
    .await
}

#[tokio::test]
async fn a_client_that_takes_no_answer_is_left_after_the_idle_timeout() {
    hurry();
    let proxy = proxy_of(endless().await, limits(1)).await;
    // The only place.
    let mut stalled = TcpStream::connect(proxy).await.expect("a connection");
    stalled.write_all(b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("written");
    stalled.readable().await.expect("an answer");
    let begun = Instant::now();
    let mut next = TcpStream::connect(proxy).await.expect("a connection");
    next.write_all(b"GET /a HTTP/1.1\r\nx-a: 1\r\n\r\n").await.expect("written");
    let mut answer = [0; 12];
    next.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 400");
    assert!((IDLE - 1..=2 * IDLE).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
}

/// The preface of HTTP/2, and settings.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// A GET for `/` of the host `a`.
const GET: &[u8] = b"\0\0\x06\x01\x05\0\0\0\x01\x82\x86\x84\x41\x01a";

#[tokio::test]
async fn a_client_of_http_2_that_answers_no_ping_is_left_though_it_waits() {
    hurry();
    let waits = origin(|mut stream| async move {
        let _ = read_head(&mut stream).await;
        std::future::pending().await
    })
    .await;
    let proxy = proxy_of(waits, Options { timeout: secs(3_600), ..limits(10) }).await;
    let lasted = lasts(proxy, &[PREFACE, GET].concat()).await;
    assert!((IDLE / 2..=IDLE + 5).contains(&lasted), "{lasted} s");
}

/// In real time: a pong has little of it.
#[tokio::test]
async fn a_client_of_http_2_that_answers_pings_waits_longer_than_it_may_be_silent() {
    let gate = Arc::new(tokio::sync::Notify::new());
    let opened = gate.clone();
    let origin = origin(move |mut stream| {
        let gate = gate.clone();
        async move {
            let _ = read_head(&mut stream).await;
            gate.notified().await;
            let _ = stream.write_all(ok("", "hello").as_bytes()).await;
        }
    })
    .await;
    let idle_timeout = secs(2);
    let limits = Limits { idle_timeout, connections: 10 };
    let proxy = proxy_of(origin, Options { limits, ..OPTIONS }).await;
    let mut client = RawHttp2::get(proxy).await;
    let (begun, mut has_outlasted) = (Instant::now(), false);
    loop {
        match client.frame().await.expect("the connection lasts") {
            PING if begun.elapsed() > idle_timeout + secs(1) => {
                has_outlasted = true;
                opened.notify_one();
            }
            HEADERS => break,
            _ => {}
        }
    }
    assert!(has_outlasted);
}

/// In real time, too.
#[tokio::test]
async fn a_client_of_http_2_that_takes_no_answer_is_left_though_it_answers_pings() {
    let limits = Limits { idle_timeout: secs(2), connections: 10 };
    let proxy = proxy_of(endless().await, Options { limits, ..OPTIONS }).await;
    let mut client = RawHttp2::get(proxy).await;
    let (mut pings, mut last) = (0, Instant::now());
    // It opens the window for no more than HTTP/2 begins with.
    while let Some(frame) = client.frame().await {
        match frame {
            PING => pings += 1,
            DATA => last = Instant::now(),
            _ => {}
        }
        assert!(pings < 20, "it lasts");
    }
    assert!(pings > 0);
    assert!(last.elapsed() >= secs(1), "{:?}", last.elapsed());
}

/// A client of HTTP/2 that asks once, answers pings, and sends nothing else.
struct RawHttp2(TcpStream);

impl RawHttp2 {
    async fn get(proxy: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(proxy).await.expect("a connection");
        stream.write_all(&[PREFACE, GET].concat()).await.expect("written");
        Self(stream)
    }

    /// The type of the next frame.
    async fn frame(&mut self) -> Option<u8> {
        let mut head = [0; 9];
        let read = self.0.read_exact(&mut head);
        tokio::time::timeout(secs(60), read).await.expect("frames, or an end").ok()?;
        let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
        self.0.read_exact(&mut payload).await.ok()?;
        if head[3..5] == [PING, 0] {
            let pong = [&[0, 0, 8, PING, 1, 0, 0, 0, 0], &payload[..]].concat();
            self.0.write_all(&pong).await.ok()?;
        }
        Some(head[3])
    }
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PING: u8 = 6;

#[tokio::test]
async fn connections_are_bounded_and_quiet_ones_make_room() {
    hurry();
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let (opened, heads) = (gate.clone(), Heads::default());
    let read = heads.clone();
    let origin = origin(move |mut stream| {
        let (gate, heads) = (gate.clone(), read.clone());
        async move {
            while heads.read(&mut stream).await.is_some() {
                gate.acquire().await.expect("open").forget();
                let _ = stream.write_all(ok("", "hello").as_bytes()).await;
            }
        }
    })
    .await;
    let proxy = proxy_of(origin, Options { timeout: secs(3_600), ..limits(3) }).await;
    let ask = |path: u32| {
        let head = format!("POST /{path} HTTP/1.1\r\nhost: a\r\ncontent-length: 0");
        Box::pin(async move { one(proxy, &head).await })
            as Pin<Box<dyn Future<Output = String> + Send>>
    };
    // One works, two are silent: the fourth and fifth get their places soon, and then nobody else.
    let mut working = vec![tokio::spawn(ask(1))];
    while heads.count() < 1 {
        tokio::task::yield_now().await;
    }
    let begun = Instant::now();
    let silent = [
        tokio::spawn(async move { lasts(proxy, b"").await }),
        tokio::spawn(async move { lasts(proxy, b"").await }),
    ];
    tokio::time::sleep(secs(2)).await;
    working.extend((2..=5).map(|path| tokio::spawn(ask(path))));
    for silent in silent {
        assert!(silent.await.expect("no panic") <= IDLE / 2, "{:?}", begun.elapsed());
    }
    // Time enough for more, if there were room.
    tokio::time::sleep(secs(3 * IDLE)).await;
    assert_eq!(heads.count(), 3);
    opened.add_permits(5);
    for answer in working {
        assert!(answer.await.expect("no panic").ends_with("hello"));
    }
    assert_eq!(heads.count(), 5);
}

#[tokio::test]
async fn the_system_probes_a_client_that_may_be_gone_without_a_word() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let _client = TcpStream::connect(listener.local_addr().expect("an address")).await;
    let (stream, _) = listener.accept().await.expect("a connection");
    for (idle_timeout, expected) in [(secs(30), secs(30)), (Duration::from_millis(10), secs(1))] {
        proxy::probe_when_silent(&stream, idle_timeout).expect("a socket that is probed");
        assert!(sockopt::socket_keepalive(&stream).expect("an option"));
        assert_eq!(sockopt::tcp_keepidle(&stream).expect("an option"), expected);
    }
    proxy::probe_when_silent(&stream, secs(365 * 24 * 3_600)).expect("not too long");
}
