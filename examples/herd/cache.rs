//! The cache of a process, by each strategy: what a careful reader of its kind of advice would write.

use std::{collections::HashMap, sync::Arc, time::Duration};

use cattleguard::{
    Error, FaultKind, Guard, Loaded, Outcome, Policy, codec::Json, far::Invalidated,
    memory::MemoryFar, redis::RedisFar,
};
use futures::{StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

use crate::{
    error::Failure,
    origin::{Origin, Product},
    plain_store::PlainStore,
    redis_address::SharedRedis,
    strategy::Strategy,
};

const POLL: Duration = Duration::from_millis(50);
const PUTS_AT_ONCE: usize = 64;
const LOCK_TTL: Duration = Duration::from_secs(10);

/// The shared store, as each process reaches it.
#[derive(Clone)]
pub enum Far {
    Memory { store: PlainStore, tier: MemoryFar<Product> },
    Redis(SharedRedis),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settings {
    pub strategy: Strategy,
    pub namespace: String,
    pub ttl_ms: u64,
    /// How many more entries have the tag of each row, if rows have one.
    pub tagged: Option<u32>,
}

impl Settings {
    /// Nothing that an earlier fleet of this run left is found by the one of this number.
    pub fn new(strategy: Strategy, number: usize, ttl_ms: u64) -> Self {
        let namespace = format!("herd-{}-{number}", std::process::id());
        Self { strategy, namespace, ttl_ms, tagged: None }
    }
}

/// One process's cache.
#[derive(Clone)]
pub struct Cache {
    inner: Inner,
    origin: Origin,
    namespace: String,
    ttl: Duration,
    has_tags: bool,
}

/// The answer to a request.
pub struct Served {
    pub version: u64,
    /// Served although its time was over, and known to be.
    pub expired: bool,
}

/// Where an invalidation holds, by what the strategy says.
pub enum Invalidation {
    Everywhere,
    /// Other processes have not confirmed, or could not be told.
    ThisProcess(Option<Failure>),
    Failed(Failure),
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
enum Inner {
    None,
    CacheAside(PlainStore),
    Local(PlainStore, Flights),
    LockPoll(PlainStore),
    Cattleguard(Guard<str, Product>),
}

impl Cache {
    pub async fn open(settings: &Settings, far: &Far, origin: Origin) -> Result<Self, Failure> {
        let ttl = Duration::from_millis(settings.ttl_ms);
        let store = async || match far {
            Far::Memory { store, .. } => Ok(store.clone()),
            Far::Redis(shared) => shared.address.plain_store().await,
        };
        let inner = match settings.strategy {
            Strategy::None => Inner::None,
            Strategy::CacheAside => Inner::CacheAside(store().await?),
            Strategy::Local => Inner::Local(store().await?, Flights::default()),
            Strategy::LockPoll => Inner::LockPoll(store().await?),
            Strategy::Cattleguard | Strategy::NoStale => {
                Inner::Cattleguard(Self::guard(settings, far).await?)
            }
        };
        let (namespace, has_tags) = (settings.namespace.clone(), settings.tagged.is_some());
        Ok(Self { inner, origin, namespace, ttl, has_tags })
    }

    /// With the defaults, but the ttl to the millisecond, as the others have it.
    async fn guard(settings: &Settings, far: &Far) -> Result<Guard<str, Product>, Failure> {
        let mut policy = Policy::default().ttl(Duration::from_millis(settings.ttl_ms)).jitter(0.0);
        if settings.strategy == Strategy::NoStale {
            policy = policy.grace(Duration::ZERO).stale_if_error(Duration::ZERO);
        }
        let builder = Guard::builder().policy(policy);
        let builder = if settings.tagged.is_some() { builder.tags() } else { builder };
        let shared = match far {
            Far::Memory { tier, .. } => return Ok(builder.far(tier.clone()).build()),
            Far::Redis(shared) => shared,
        };
        let redis = RedisFar::new(shared.address.connect().await?, Json);
        let redis = redis.namespace(&settings.namespace);
        Ok(match &shared.lock {
            None => builder.far(redis).build(),
            Some(lock) => builder.far(redis.elected_by(lock.open().await?)).build(),
        })
    }

    /// The answer to one request. Entries of different rounds have different names, so each round
    /// begins cold.
    pub async fn get(&self, round: u32, id: u32) -> Result<Served, Failure> {
        let key = self.key(round, id);
        let product = match &self.inner {
            Inner::None => self.origin.load(id).await?,
            Inner::CacheAside(store) => self.load_and_set(store, &key, id).await?,
            Inner::Local(store, flights) => self.load_once_here(store, flights, &key, id).await?,
            Inner::LockPoll(store) => self.load_under_lock(store, &key, id).await?,
            Inner::Cattleguard(guard) => {
                let (origin, tag) = (self.origin.clone(), self.has_tags.then(|| tag_of(id)));
                let load = move || {
                    let (origin, tag) = (origin.clone(), tag.clone());
                    async move {
                        let product = origin.load(id).await.map_err(Refused)?;
                        let version = product.version;
                        let loaded = Loaded::found(product, version);
                        Ok::<_, Refused>(tag.into_iter().fold(loaded, Loaded::tag))
                    }
                };
                let fetched = guard.fetch(&key, load).await?;
                let expired =
                    matches!(fetched.outcome(), Outcome::Stale(_) | Outcome::StaleIfError(_));
                return Ok(Served { version: fetched.version().high(), expired });
            }
        };
        Ok(Served { version: product.version, expired: false })
    }

    /// Tells the cache that the row has a new version.
    pub async fn invalidate(&self, round: u32, id: u32, version: u64) -> Invalidation {
        let key = self.key(round, id);
        match &self.inner {
            Inner::None => Invalidation::Everywhere,
            Inner::CacheAside(store) | Inner::Local(store, _) | Inner::LockPoll(store) => store
                .delete(&key)
                .await
                .map_or_else(Invalidation::Failed, |()| Invalidation::Everywhere),
            Inner::Cattleguard(guard) if self.has_tags => {
                reached(guard.invalidate_tag(&tag_of(id)).await)
            }
            Inner::Cattleguard(guard) => reached(guard.invalidate_at(&key, version).await),
        }
    }

    /// Stores so many more entries with the tag of a row.
    pub async fn tag_more(&self, id: u32, entries: u32) -> Result<(), Failure> {
        let Inner::Cattleguard(guard) = &self.inner else { return Ok(()) };
        let putting = (0..entries).map(async |number| {
            let key = format!("{}:tagged-{id}-{number}", self.namespace);
            let row = Loaded::found(Product { id, version: 1, description: String::new() }, 1);
            let _ = guard.put(&key, row.tag(tag_of(id))).await?;
            Ok::<_, Failure>(())
        });
        let putting = stream::iter(putting).buffer_unordered(PUTS_AT_ONCE);
        putting.try_collect().await
    }

    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    fn key(&self, round: u32, id: u32) -> String {
        format!("{}:{round}-{id}", self.namespace)
    }

    /// Get, load, set.
    async fn load_and_set(
        &self,
        store: &PlainStore,
        key: &str,
        id: u32,
    ) -> Result<Product, Failure> {
        if let Some(product) = store.get(key).await? {
            return Ok(product);
        }
        let product = self.origin.load(id).await?;
        store.set(key, &product, self.ttl).await?;
        Ok(product)
    }

    async fn load_once_here(
        &self,
        store: &PlainStore,
        flights: &Flights,
        key: &str,
        id: u32,
    ) -> Result<Product, Failure> {
        if let Some(product) = store.get(key).await? {
            return Ok(product);
        }
        let flight = flights.lock().entry(key.to_owned()).or_default().clone();
        let product = flight.get_or_try_init(|| self.load_and_set(store, key, id)).await?.clone();
        let mut flights = flights.lock();
        if flights.get(key).is_some_and(|current| Arc::ptr_eq(current, &flight)) {
            flights.remove(key);
        }
        Ok(product)
    }

    async fn load_under_lock(
        &self,
        store: &PlainStore,
        key: &str,
        id: u32,
    ) -> Result<Product, Failure> {
        let lock = format!("{key}:lock");
        let owner = format!("{:032x}", fastrand::u128(..));
        loop {
            if let Some(product) = store.get(key).await? {
                return Ok(product);
            }
            if store.lock(&lock, &owner, LOCK_TTL).await? {
                let product = self.load_and_set(store, key, id).await;
                store.unlock(&lock, &owner).await?;
                return product;
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

fn reached(invalidated: Result<Invalidated, Error>) -> Invalidation {
    match invalidated {
        Ok(Invalidated::Everywhere) => Invalidation::Everywhere,
        Ok(_) => Invalidation::ThisProcess(None),
        // Kept, and sent before this process reads there again.
        Err(Error::Far(error)) if is_outage(error.kind()) => {
            Invalidation::ThisProcess(Some(Error::Far(error).into()))
        }
        Err(error) => Invalidation::Failed(error.into()),
    }
}

fn tag_of(id: u32) -> String {
    format!("row-{id}")
}

fn is_outage(kind: FaultKind) -> bool {
    matches!(kind, FaultKind::Unreachable | FaultKind::Timeout)
}
