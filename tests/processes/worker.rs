//! A process with a guard.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use cattleguard::{
    Guard, Loaded, Policy,
    codec::Json,
    redis::{Connection, RedisFar},
};
use futures::future::BoxFuture;
use redis::{AsyncCommands, aio::ConnectionManager};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    time::Instant,
};

use crate::{
    balance,
    steps::{Gate, Steps},
};

type Loading = BoxFuture<'static, redis::RedisResult<Loaded<u64>>>;

struct Worker {
    guard: Guard<str, u64>,
    origin: Origin,
    gate: Gate,
}

/// The database, and how many ask it at one time.
#[derive(Clone)]
struct Origin {
    database: ConnectionManager,
    running: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl Origin {
    /// The row's version, counted as one load of this process, that takes so long.
    async fn load(mut self, key: String, ms: u64) -> redis::RedisResult<u64> {
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(running, Ordering::SeqCst);
        let version = self.read(&key).await;
        tokio::time::sleep(Duration::from_millis(ms)).await;
        self.running.fetch_sub(1, Ordering::SeqCst);
        version
    }

    async fn read(&mut self, key: &str) -> redis::RedisResult<u64> {
        let process = std::process::id();
        self.database.hincr::<_, _, _, ()>(format!("loads:{key}"), process, 1).await?;
        Ok(self.database.get::<_, Option<u64>>(format!("row:{key}")).await?.unwrap_or(1))
    }
}

/// Options are `timeout=MS` (the far timeout), `lease=MS`, `loads=COUNT` (at one time). The far tier is a
/// URL, or `sentinel=GROUP,URL,URL…`. Lines in, lines out:
///
/// - `fetch KEY CALLERS MS` → `fetched ANSWERED LEAST-VERSION SLOWEST-MS OUTCOME`
/// - `refresh KEY CALLERS MS` → the same, of callers that want it anew
/// - `herd PREFIX KEYS CALLERS MS` → the same, of so many keys
/// - `hold KEY` → `loading` when the row was read, `landed VERSION OUTCOME` some time after `go`
/// - `step STEP KEY` → `at STEP` when its miss is there, `landed VERSION OUTCOME` some time after `go`
/// - `invalidate KEY VERSION|-` → `invalidated HOW-FAR`
/// - `confirm KEY VERSION REPLICAS MS` → `invalidated HOW-FAR`
/// - `put KEY VERSION` → `put WHAT`
/// - `peak` → `peak LOADS`, the most at one time since the last
/// - `clock` → `clock WALL-SECONDS`
/// - `sweep KEYS SECONDS`, `abandon CALLERS KEYS`, `balance` → see `balance`
pub async fn live(far: String, database: String, options: Vec<String>) {
    let option = |name: &str| {
        let values = options.iter().filter_map(|option| option.split_once('='));
        values.into_iter().find(|(key, _)| *key == name).map(|(_, value)| number(value))
    };
    let mut connection = match far.strip_prefix("sentinel=") {
        Some(group) => {
            let words: Vec<&str> = group.split(',').collect();
            Connection::open_sentinel(&words[1..], words[0]).await.expect("a connection")
        }
        None => Connection::open(&far).await.expect("a connection"),
    };
    if let Some(ms) = option("timeout") {
        connection = connection.timeout(Duration::from_millis(ms));
    }
    let mut policy = Policy::default().load_timeout(Duration::from_secs(30));
    if let Some(ms) = option("lease") {
        policy = policy.lease_ttl(Duration::from_millis(ms));
    }
    if let Some(loads) = option("loads") {
        policy = policy.max_concurrent_loads(loads as usize);
    }
    let gate = Gate::default();
    let far = Steps::new(RedisFar::new(connection, Json), gate.clone());
    let guard = Guard::builder().far(far).policy(policy).build();
    let client = redis::Client::open(database).expect("a URL");
    let database = client.get_connection_manager().await.expect("a connection");
    let origin = Origin { database, running: Arc::default(), most: Arc::default() };
    let worker = Arc::new(Worker { guard, origin, gate });
    // The subscription is there before the first order.
    let _ = worker
        .guard
        .fetch("warm", || async { Ok::<_, std::io::Error>(Loaded::unversioned(0)) })
        .await;
    println!("ready");

    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        if words[0] == "go" {
            worker.gate.go();
            continue;
        }
        let worker = worker.clone();
        tokio::spawn(async move { println!("{}", worker.obey(&words).await) });
    }
}

impl Worker {
    async fn obey(&self, words: &[String]) -> String {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words[..] {
            ["fetch", key, callers, ms] => {
                self.fetch(vec![key.to_owned()], number(callers), number(ms), false).await
            }
            ["refresh", key, callers, ms] => {
                self.fetch(vec![key.to_owned()], number(callers), number(ms), true).await
            }
            ["herd", prefix, keys, callers, ms] => {
                let keys = (0..number(keys)).map(|key| format!("{prefix}-{key}")).collect();
                self.fetch(keys, number(callers), number(ms), false).await
            }
            ["hold", key] => self.hold(key).await,
            ["step", step, key] => {
                self.gate.stop_at(step, key);
                self.landed(key, self.loader(key, 0)).await
            }
            ["invalidate", key, "-"] => {
                format!("invalidated {:?}", self.guard.invalidate(key).await)
            }
            ["invalidate", key, version] => {
                format!("invalidated {:?}", self.guard.invalidate_at(key, number(version)).await)
            }
            ["confirm", key, version, replicas, ms] => {
                let timeout = Duration::from_millis(number(ms));
                let invalidation = self.guard.invalidate_at(key, number(version));
                let replicas = number(replicas) as usize;
                format!("invalidated {:?}", invalidation.confirmed(replicas, timeout).await)
            }
            ["put", key, version] => {
                let version = number(version);
                format!("put {:?}", self.guard.put(key, Loaded::found(version, version)).await)
            }
            ["peak"] => format!("peak {}", self.origin.most.swap(0, Ordering::SeqCst)),
            ["clock"] => {
                let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
                format!("clock {}", wall.expect("after 1970").as_secs())
            }
            ["sweep", keys, seconds] => balance::sweep(number(keys), number(seconds)).await,
            ["abandon", callers, keys] => {
                balance::abandon(&self.guard, number(callers), number(keys)).await
            }
            ["balance"] => balance::now(&self.guard),
            _ => format!("unknown order {words:?}"),
        }
    }

    fn loader(&self, key: &str, ms: u64) -> impl FnMut() -> Loading + Send + use<> {
        let (origin, key) = (self.origin.clone(), key.to_owned());
        move || {
            let (origin, key) = (origin.clone(), key.clone());
            Box::pin(async move {
                let version = origin.load(key, ms).await?;
                Ok(Loaded::found(version, version))
            }) as Loading
        }
    }

    async fn fetch(&self, keys: Vec<String>, callers: u64, ms: u64, refreshes: bool) -> String {
        let mut tasks = tokio::task::JoinSet::new();
        for key in keys {
            for _ in 0..callers {
                let (guard, key, loader) = (self.guard.clone(), key.clone(), self.loader(&key, ms));
                tasks.spawn(async move {
                    let begin = Instant::now();
                    let answer = match refreshes {
                        true => guard.refresh_with(&key, loader).await,
                        false => guard.fetch(&key, loader).await,
                    };
                    (answer, begin.elapsed())
                });
            }
        }
        let (mut answered, mut least, mut slowest, mut outcome) = (0, u64::MAX, Duration::ZERO, "");
        while let Some(ended) = tasks.join_next().await {
            let (answer, took) = ended.expect("a caller");
            slowest = slowest.max(took);
            match answer {
                Ok(fetched) => {
                    answered += 1;
                    least = least.min(fetched.version().high());
                    assert_eq!(fetched.value().copied(), Some(fetched.version().high()));
                    outcome = fetched.outcome().as_str();
                }
                Err(error) => eprintln!("{error}"),
            }
        }
        format!("fetched {answered} {least} {} {outcome}", slowest.as_millis())
    }

    async fn hold(&self, key: &str) -> String {
        let (origin, gate, name) = (self.origin.clone(), self.gate.clone(), key.to_owned());
        let loader = move || {
            let (origin, gate, name) = (origin.clone(), gate.clone(), name.clone());
            Box::pin(async move {
                let version = origin.load(name, 0).await?;
                gate.hold("loading").await;
                Ok(Loaded::found(version, version))
            }) as Loading
        };
        self.landed(key, loader).await
    }

    async fn landed(&self, key: &str, loader: impl FnMut() -> Loading + Send + 'static) -> String {
        match self.guard.fetch(key, loader).await {
            Ok(fetched) => format!("landed {} {}", fetched.version(), fetched.outcome()),
            Err(error) => format!("failed {error}"),
        }
    }
}

fn number(word: &str) -> u64 {
    word.parse().expect("a number")
}
