//! How the processes reach Redis.

use cattleguard::redis::Connection;
use serde::{Deserialize, Serialize};

use crate::{kind::Kind, store::Store, strategy::Failure};

/// The address of a Redis, or who knows it.
#[derive(Clone, Serialize, Deserialize)]
pub enum Way {
    Straight(String),
    Sentinels { urls: Vec<String>, master: String },
}

impl Way {
    pub async fn connect(&self) -> Result<Connection, Failure> {
        Ok(match self {
            Self::Straight(url) => Connection::open(url).await?,
            Self::Sentinels { urls, master } => Connection::open_sentinel(urls, master).await?,
        })
    }

    /// For the strategies that are not ours.
    pub async fn store(&self) -> Result<Store, Failure> {
        match self {
            Self::Straight(url) => Store::redis(url).await,
            Self::Sentinels { .. } => Err("this strategy takes one address".into()),
        }
    }
}

/// A Redis, and for `cattleguard` the lock in front of it, if it is not Redis' own.
#[derive(Clone, Serialize, Deserialize)]
pub struct Shared {
    pub way: Way,
    pub lock: Option<Kind>,
    /// The way of the first process, if it has one of its own.
    pub of_first: Option<Way>,
}

impl Shared {
    pub fn at(url: String, lock: Option<Kind>) -> Self {
        Self { way: Way::Straight(url), lock, of_first: None }
    }

    /// What the process with this number is told.
    pub fn of(&self, process: u32) -> Self {
        let own = self.of_first.as_ref().filter(|_| process == 0);
        Self { way: own.unwrap_or(&self.way).clone(), lock: self.lock.clone(), of_first: None }
    }
}
