//! Requests per second over kept connections: an axum handler that returns a constant, alone and behind
//! the cache, turn by turn in one run. Server and clients have a core each.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use axum::{Router, routing};
use cattleguard::{Guard, http::HttpGuardLayer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::{Builder, Runtime},
    task::JoinSet,
};

const CONNECTIONS: usize = 50;
/// Many short ones, so that a disturbance of the machine hits both servers of a pair.
const ROUNDS: usize = 41;
const ROUND: Duration = Duration::from_millis(400);

/// Its last byte stands nowhere else in the response.
static BODY: &str = concat!(
    "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789",
    "012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678~"
);

fn main() {
    let handler = routing::get(async || {
        ([("cache-control", "max-age=3600"), ("content-type", "text/plain")], BODY)
    });
    let router = Router::new().route("/products/{id}", handler);
    let cached = router.clone().layer(HttpGuardLayer::new(Guard::builder()));
    let servers = [("the handler alone", serve(router)), ("behind the cache", serve(cached))];
    let client = runtime();
    let mut rates = [const { Vec::new() }; 2];
    for round in 0..=ROUNDS {
        for (rates, (_, address)) in rates.iter_mut().zip(servers) {
            let rate = client.block_on(ask(address));
            // The first one warms up.
            if round > 0 {
                rates.push(rate);
            }
        }
    }
    let [alone, cached] = rates;
    let shares = cached.iter().zip(&alone).map(|(cached, alone)| 100.0 * cached / alone).collect();
    for ((what, _), rates) in servers.iter().zip([alone, cached]) {
        let (quarter, median, three_quarters) = quartiles(rates);
        println!("{what:<18} {median:>7.0} requests/s ({quarter:.0} to {three_quarters:.0})");
    }
    let (quarter, median, three_quarters) = quartiles(shares);
    println!("share, by pairs    {median:>7.1} % ({quarter:.1} to {three_quarters:.1})");
}

fn quartiles(mut all: Vec<f64>) -> (f64, f64, f64) {
    all.sort_by(f64::total_cmp);
    let at = |quarter| all[(all.len() - 1) * quarter / 4];
    (at(1), at(2), at(3))
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// On a thread of its own, as long as the program runs.
fn serve(router: Router) -> SocketAddr {
    let runtime = runtime();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a free port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || runtime.block_on(async move { axum::serve(listener, router).await }));
    address
}

/// Requests answered per second.
async fn ask(server: SocketAddr) -> f64 {
    let (end, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut clients = JoinSet::new();
    let begin = Instant::now();
    for _ in 0..CONNECTIONS {
        let (end, answered) = (end.clone(), answered.clone());
        clients.spawn(async move {
            let mut stream = TcpStream::connect(server).await.expect("a connection");
            stream.set_nodelay(true).expect("a socket");
            let mut answer = Vec::with_capacity(1024);
            while !end.load(Ordering::Relaxed) {
                let request =
                    b"GET /products/42 HTTP/1.1\r\nhost: example.com\r\naccept: */*\r\n\r\n";
                stream.write_all(request).await.expect("written");
                answer.clear();
                while !answer.ends_with(b"~") {
                    let read = stream.read_buf(&mut answer).await.expect("readable");
                    assert!(read > 0, "the server hung up");
                }
                assert!(answer.starts_with(b"HTTP/1.1 200"));
                answered.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    tokio::time::sleep(ROUND).await;
    let rate = answered.load(Ordering::Relaxed) as f64 / begin.elapsed().as_secs_f64();
    end.store(true, Ordering::Relaxed);
    clients.join_all().await;
    rate
}
