//! The processes, and the row they ask for.

use std::process::Stdio;

use redis::{AsyncCommands, aio::MultiplexedConnection};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use crate::servers::{self, Signal, signal};

pub struct Fleet {
    pub workers: Vec<Worker>,
    database: MultiplexedConnection,
    _redis: servers::Redis,
}

pub struct Worker {
    child: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Fleet {
    pub async fn start(processes: usize) -> Self {
        let redis = servers::Redis::start().expect("a Redis");
        let client = redis::Client::open(redis.url()).expect("a URL");
        let database = client.get_multiplexed_async_connection().await.expect("a connection");
        let mut workers = Vec::new();
        for _ in 0..processes {
            workers.push(Worker::start(&redis.url()).await);
        }
        Self { workers, database, _redis: redis }
    }

    /// How often the database was asked for `key`.
    pub async fn loads(&self, key: &str) -> u64 {
        let mut database = self.database.clone();
        let loads: Option<u64> = database.get(format!("loads:{key}")).await.expect("an answer");
        loads.unwrap_or(0)
    }

    /// The row of `key` has this version from now on.
    pub async fn update(&self, key: &str, version: u64) {
        let mut database = self.database.clone();
        database.set::<_, _, ()>(format!("row:{key}"), version).await.expect("an answer");
    }
}

impl Worker {
    async fn start(url: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["worker", url])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("a process");
        let orders = child.stdin.take().expect("standard input");
        let answers = BufReader::new(child.stdout.take().expect("standard output")).lines();
        let mut worker = Self { child, orders, answers };
        assert_eq!(worker.answer().await, "ready");
        worker
    }

    pub async fn order(&mut self, line: &str) {
        self.orders.write_all(format!("{line}\n").as_bytes()).await.expect("a live worker");
    }

    pub async fn answer(&mut self) -> String {
        let line = self.answers.next_line().await.expect("readable");
        line.expect("an answer before the end")
    }

    pub async fn ask(&mut self, line: &str) -> String {
        self.order(line).await;
        self.answer().await
    }

    /// Asks for `key` by so many callers: how many were answered, the least version, the slowest in
    /// milliseconds.
    pub async fn fetch(&mut self, key: &str, callers: u64, load_ms: u64) -> (u64, u64, u64) {
        self.order(&format!("fetch {key} {callers} {load_ms}")).await;
        self.fetched().await
    }

    pub async fn fetched(&mut self) -> (u64, u64, u64) {
        let line = self.answer().await;
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| words[at].parse().unwrap_or_else(|_| panic!("{line}"));
        assert_eq!(words[0], "fetched", "{line}");
        (number(1), number(2), number(3))
    }

    pub async fn kill(&mut self) {
        self.child.kill().await.expect("a live worker");
    }

    pub fn freeze(&self) {
        signal(self.pid(), Signal::STOP);
    }

    pub fn thaw(&self) {
        signal(self.pid(), Signal::CONT);
    }

    fn pid(&self) -> u32 {
        self.child.id().expect("a live worker")
    }
}
