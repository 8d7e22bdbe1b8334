//! Where the processes find the far tier.

use std::time::Duration;

use cattleguard::{
    Fault,
    codec::Postcard,
    redis::{Connection, RedisFar},
};
use serde::{Deserialize, Serialize};

use crate::{error::Failure, kind::Kind, row::Row};

/// A Redis, and the lock in front of it, if that is not Redis' own.
#[derive(Clone, Serialize, Deserialize)]
pub struct Address {
    pub redis: Redis,
    pub lock: Option<Kind>,
}

#[derive(Clone, Serialize, Deserialize)]
pub enum Redis {
    Single(String),
    Sentinels { urls: Vec<String>, group: String },
    Cluster(Vec<String>),
}

/// Two cores for all processes and servers: the default is for production machines.
const FAR_TIMEOUT: Duration = Duration::from_millis(200);

impl Address {
    /// Tries until it succeeds: something may have befallen Redis.
    pub async fn open(&self) -> Result<RedisFar<Row, Postcard>, Failure> {
        let limit = tokio::time::Instant::now() + Duration::from_secs(60);
        loop {
            match self.redis.connect().await {
                Ok(connection) => {
                    let connection = connection.timeout(FAR_TIMEOUT);
                    return Ok(RedisFar::new(connection, Postcard).namespace("torture"));
                }
                Err(fault) if tokio::time::Instant::now() > limit => return Err(fault.into()),
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }
}

impl Redis {
    async fn connect(&self) -> Result<Connection, Fault> {
        match self {
            Self::Single(url) => Connection::open(url).await,
            Self::Sentinels { urls, group } => Connection::open_sentinel(urls, group).await,
            Self::Cluster(urls) => Connection::open_cluster(urls).await,
        }
    }
}
