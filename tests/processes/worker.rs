//! A process with a guard.

use std::{sync::Arc, time::Duration};

use cattleguard::{Guard, Loaded, Policy, codec::Json, far, redis::Connection};
use redis::{AsyncCommands, aio::ConnectionManager};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    sync::Notify,
    time::Instant,
};

struct Worker {
    guard: Guard<str, u64>,
    database: ConnectionManager,
    go: Arc<Notify>,
}

/// The row's version, counted as one load.
async fn load(database: ConnectionManager, key: String) -> redis::RedisResult<u64> {
    let mut database = database;
    database.incr::<_, _, ()>(format!("loads:{key}"), 1).await?;
    Ok(database.get::<_, Option<u64>>(format!("row:{key}")).await?.unwrap_or(1))
}

/// Lines in, lines out:
///
/// - `fetch KEY CALLERS MS` → `fetched ANSWERED LEAST-VERSION SLOWEST-MS OUTCOME`
/// - `hold KEY` → `loading` when the row was read, `landed VERSION OUTCOME` some time after `go`
/// - `invalidate KEY VERSION|-` → `invalidated HOW-FAR`
/// - `put KEY VERSION` → `put WHAT`
pub async fn live(url: String) {
    let connection = Connection::open(&url).await.expect("a connection");
    // Two cores, many processes: the default far timeout is for production machines.
    let connection = connection.timeout(Duration::from_secs(2));
    let policy = Policy::default().load_timeout(Duration::from_secs(30));
    let guard = Guard::builder().far(far::Redis::new(connection, Json)).policy(policy).build();
    let client = redis::Client::open(url).expect("a URL");
    let database = client.get_connection_manager().await.expect("a connection");
    let worker = Arc::new(Worker { guard, database, go: Arc::default() });
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
            worker.go.notify_one();
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
            ["fetch", key, callers, ms] => self.fetch(key, number(callers), number(ms)).await,
            ["hold", key] => self.hold(key).await,
            ["invalidate", key, "-"] => {
                format!("invalidated {:?}", self.guard.invalidate(key).await)
            }
            ["invalidate", key, version] => {
                format!("invalidated {:?}", self.guard.invalidate_at(key, number(version)).await)
            }
            ["put", key, version] => {
                let version = number(version);
                format!("put {:?}", self.guard.put(key, Loaded::found(version, version)).await)
            }
            _ => format!("unknown order {words:?}"),
        }
    }

    async fn fetch(&self, key: &str, callers: u64, ms: u64) -> String {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..callers {
            let (guard, database, key) =
                (self.guard.clone(), self.database.clone(), key.to_owned());
            tasks.spawn(async move {
                let begin = Instant::now();
                let loader = {
                    let key = key.clone();
                    move || {
                        let (database, key) = (database.clone(), key.clone());
                        async move {
                            let version = load(database, key).await?;
                            tokio::time::sleep(Duration::from_millis(ms)).await;
                            Ok::<_, redis::RedisError>(Loaded::found(version, version))
                        }
                    }
                };
                let answer = guard.fetch(&key, loader).await;
                (answer, begin.elapsed())
            });
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
        let (database, go, name) = (self.database.clone(), self.go.clone(), key.to_owned());
        let loader = move || {
            let (database, go, name) = (database.clone(), go.clone(), name.clone());
            async move {
                let version = load(database, name).await?;
                println!("loading");
                go.notified().await;
                Ok::<_, redis::RedisError>(Loaded::found(version, version))
            }
        };
        match self.guard.fetch(key, loader).await {
            Ok(fetched) => format!("landed {} {}", fetched.version(), fetched.outcome()),
            Err(error) => format!("failed {error}"),
        }
    }
}

fn number(word: &str) -> u64 {
    word.parse().expect("a number")
}
