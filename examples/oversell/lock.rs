//! Which locks there are, the systems they live in, and how each is opened.

use std::time::Duration;

use cattleguard::{
    Fault,
    lock::{BoxLock, Lock},
};
use serde::{Deserialize, Serialize};

use crate::{Stop, args::Args, console::chain, kind, servers, shop};

/// A lock by the system that grants it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Kind {
    Memory,
    Redis,
    Postgres,
    PostgresRow,
    Mysql,
    MysqlRow,
    Zookeeper,
}

impl Kind {
    pub const ALL: [Self; 7] = [
        Self::Memory,
        Self::Redis,
        Self::Postgres,
        Self::PostgresRow,
        Self::Mysql,
        Self::MysqlRow,
        Self::Zookeeper,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Redis => "redis",
            Self::Postgres => "postgres",
            Self::PostgresRow => "postgres-row",
            Self::Mysql => "mysql",
            Self::MysqlRow => "mysql-row",
            Self::Zookeeper => "zookeeper",
        }
    }

    /// The argument that says where its system is.
    fn option(self) -> Option<&'static str> {
        match self {
            Self::Memory => None,
            Self::Redis => Some("--redis-url"),
            Self::Postgres | Self::PostgresRow => Some("--database-url"),
            Self::Mysql | Self::MysqlRow => Some("--mysql-url"),
            Self::Zookeeper => Some("--zookeeper-address"),
        }
    }

    /// The lock itself. Called once in every process.
    pub async fn open(self, at: &Addresses) -> Result<BoxLock, Fault> {
        let address = match self {
            Self::Memory => Some(String::new()),
            Self::Redis => at.redis.clone(),
            Self::Postgres | Self::PostgresRow => Some(at.database.clone()),
            Self::Mysql | Self::MysqlRow => at.mysql.clone(),
            Self::Zookeeper => at.zookeeper.clone(),
        };
        // An address is there for each lock that `Systems::start` went through.
        kind::Kind::new(self.name(), &address.unwrap_or_default()).open().await
    }
}

/// Where the systems are. Empty: not needed.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Addresses {
    /// The shop's database, with the schema of this run in front: what a lock creates there goes
    /// with the schema.
    pub database: String,
    pub redis: Option<String>,
    pub mysql: Option<String>,
    pub zookeeper: Option<String>,
}

const OPEN: Duration = Duration::from_secs(10);

/// The systems of a run. Private ones stop when this is dropped.
pub struct Systems {
    pub addresses: Addresses,
    redis: Option<servers::Redis>,
    mariadb: Option<servers::MariaDb>,
    zookeeper: Option<servers::Zookeeper>,
    _postgres: Option<servers::Postgres>,
}

impl Systems {
    /// The shop's database and nothing else, yet.
    pub async fn with_shop(args: &Args, schema: &str) -> Result<Self, Stop> {
        let (url, postgres) = match &args.database_url {
            Some(url) => (url.clone(), None),
            None => {
                let postgres = started(servers::Postgres::start).await.map_err(Stop::BadInput)?;
                (postgres.url(), Some(postgres))
            }
        };
        shop::create(&url, schema).await.map_err(|error| {
            Stop::BadInput(format!("cannot use the database of --database-url: {}", chain(&error)))
        })?;
        let addresses = Addresses {
            database: shop::within_schema(&url, schema),
            redis: args.redis_url.clone(),
            mysql: args.mysql_url.clone(),
            zookeeper: args.zookeeper_address.clone(),
        };
        let (redis, mariadb, zookeeper) = (None, None, None);
        Ok(Self { addresses, redis, mariadb, zookeeper, _postgres: postgres })
    }

    /// Starts what the lock needs and opens it once, so that a wrong address or a missing program
    /// is known before anything is measured.
    pub async fn prepare(&mut self, kind: Kind) -> Result<(), String> {
        self.start(kind).await?;
        // Opening alone may not connect yet.
        let trying = async {
            let lock = kind.open(&self.addresses).await?;
            lock.try_acquire("a first try", OPEN).await.map(drop)
        };
        let why = match tokio::time::timeout(OPEN, trying).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => chain(&error),
            Err(_) => format!("no answer within {OPEN:?}"),
        };
        Err(match kind.option() {
            Some(option) => format!("{why}; {option} says where it is"),
            None => why,
        })
    }

    async fn start(&mut self, kind: Kind) -> Result<(), String> {
        match kind {
            Kind::Redis if self.addresses.redis.is_none() => {
                let redis = started(servers::Redis::start).await?;
                self.addresses.redis = Some(redis.url());
                self.redis = Some(redis);
            }
            Kind::Mysql | Kind::MysqlRow if self.addresses.mysql.is_none() => {
                let mariadb = started(servers::MariaDb::start).await?;
                self.addresses.mysql = Some(mariadb.url());
                self.mariadb = Some(mariadb);
            }
            Kind::Zookeeper if self.addresses.zookeeper.is_none() => {
                let zookeeper = started(servers::Zookeeper::start).await?;
                self.addresses.zookeeper = Some(zookeeper.address());
                self.zookeeper = Some(zookeeper);
            }
            // In the process, or in the shop's own database, or somewhere that was given.
            _ => {}
        }
        Ok(())
    }
}

/// Starting blocks for a second or more. On a thread of its own, so that Ctrl-C is heard meanwhile;
/// the server is then stopped as soon as it is there, because nobody takes it.
async fn started<S: Send + 'static>(
    start: impl FnOnce() -> Result<S, String> + Send + 'static,
) -> Result<S, String> {
    tokio::task::spawn_blocking(start).await.map_err(|error| error.to_string())?
}
