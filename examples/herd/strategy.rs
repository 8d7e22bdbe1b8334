//! The strategies, side by side. Each is what a careful reader of its kind of advice would write.

use std::{collections::HashMap, sync::Arc, time::Duration};

use cattleguard::{
    Guard, Loaded, Policy,
    codec::Json,
    far::{self, Memory},
    notify,
    redis::Connection,
    store,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

use crate::{
    args::Strategy,
    kind::Kind,
    origin::{Origin, Product},
    store::Store,
};

pub type Failure = Box<dyn std::error::Error + Send + Sync>;

const POLL: Duration = Duration::from_millis(50);
const LOCK_TTL: Duration = Duration::from_secs(10);

/// The shared store, as each process reaches it.
#[derive(Clone)]
pub enum Far {
    Memory { store: Store, tier: Memory<Product> },
    Redis(Shared),
}

/// A Redis, and for `cattleguard` the lock in front of it, if it is not Redis' own.
#[derive(Clone, Serialize, Deserialize)]
pub struct Shared {
    pub redis: String,
    pub lock: Option<Kind>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settings {
    pub strategy: Strategy,
    pub namespace: String,
    pub ttl_ms: u64,
}

/// One process's cache.
#[derive(Clone)]
pub struct Cache {
    kind: How,
    origin: Origin,
    namespace: String,
    ttl: Duration,
}

type Flights = Arc<Mutex<HashMap<String, Arc<OnceCell<Product>>>>>;

#[derive(Clone)]
enum How {
    None,
    CacheAside(Store),
    Local(Store, Flights),
    LockPoll(Store),
    Cattleguard(Guard<str, Product>),
}

impl Cache {
    pub async fn open(settings: &Settings, far: &Far, origin: Origin) -> Result<Self, Failure> {
        let ttl = Duration::from_millis(settings.ttl_ms);
        let store = async || match far {
            Far::Memory { store, .. } => Ok(store.clone()),
            Far::Redis(shared) => Store::redis(&shared.redis).await,
        };
        let kind = match settings.strategy {
            Strategy::None => How::None,
            Strategy::CacheAside => How::CacheAside(store().await?),
            Strategy::Local => How::Local(store().await?, Flights::default()),
            Strategy::LockPoll => How::LockPoll(store().await?),
            Strategy::Cattleguard => {
                // The defaults, but the ttl to the millisecond, as the others have it.
                let builder = Guard::builder().policy(Policy::default().ttl(ttl).jitter(0.0));
                How::Cattleguard(match far {
                    Far::Memory { tier, .. } => builder.far(tier.clone()).build(),
                    Far::Redis(shared) => {
                        let (redis, within) =
                            (Connection::open(&shared.redis).await?, &*settings.namespace);
                        match &shared.lock {
                            None => {
                                builder.far(far::Redis::new(redis, Json).namespace(within)).build()
                            }
                            Some(lock) => {
                                let store =
                                    store::Redis::new(redis.clone(), Json).namespace(within);
                                let messages = notify::Redis::new(redis).namespace(within);
                                let far = far::Paired::new(store, lock.open().await?, messages);
                                builder.far(far).build()
                            }
                        }
                    }
                })
            }
        };
        Ok(Self { kind, origin, namespace: settings.namespace.clone(), ttl })
    }

    /// The answer to one request. Entries of different rounds have different names, so each round
    /// begins cold.
    pub async fn get(&self, round: u32, id: u32) -> Result<u64, Failure> {
        let key = self.key(round, id);
        Ok(match &self.kind {
            How::None => self.origin.load(id).await?.version,
            How::CacheAside(store) => self.through(store, &key, id).await?.version,
            How::Local(store, flights) => self.flown(store, flights, &key, id).await?.version,
            How::LockPoll(store) => self.locked(store, &key, id).await?.version,
            How::Cattleguard(guard) => {
                let origin = self.origin.clone();
                let load = move || {
                    let origin = origin.clone();
                    async move {
                        let product = origin.load(id).await?;
                        let version = product.version;
                        Ok::<_, sqlx::Error>(Loaded::found(product, version))
                    }
                };
                guard.fetch(&key, load).await?.version().high()
            }
        })
    }

    /// Tells the cache that the row has a new version.
    pub async fn invalidate(&self, round: u32, id: u32, version: u64) -> Result<(), Failure> {
        let key = self.key(round, id);
        match &self.kind {
            How::None => {}
            How::CacheAside(store) | How::Local(store, _) | How::LockPoll(store) => {
                store.delete(&key).await?;
            }
            How::Cattleguard(guard) => {
                guard.invalidate_at(&key, version).await?;
            }
        }
        Ok(())
    }

    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    fn key(&self, round: u32, id: u32) -> String {
        format!("{}:{round}-{id}", self.namespace)
    }

    /// Get, load, set.
    async fn through(&self, store: &Store, key: &str, id: u32) -> Result<Product, Failure> {
        if let Some(product) = store.get(key).await? {
            return Ok(product);
        }
        let product = self.origin.load(id).await?;
        store.set(key, &product, self.ttl).await?;
        Ok(product)
    }

    async fn flown(
        &self,
        store: &Store,
        flights: &Flights,
        key: &str,
        id: u32,
    ) -> Result<Product, Failure> {
        if let Some(product) = store.get(key).await? {
            return Ok(product);
        }
        let flight = flights.lock().entry(key.to_owned()).or_default().clone();
        let product = flight.get_or_try_init(|| self.through(store, key, id)).await?.clone();
        let mut flights = flights.lock();
        if flights.get(key).is_some_and(|current| Arc::ptr_eq(current, &flight)) {
            flights.remove(key);
        }
        Ok(product)
    }

    async fn locked(&self, store: &Store, key: &str, id: u32) -> Result<Product, Failure> {
        let lock = format!("{key}:lock");
        let owner = format!("{:032x}", fastrand::u128(..));
        loop {
            if let Some(product) = store.get(key).await? {
                return Ok(product);
            }
            if store.lock(&lock, &owner, LOCK_TTL).await? {
                let product = self.through(store, key, id).await;
                store.unlock(&lock, &owner).await?;
                return product;
            }
            tokio::time::sleep(POLL).await;
        }
    }
}
