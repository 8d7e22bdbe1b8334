//! Which lock, and where: in one word, so that a worker process can be told.

use std::time::Duration;

use cattleguard::{
    lock::{self, AnyLock, Error},
    redis::Connection,
};

/// `kind@address`.
#[derive(Clone)]
pub struct Kind(pub String);

impl Kind {
    pub fn new(kind: &str, address: &str) -> Self {
        Self(format!("{kind}@{address}"))
    }

    pub fn name(&self) -> &str {
        self.0.split_once('@').expect("made by `new`").0
    }

    pub fn address(&self) -> &str {
        self.0.split_once('@').expect("made by `new`").1
    }

    /// What the system adds to the ttl before a dead holder's lock is free.
    pub fn adds(&self) -> Duration {
        match self.name() {
            // The session's timeout instead of the ttl, and the server looks now and then.
            "zookeeper" => Duration::from_millis(2500),
            // Whole seconds, and at least one.
            "mysql-session" => Duration::from_secs(1),
            _ => Duration::ZERO,
        }
    }

    /// A lock as another process would open it: nothing is shared with other locks of this kind, except
    /// for the one in memory.
    pub async fn open(&self) -> Result<AnyLock, Error> {
        let redis = async |url: &str| {
            // Two cores, many servers: the default is for production machines.
            Ok::<_, Error>(Connection::open(url).await?.timeout(Duration::from_secs(2)))
        };
        let address = self.address();
        Ok(match self.name() {
            "memory" => {
                static ONE: std::sync::LazyLock<lock::Memory> =
                    std::sync::LazyLock::new(lock::Memory::new);
                AnyLock::new(ONE.clone())
            }
            "redis" => AnyLock::new(lock::Redis::new(redis(address).await?)),
            "redis-cluster" => {
                let connection = Connection::open_cluster(address.split(',')).await?;
                AnyLock::new(lock::Redis::new(connection.timeout(Duration::from_secs(2))))
            }
            "redis-sentinel" => {
                let connection = Connection::open_sentinel(address.split(','), "m1").await?;
                AnyLock::new(lock::Redis::new(connection.timeout(Duration::from_secs(2))))
            }
            "redis-pool" => {
                let config = deadpool_redis::Config::from_url(address);
                let runtime = Some(deadpool_redis::Runtime::Tokio1);
                let pool = config.create_pool(runtime).expect("a pool");
                let connection = Connection::from_pool(pool).subscribe_at(address)?;
                AnyLock::new(lock::Redis::new(connection.timeout(Duration::from_secs(2))))
            }
            "redis-quorum" => {
                let mut servers = Vec::new();
                for url in address.split(',') {
                    let connection = Connection::open_lazy(url)?;
                    servers.push(connection.timeout(Duration::from_millis(200)));
                }
                AnyLock::new(lock::RedisQuorum::new(servers)?)
            }
            other => panic!("no such lock: {other}"),
        })
    }
}
