//! Which lock, and where: in one word, so that a worker process can be told.
#![allow(dead_code, unreachable_pub, reason = "each includer uses a part")]

use std::{any::Any, time::Duration};

use cattleguard::{
    Fault,
    lock::BoxLock,
    memory, mysql, postgres,
    redis::{self, Connection},
    zookeeper,
};
use serde::{Deserialize, Serialize};
use sqlx::{Connection as _, Executor, PgConnection};

use crate::servers;

/// `kind@address`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Kind(pub String);

/// The servers of a lock, which stop when it is dropped.
pub type Running = Box<dyn Any + Send + Sync>;

impl Kind {
    /// Starts the servers that a lock of this kind needs, without waiting for disks.
    pub fn start(name: &str) -> Result<(Self, Running), String> {
        Self::start_servers(name, false)
    }

    /// Starts them as they are in production: what was acknowledged is on the disk.
    pub fn start_synced(name: &str) -> Result<(Self, Running), String> {
        Self::start_servers(name, true)
    }

    fn start_servers(name: &str, synced: bool) -> Result<(Self, Running), String> {
        let on = |option| if synced { vec![option] } else { vec![] };
        let postgres = on("fsync=on");
        let zookeeper = on("-Dzookeeper.forceSync=yes");
        let mariadb = if synced {
            vec!["--innodb-flush-method=fsync", "--innodb-flush-log-at-trx-commit=1"]
        } else {
            vec![]
        };
        let (address, running): (String, Running) = match name {
            "memory" => (String::new(), Box::new(())),
            "redis" | "redis-pool" => {
                let redis = servers::Redis::start()?;
                (redis.url(), Box::new(redis))
            }
            "redis-cluster" => {
                let cluster = servers::RedisCluster::start()?;
                (cluster.urls().join(","), Box::new(cluster))
            }
            "redis-quorum" => {
                let three = (0..3).map(|_| servers::Redis::start());
                let three = three.collect::<Result<Vec<_>, _>>()?;
                let urls: Vec<_> = three.iter().map(servers::Redis::url).collect();
                (urls.join(","), Box::new(three))
            }
            "redis-sentinel" => {
                let group = servers::RedisSentinel::start()?;
                (group.sentinel_urls().join(","), Box::new(group))
            }
            "postgres" | "postgres-row" | "postgres-row-unlogged" => {
                let postgres = servers::Postgres::start_with(&postgres)?;
                (postgres.url(), Box::new(postgres))
            }
            "mysql" | "mysql-row" => {
                let mariadb = servers::MariaDb::start_with(&mariadb)?;
                (mariadb.url(), Box::new(mariadb))
            }
            "zookeeper" => {
                let zookeeper = servers::Zookeeper::start_with(&zookeeper)?;
                (zookeeper.address(), Box::new(zookeeper))
            }
            "zookeeper-3" => {
                let ensemble = servers::ZookeeperEnsemble::start_with(&zookeeper)?;
                (ensemble.addresses(), Box::new(ensemble))
            }
            other => return Err(format!("there is no lock named {other}")),
        };
        Ok((Self::new(name, &address), running))
    }

    pub fn new(kind: &str, address: &str) -> Self {
        Self(format!("{kind}@{address}"))
    }

    pub fn name(&self) -> &str {
        self.0.split_once('@').expect("made by `new`").0
    }

    pub fn address(&self) -> &str {
        self.0.split_once('@').expect("made by `new`").1
    }

    /// A lock as another process would open it: nothing is shared with other locks of this kind, except
    /// for the one in memory.
    pub async fn open(&self) -> Result<BoxLock, Fault> {
        let redis = async |url: &str| {
            // Two cores, many servers: the default is for production machines.
            Ok::<_, Fault>(Connection::open(url).await?.timeout(Duration::from_secs(2)))
        };
        let address = self.address();
        // Of two cores, which the servers share.
        let patient = Duration::from_secs(5);
        let postgres = |url| Ok::<_, Fault>(postgres::Pool::open(url)?.timeout(patient));
        let mysql = |url| Ok::<_, Fault>(mysql::Pool::open(url)?.timeout(patient));
        Ok(match self.name() {
            "memory" => {
                static ONE: std::sync::LazyLock<memory::MemoryLock> =
                    std::sync::LazyLock::new(memory::MemoryLock::new);
                BoxLock::new(ONE.clone())
            }
            "redis" => BoxLock::new(redis::RedisLock::new(redis(address).await?)),
            "redis-cluster" => {
                let connection = Connection::open_cluster(address.split(',')).await?;
                BoxLock::new(redis::RedisLock::new(connection.timeout(Duration::from_secs(2))))
            }
            "redis-sentinel" => {
                let connection = Connection::open_sentinel(address.split(','), "m1").await?;
                BoxLock::new(redis::RedisLock::new(connection.timeout(Duration::from_secs(2))))
            }
            "redis-pool" => {
                let config = deadpool_redis::Config::from_url(address);
                let runtime = Some(deadpool_redis::Runtime::Tokio1);
                let pool = config.create_pool(runtime).expect("a pool");
                let connection = Connection::from_pool(pool).subscribe_at(address)?;
                BoxLock::new(redis::RedisLock::new(connection.timeout(Duration::from_secs(2))))
            }
            "redis-quorum" => {
                let mut servers = Vec::new();
                for url in address.split(',') {
                    let connection = Connection::open_lazy(url)?;
                    servers.push(connection.timeout(Duration::from_millis(200)));
                }
                BoxLock::new(redis::RedisQuorumLock::new(servers)?)
            }
            "postgres" => BoxLock::new(postgres::PostgresSessionLock::new(postgres(address)?)),
            "postgres-row" => {
                let lock = postgres::PostgresRowLock::new(postgres(address)?);
                lock.create_table().await?;
                BoxLock::new(lock)
            }
            "postgres-row-unlogged" => {
                let lock = postgres::PostgresRowLock::new(postgres(address)?);
                lock.create_table().await?;
                let mut admin = PgConnection::connect(address).await.expect("a connection");
                let unlogged = "ALTER TABLE cattleguard_lock SET UNLOGGED";
                admin.execute(unlogged).await.expect("an answer");
                BoxLock::new(lock)
            }
            "mysql" => BoxLock::new(mysql::MysqlSessionLock::new(mysql(address)?)),
            "mysql-row" => {
                let lock = mysql::MysqlRowLock::new(mysql(address)?);
                lock.create_table().await?;
                BoxLock::new(lock)
            }
            "zookeeper" | "zookeeper-3" => {
                // Short, so that tests of its end are; the default is 4 s.
                let session = zookeeper::Session::open_lazy(address)?;
                let session = session.session_timeout(Duration::from_secs(2));
                BoxLock::new(zookeeper::ZookeeperLock::new(session))
            }
            other => panic!("no such lock: {other}"),
        })
    }
}
