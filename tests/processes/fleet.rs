//! The processes, and the row they ask for.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use redis::{AsyncCommands, aio::MultiplexedConnection};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use crate::servers::{self, Signal, Watchdog, signal};

pub struct Fleet {
    pub workers: Vec<Worker>,
    /// The far tier.
    pub redis: servers::Redis,
    database: MultiplexedConnection,
    /// A Redis too, but one that nothing happens to.
    database_server: servers::Redis,
}

pub struct Worker {
    child: Child,
    /// Ends it with this program, also while it is stopped.
    _watchdog: Watchdog,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    /// What it said first.
    ready: String,
}

impl Fleet {
    pub async fn start(processes: usize) -> Self {
        // Two cores, many processes: the default far timeout is for production machines.
        Self::start_with(processes, &["timeout=2000"]).await
    }

    /// HTTP services, whose addresses come with them.
    pub async fn start_web(processes: usize) -> (Self, Vec<String>) {
        let mut fleet = Self::start(0).await;
        let (far, database) = (fleet.redis.url(), fleet.database_server.url());
        for _ in 0..processes {
            fleet.workers.push(Worker::start("web-service", &far, &database, &[], &[]).await);
        }
        let addresses = fleet.workers.iter().map(|worker| worker.ready.clone()).collect();
        (fleet, addresses)
    }

    /// Options as `worker` says.
    pub async fn start_with(processes: usize, options: &[&str]) -> Self {
        Self::over(servers::Redis::start().expect("a Redis"), processes, options).await
    }

    pub async fn over(redis: servers::Redis, processes: usize, options: &[&str]) -> Self {
        let database_server = servers::Redis::start().expect("a Redis");
        let client = redis::Client::open(database_server.url()).expect("a URL");
        let database = client.get_multiplexed_async_connection().await.expect("a connection");
        let mut fleet = Self { workers: Vec::new(), redis, database, database_server };
        for _ in 0..processes {
            let far = fleet.redis.url();
            fleet.join(&far, options).await;
        }
        fleet
    }

    /// One more process, with its own way to the far tier.
    pub async fn join(&mut self, far: &str, options: &[&str]) {
        self.join_in(far, options, &[]).await;
    }

    /// One more process, in this environment.
    pub async fn join_in(&mut self, far: &str, options: &[&str], environment: &[(&str, &str)]) {
        let database = self.database_server.url();
        self.workers.push(Worker::start("worker", far, &database, options, environment).await);
    }

    /// How often the database was asked for `key`.
    pub async fn loads(&self, key: &str) -> u64 {
        self.loads_by_process(key).await.iter().sum()
    }

    /// How often by each process that did.
    pub async fn loads_by_process(&self, key: &str) -> Vec<u64> {
        self.database.clone().hvals(format!("loads:{key}")).await.expect("an answer")
    }

    /// The row of `key` has this version from now on.
    pub async fn update(&self, key: &str, version: u64) {
        let mut database = self.database.clone();
        database.set::<_, _, ()>(format!("row:{key}"), version).await.expect("an answer");
    }

    /// Every process asks for `key` by so many callers, all at one time, and all are answered: the
    /// slowest of each process in milliseconds.
    pub async fn round(&mut self, key: &str, callers: u64, load_ms: u64) -> Vec<u64> {
        for worker in &mut self.workers {
            worker.order(&format!("fetch {key} {callers} {load_ms}")).await;
        }
        let mut slowest = Vec::new();
        for worker in &mut self.workers {
            let (answered, _, ms) = worker.fetched().await;
            assert_eq!(answered, callers, "all are answered");
            slowest.push(ms);
        }
        slowest
    }

    /// How long it takes from now until one cold key is one load for all processes together.
    pub async fn shared_again(&mut self, label: &str) -> Duration {
        let begin = Instant::now();
        for round in 0.. {
            let key = format!("{label}-{round}");
            self.round(&key, 5, 20).await;
            let loads = self.loads_by_process(&key).await;
            // Flights in progress when messages flow again are closed, as they may have missed one: that
            // may cost a second load.
            assert!(loads.iter().all(|loads| *loads <= 2), "about one each: {loads:?}");
            if loads == [1] {
                break;
            }
            assert!(begin.elapsed() < Duration::from_secs(30), "each for itself: {loads:?}");
        }
        begin.elapsed()
    }

    /// How many scripts the far tier's server has run.
    pub fn scripts(&self) -> u64 {
        let statistics = self.say("INFO commandstats");
        let calls = statistics.split_once("cmdstat_evalsha:calls=").expect("scripts").1;
        calls.split(',').next().and_then(|calls| calls.parse().ok()).expect("a number")
    }

    /// What the far tier's server says to these commands.
    pub fn say(&self, commands: &str) -> String {
        servers::ask_redis(self.redis.port(), commands)
    }
}

impl Worker {
    async fn start(
        what: &str,
        far: &str,
        database: &str,
        options: &[&str],
        environment: &[(&str, &str)],
    ) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args([what, far, database])
            .args(options)
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("a process");
        let pid = child.id().expect("a process that lives");
        let watchdog = Watchdog::over(pid, None).expect("a watchdog");
        let orders = child.stdin.take().expect("standard input");
        let answers = BufReader::new(child.stdout.take().expect("standard output")).lines();
        let mut worker = Self { child, _watchdog: watchdog, orders, answers, ready: String::new() };
        worker.ready = worker.answer().await;
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

    /// The numbers of an answer that begins with this word.
    pub async fn numbers(&mut self, line: &str) -> Vec<i64> {
        let answer = self.ask(line).await;
        let mut words = answer.split(' ');
        assert_eq!(words.next(), line.split(' ').next(), "{answer}");
        words.map(|word| word.parse().expect("a number")).collect()
    }

    /// Asks for `key` by so many callers: how many were answered, the least version, the slowest in
    /// milliseconds.
    pub async fn fetch(&mut self, key: &str, callers: u64, load_ms: u64) -> (u64, u64, u64) {
        self.order(&format!("fetch {key} {callers} {load_ms}")).await;
        self.fetched().await
    }

    /// The version of `key` now, for one caller.
    pub async fn version(&mut self, key: &str) -> u64 {
        let (answered, version, _) = self.fetch(key, 1, 0).await;
        assert_eq!(answered, 1);
        version
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

    pub fn pid(&self) -> u32 {
        self.child.id().expect("a live worker")
    }
}

/// Asks again and again until the answer is right; how long that took.
pub async fn until(limit: Duration, mut right: impl AsyncFnMut() -> bool) -> Duration {
    let begin = Instant::now();
    while !right().await {
        assert!(begin.elapsed() < limit, "not within {limit:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    begin.elapsed()
}
