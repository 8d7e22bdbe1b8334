//! A process with an HTTP service behind the cache, and those who ask it.

use std::time::{Duration, Instant};

use axum::{Router, routing};
use cattleguard::{
    Guard, Policy,
    http::{HttpGuardLayer, Responses},
    redis::{Connection, RedisFar},
};
use redis::AsyncCommands;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::fleet::Fleet;

pub const HANDLER_MS: u64 = 50;

pub async fn one_handler_run_for_a_thousand_connections_to_four_services() {
    let (fleet, addresses) = Fleet::start_web(4).await;
    let mut callers = Vec::new();
    for address in &addresses {
        for _ in 0..250 {
            callers.push(Caller::connect(address).await);
        }
    }
    for round in 0..5 {
        let mut asking = JoinSet::new();
        for mut caller in callers.drain(..) {
            asking.spawn(async move {
                let (answer, took) = caller.ask(&format!("cold-{round}")).await;
                (caller, answer, took)
            });
        }
        let mut slowest = Duration::ZERO;
        for (caller, answer, took) in asking.join_all().await {
            assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("run 1"), "{answer}");
            slowest = slowest.max(took);
            callers.push(caller);
        }
        assert_eq!(callers.len(), 1000);
        assert_eq!(fleet.loads(&format!("cold-{round}")).await, 1, "round {round}");
        let over = slowest.saturating_sub(Duration::from_millis(HANDLER_MS));
        println!(
            "1,000 connections, a handler of {HANDLER_MS} ms: the slowest took {over:.1?} more"
        );
        assert!(over < SLACK, "round {round}: {slowest:?}");
    }
}

/// What a busy machine of two cores may add.
const SLACK: Duration = Duration::from_millis(1500);

/// Serves `/a/{n}`, which takes its time and counts in Redis how often it runs, and says where.
pub async fn live(far: String, database: String) {
    let client = redis::Client::open(&*database).expect("a URL");
    let database = client.get_connection_manager().await.expect("a connection");
    let connection = Connection::open(&far).await.expect("a connection");
    // Two cores, many processes: the default far timeout is for production machines.
    let connection = connection.timeout(Duration::from_secs(2));
    let policy = Policy::default().load_timeout(Duration::from_secs(30));
    let far = RedisFar::new(connection, Responses::default()).namespace("http");
    let cache = HttpGuardLayer::new(Guard::builder().far(far).policy(policy));
    let handler = routing::get(async move |path: axum::extract::Path<String>| {
        let mut database = database.clone();
        let counter = format!("loads:{}", *path);
        // One field for all processes: the run's number among all.
        let run: u64 = database.hincr(counter, "web", 1).await.expect("an answer");
        tokio::time::sleep(Duration::from_millis(HANDLER_MS)).await;
        ([("cache-control", "max-age=60")], format!("run {run}"))
    });
    let router = Router::new().route("/a/{n}", handler).layer(cache);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let serving = tokio::spawn(async move { axum::serve(listener, router).await });
    // Connected to all it needs before the first request.
    let mut warm = Caller::connect(&address.to_string()).await;
    warm.ask("warm").await;
    println!("{address}");
    let _ = serving.await;
}

/// A connection that is kept.
pub struct Caller(TcpStream);

impl Caller {
    pub async fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).await.expect("a connection");
        stream.set_nodelay(true).expect("a socket");
        Self(stream)
    }

    /// The response to `GET /a/{path}` of one host for all, and how long it took.
    pub async fn ask(&mut self, path: &str) -> (String, Duration) {
        let begin = Instant::now();
        let request = format!("GET /a/{path} HTTP/1.1\r\nhost: shop\r\n\r\n");
        self.0.write_all(request.as_bytes()).await.expect("written");
        let mut answer = Vec::new();
        while !answer.ends_with(b"run 1") && !answer.ends_with(b"run 2") {
            let read = self.0.read_buf(&mut answer).await.expect("readable");
            assert!(read > 0, "{}", String::from_utf8_lossy(&answer));
        }
        (String::from_utf8(answer).expect("text"), begin.elapsed())
    }
}
