//! The strategies, side by side. Each is what a careful reader of its kind of advice would write.

use std::{collections::HashMap, sync::Arc, time::Duration};

use cattleguard::{
    Error, FaultKind, Guard, Loaded, Outcome, Policy, codec::Json, far::Invalidated,
    memory::MemoryFar, redis::RedisFar,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

use crate::{
    args::Strategy,
    origin::{Origin, Product},
    store::Store,
    way::Shared,
};

pub type Failure = Box<dyn std::error::Error + Send + Sync>;

const POLL: Duration = Duration::from_millis(50);
const LOCK_TTL: Duration = Duration::from_secs(10);

/// The shared store, as each process reaches it.
#[derive(Clone)]
pub enum Far {
    Memory { store: Store, tier: MemoryFar<Product> },
    Redis(Shared),
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

/// The answer to a request.
pub struct Got {
    pub version: u64,
    /// Served although its time was over, and known to be.
    pub expired: bool,
}

/// For whom an invalidation holds, by what the strategy says.
pub enum Told {
    All,
    /// For this process; others have not confirmed, or could not be told.
    Own(Option<Failure>),
    Nobody(Failure),
}

/// The guard wants an error with a type.
#[derive(Debug)]
struct Refused(Failure);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Refused {}

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
            Far::Redis(shared) => shared.way.store().await,
        };
        let kind = match settings.strategy {
            Strategy::None => How::None,
            Strategy::CacheAside => How::CacheAside(store().await?),
            Strategy::Local => How::Local(store().await?, Flights::default()),
            Strategy::LockPoll => How::LockPoll(store().await?),
            Strategy::Cattleguard | Strategy::NoStale => {
                // The defaults, but the ttl to the millisecond, as the others have it.
                let mut policy = Policy::default().ttl(ttl).jitter(0.0);
                if settings.strategy == Strategy::NoStale {
                    policy = policy.grace(Duration::ZERO).stale_if_error(Duration::ZERO);
                }
                let builder = Guard::builder().policy(policy);
                How::Cattleguard(match far {
                    Far::Memory { tier, .. } => builder.far(tier.clone()).build(),
                    Far::Redis(shared) => {
                        let redis = RedisFar::new(shared.way.connect().await?, Json);
                        let redis = redis.namespace(&settings.namespace);
                        match &shared.lock {
                            None => builder.far(redis).build(),
                            Some(lock) => builder.far(redis.elected_by(lock.open().await?)).build(),
                        }
                    }
                })
            }
        };
        Ok(Self { kind, origin, namespace: settings.namespace.clone(), ttl })
    }

    /// The answer to one request. Entries of different rounds have different names, so each round
    /// begins cold.
    pub async fn get(&self, round: u32, id: u32) -> Result<Got, Failure> {
        let key = self.key(round, id);
        let product = match &self.kind {
            How::None => self.origin.load(id).await?,
            How::CacheAside(store) => self.through(store, &key, id).await?,
            How::Local(store, flights) => self.flown(store, flights, &key, id).await?,
            How::LockPoll(store) => self.locked(store, &key, id).await?,
            How::Cattleguard(guard) => {
                let origin = self.origin.clone();
                let load = move || {
                    let origin = origin.clone();
                    async move {
                        let product = origin.load(id).await.map_err(Refused)?;
                        let version = product.version;
                        Ok::<_, Refused>(Loaded::found(product, version))
                    }
                };
                let fetched = guard.fetch(&key, load).await?;
                let expired =
                    matches!(fetched.outcome(), Outcome::Stale(_) | Outcome::StaleIfError(_));
                return Ok(Got { version: fetched.version().high(), expired });
            }
        };
        Ok(Got { version: product.version, expired: false })
    }

    /// Tells the cache that the row has a new version.
    pub async fn invalidate(&self, round: u32, id: u32, version: u64) -> Told {
        let key = self.key(round, id);
        match &self.kind {
            How::None => Told::All,
            How::CacheAside(store) | How::Local(store, _) | How::LockPoll(store) => {
                store.delete(&key).await.map_or_else(Told::Nobody, |()| Told::All)
            }
            How::Cattleguard(guard) => match guard.invalidate_at(&key, version).await {
                Ok(Invalidated::Everywhere) => Told::All,
                Ok(_) => Told::Own(None),
                // Kept, and sent before this process reads there again.
                Err(Error::Far(error)) if is_outage(error.kind()) => {
                    Told::Own(Some(Error::Far(error).into()))
                }
                Err(error) => Told::Nobody(error.into()),
            },
        }
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

fn is_outage(kind: FaultKind) -> bool {
    matches!(kind, FaultKind::Unreachable | FaultKind::Timeout)
}
