//! The example `reverse_proxy` between clients and origins that are written byte by byte.

mod clients;
mod edges;
mod expired;
mod requests;
mod streams;
mod upstreams;

use std::{future::Future, time::Duration};

use cattleguard::http::HttpGuardLayer;

use super::{
    store::{Store, over_each_store},
    *,
};
use crate::{
    proxy::{self, Limits},
    proxy_policy::policy,
    upstream::Upstream,
};

/// What the command line says, and what else a cache can be told.
#[derive(Clone, Copy)]
pub(super) struct Options {
    store: Store,
    layer: fn(HttpGuardLayer) -> HttpGuardLayer,
    timeout: Duration,
    stale: Duration,
    limits: Limits,
}

const OPTIONS: Options = Options {
    store: Store::Memory,
    layer: std::convert::identity,
    timeout: Duration::from_secs(30),
    stale: Duration::ZERO,
    limits: Limits { idle_timeout: Duration::from_secs(30), connections: 1_000 },
};

pub(super) const fn over(store: Store) -> Options {
    Options { store, ..OPTIONS }
}

pub(super) async fn proxy_of(origin: SocketAddr, options: Options) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let authority = origin.to_string().parse().expect("an authority");
    let upstream = Upstream::new(authority, options.timeout);
    let cache = options.store.builder().policy(policy(options.timeout, options.stale));
    tokio::spawn(async move {
        let cache = (options.layer)(HttpGuardLayer::new(cache));
        proxy::serve(listener, &cache, upstream, options.limits, std::future::pending()).await;
    });
    address
}

/// Lets the clock run two hundred times as fast, to wait for timeouts. A paused clock would jump to the next timer
/// while bytes are on their way.
fn hurry() {
    tokio::time::pause();
    tokio::spawn(async {
        loop {
            // While this is under way, the clock does not jump.
            let tick = tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_millis(1)));
            let _ = tick.await;
            tokio::time::advance(Duration::from_millis(200)).await;
        }
    });
}

/// An origin that does this with each connection.
async fn origin<Each, Done>(each: Each) -> SocketAddr
where
    Each: Fn(TcpStream) -> Done + Send + 'static,
    Done: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(each(stream));
        }
    });
    address
}

/// An origin that answers each request on each connection with these bytes, and the heads that it has read.
async fn says<Bytes>(
    answer: impl Fn(&str) -> Bytes + Clone + Send + Sync + 'static,
) -> (SocketAddr, Heads)
where
    Bytes: AsRef<[u8]> + Send,
{
    let heads = Heads::default();
    let read = heads.clone();
    let at = origin(move |mut stream| {
        let (answer, heads) = (answer.clone(), read.clone());
        async move {
            while let Some(head) = heads.read(&mut stream).await {
                let answer = answer(&head);
                let _ = stream.write_all(answer.as_ref()).await;
            }
        }
    })
    .await;
    (at, heads)
}

/// The heads of the requests that an origin has read.
#[derive(Clone, Default)]
struct Heads(Arc<parking_lot::Mutex<Vec<String>>>);

impl Heads {
    async fn read(&self, stream: &mut TcpStream) -> Option<String> {
        let head = read_head(stream).await?;
        self.0.lock().push(head.clone());
        Some(head)
    }

    fn count(&self) -> usize {
        self.0.lock().len()
    }

    /// How many of them have this line, in lower case.
    fn having(&self, line: &str) -> usize {
        let heads = self.0.lock();
        heads.iter().filter(|head| head.to_ascii_lowercase().lines().any(|it| it == line)).count()
    }

    /// The values of a field in the latest of them.
    fn last(&self, name: &str) -> Vec<String> {
        let heads = self.0.lock();
        let lines = heads.last().expect("a request").lines().map(str::to_ascii_lowercase);
        lines
            .filter_map(|line| Some(line.strip_prefix(name)?.strip_prefix(": ")?.to_owned()))
            .collect()
    }
}

async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).expect("text"))
}

/// A whole response of HTTP/1.1.
fn ok(fields: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{fields}content-length: {}\r\n\r\n{body}", body.len())
}

/// A request on a connection of its own, and what comes back.
async fn one(proxy: SocketAddr, head: &str) -> String {
    write(proxy, &format!("{head}\r\nconnection: close\r\n\r\n")).await
}
