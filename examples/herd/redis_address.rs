//! Where the processes find Redis.

use cattleguard::redis::Connection;
use serde::{Deserialize, Serialize};

use crate::{error::Failure, kind::Kind, plain_store::PlainStore};

/// The address of a Redis, of the nodes of a Cluster, or of the Sentinels that know it.
#[derive(Clone, Serialize, Deserialize)]
pub enum RedisAddress {
    Single(String),
    Cluster(Vec<String>),
    Sentinels { urls: Vec<String>, group: String },
}

impl RedisAddress {
    pub async fn connect(&self) -> Result<Connection, Failure> {
        Ok(match self {
            Self::Single(url) => Connection::open(url).await?,
            Self::Cluster(urls) => Connection::open_cluster(urls).await?,
            Self::Sentinels { urls, group } => Connection::open_sentinel(urls, group).await?,
        })
    }

    /// For the strategies that are not ours.
    pub async fn plain_store(&self) -> Result<PlainStore, Failure> {
        match self {
            Self::Single(url) => PlainStore::redis(url).await,
            Self::Cluster(urls) => PlainStore::cluster(urls).await,
            Self::Sentinels { .. } => Err("this strategy takes one address".into()),
        }
    }

    pub fn name(&self) -> &'static str {
        match self {
            Self::Cluster(_) => "cluster",
            Self::Single(_) | Self::Sentinels { .. } => "redis",
        }
    }

    /// The servers, none of which is a replica.
    pub fn nodes(&self) -> &[String] {
        match self {
            Self::Single(url) => std::slice::from_ref(url),
            Self::Cluster(urls) => urls,
            Self::Sentinels { .. } => &[],
        }
    }
}

/// A Redis, and for `cattleguard` the lock in front of it, if it is not Redis' own.
#[derive(Clone, Serialize, Deserialize)]
pub struct SharedRedis {
    pub address: RedisAddress,
    pub lock: Option<Kind>,
    /// Where the first process finds it, if not there.
    pub of_first: Option<RedisAddress>,
}

impl SharedRedis {
    pub fn at(address: RedisAddress, lock: Option<Kind>) -> Self {
        Self { address, lock, of_first: None }
    }

    /// What the process with this number is told.
    pub fn of(&self, process: u32) -> Self {
        let own = self.of_first.as_ref().filter(|_| process == 0);
        let address = own.unwrap_or(&self.address).clone();
        Self { address, lock: self.lock.clone(), of_first: None }
    }
}
