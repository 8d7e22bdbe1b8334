//! A far tier from three parts that know nothing of each other: a [`Store`], a [`Lock`] and a
//! [`Notifier`].
//!
//! - The lock elects who loads; its fencing token opens the load at the store. What the lock promises is
//!   only that there is one load: whether a load may be written is the store's word alone, so a
//!   holder that lost the lock, or was overtaken by an invalidation, writes nothing.
//! - A miss costs the process that loads: read, read, lock, begin, commit, publish, unlock. A waiter:
//!   read, read, lock, and one read when it is woken.
//! - An invalidation closes the load at the store at once. The lock is freed when its holder hears of
//!   it: at once in this process, by message in another, and with the next renewal otherwise.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use futures::future::join;
use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::{
    Attempt, Commit, Error, ErrorKind, Event, Far, Grant, Invalidated, Put, Record, Renewal, Token,
    Watcher,
};
use crate::{
    Clock, Entry, Version,
    entry::Age,
    lock::{self, Lease, Lock},
    notify::Notifier,
    store::{Begin, Store},
};

/// How long a waiter waits before it looks again while no messages arrive: a little at first, then ever
/// longer with the lease's age.
const FIRST_POLL: Duration = Duration::from_millis(10);
const LONGEST_POLL: Duration = Duration::from_millis(250);

/// A far tier that keeps entries in one system and elects by another: a ZooKeeper or PostgreSQL lock
/// before a Redis store, for a service that trusts that lock more, or has it already.
///
/// What holds depends on the parts: [`Lock`]'s implementers say what they promise. Never two values out
/// of order, whatever the lock does: the [`Store`] refuses fencing tokens of the past. Clones share all
/// three.
///
/// ```
/// use cattleguard::{Guard, far, lock, notify, store};
///
/// let far = far::Paired::new(store::Memory::new(), lock::Memory::new(), notify::Memory::new());
/// let users: Guard<u64, String> = Guard::builder().far(far).build();
/// ```
pub struct Paired<S, L, N> {
    inner: Arc<Inner<S, L, N>>,
}

struct Inner<S, L, N> {
    store: S,
    lock: L,
    notifier: N,
    held: Held,
    /// Set with the first use: it needs the pair's own type, and a runtime.
    listening: OnceLock<Arc<dyn Watcher>>,
}

/// The leases of this process' loads.
#[derive(Default)]
struct Held {
    by_token: Mutex<HashMap<Token, Load>>,
}

struct Load {
    lease: Arc<Lease>,
    minimum: Version,
}

impl<S, L: Lock, N: Notifier> Paired<S, L, N> {
    /// Entries in `store`, elections by `lock`, messages by `notifier`.
    pub fn new(store: S, lock: L, notifier: N) -> Self {
        let (held, listening) = (Held::default(), OnceLock::new());
        Self { inner: Arc::new(Inner { store, lock, notifier, held, listening }) }
    }
}

impl<S, L, N> Clone for Paired<S, L, N> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<V, S, L, N> Far<V> for Paired<S, L, N>
where
    V: Send + Sync + 'static,
    S: Store<V>,
    L: Lock,
    N: Notifier,
{
    fn clock(&self) -> &Clock {
        self.inner.store.clock()
    }

    async fn read(&self, name: &str) -> Result<Option<Arc<Entry<V>>>, Error> {
        self.inner.notifier.start();
        self.inner.store.get(name).await
    }

    async fn look_up_or_lease(
        &self,
        name: &str,
        token: Token,
        ttl: Duration,
    ) -> Result<Attempt<V>, Error> {
        let inner = &self.inner;
        if let Some(load) = inner.held.get(token) {
            return Ok(Attempt::Granted(Grant {
                fence: load.lease.fence(),
                minimum: load.minimum,
            }));
        }
        inner.listen::<V>();
        // Before the look-up, which thereby is also the re-check: a message that is sent after it
        // will be heard.
        let connected = inner.notifier.ready().await;
        // Most often a waiter was woken because there is one.
        if let Some(entry) = inner.store.get(name).await?
            && entry.age(inner.store.clock().now(), Duration::ZERO) == Age::Fresh
        {
            return Ok(Attempt::Hit(entry));
        }
        let lease = match inner.lock.try_acquire(name, ttl).await.map_err(typed)? {
            lock::Attempt::Granted(lease) => lease,
            lock::Attempt::Held { remaining } => {
                let remaining = if connected { remaining } else { poll(remaining, ttl) };
                return Ok(Attempt::Held { remaining });
            }
        };
        // From here on a dropped future drops the lease, which frees the lock.
        match inner.store.begin(name, lease.fence()).await? {
            Begin::Begun { minimum } => {
                let fence = lease.fence();
                inner.held.insert(token, Load { lease: Arc::new(lease), minimum });
                Ok(Attempt::Granted(Grant { fence, minimum }))
            }
            Begin::Hit(entry) => {
                // Whoever was told "held" meanwhile is told when that ends.
                inner.clone().free_later(lease);
                Ok(Attempt::Hit(entry))
            }
            Begin::Fenced => Err(Error::new(
                ErrorKind::Refused,
                "the store knows a greater fencing token than the lock's: was the lock's data lost?",
            )),
        }
    }

    async fn commit(
        &self,
        name: &str,
        token: Token,
        record: Record<V>,
    ) -> Result<Commit<V>, Error> {
        let inner = &self.inner;
        let Some(load) = inner.held.take(token) else { return Ok(Commit::Lost) };
        let fence = load.lease.fence();
        if load.lease.is_lost() {
            inner.store.end(name, fence).await?;
            return Ok(Commit::Lost);
        }
        let committed = inner.store.commit(name, fence, record).await;
        match &committed {
            Ok(Commit::Stored(entry)) => {
                let event = Event::Committed { name, version: entry.version() };
                join(inner.tell(event), free(load.lease)).await;
            }
            Ok(_) => inner.free(load.lease).await,
            // It may have been carried out; the guard releases.
            Err(_) => inner.held.insert(token, load),
        }
        committed
    }

    async fn renew(&self, name: &str, token: Token, ttl: Duration) -> Result<Renewal, Error> {
        let inner = &self.inner;
        let Some(load) = inner.held.get(token) else { return Ok(Renewal::Lost) };
        let fence = load.lease.fence();
        let (renewed, open) = join(load.lease.renew_for(ttl), inner.store.check(name, fence)).await;
        let renewed = match renewed {
            Ok(()) => open?,
            Err(error) if error.kind() == lock::ErrorKind::Lost => Renewal::Lost,
            Err(error) => return Err(typed(error)),
        };
        if renewed == Renewal::Lost {
            // A lease without a load holds up the others.
            inner.held.take(token);
        }
        Ok(renewed)
    }

    async fn release(&self, name: &str, token: Token) -> Result<(), Error> {
        let inner = &self.inner;
        let Some(load) = inner.held.take(token) else { return Ok(()) };
        let ended = inner.store.end(name, load.lease.fence()).await;
        inner.free(load.lease).await;
        ended
    }

    async fn put(&self, name: &str, record: Record<V>) -> Result<Put<V>, Error> {
        let put = self.inner.store.put(name, record).await?;
        if let Put::Stored(entry) = &put {
            self.inner.held.free_all(name).await;
            self.inner.tell(Event::Put { name, version: entry.version() }).await;
        }
        Ok(put)
    }

    async fn invalidate(
        &self,
        name: &str,
        version: Option<Version>,
        retention: Duration,
    ) -> Result<Invalidated, Error> {
        let inner = &self.inner;
        inner.store.invalidate(name, version, retention).await?;
        inner.held.free_all(name).await;
        let published = inner.notifier.publish(Event::Invalidated { name, version }).await;
        // The store has it: what is not known is how many near tiers do.
        Ok(published.unwrap_or(Invalidated::Unconfirmed))
    }

    fn watch(&self, watcher: Weak<dyn Watcher>) {
        self.inner.notifier.watch(watcher);
    }
}

impl<S, L: Lock, N: Notifier> Inner<S, L, N> {
    async fn tell(&self, event: Event<'_>) {
        if let Err(error) = self.notifier.publish(event).await {
            tracing::debug!(%error, "message not sent; waiters look for themselves");
        }
    }

    /// Frees the lock, then says so.
    async fn free(&self, lease: Arc<Lease>) {
        let name = lease.name().to_owned();
        free(lease).await;
        self.tell(Event::Released { name: &name }).await;
    }

    fn free_later(self: Arc<Self>, lease: Lease)
    where
        S: Send + Sync + 'static,
    {
        tokio::spawn(async move { self.free(Arc::new(lease)).await });
    }

    /// Hears of invalidations by others, so that a lock whose load was closed is freed.
    fn listen<V>(self: &Arc<Self>)
    where
        V: Send + Sync + 'static,
        S: Store<V>,
    {
        self.listening.get_or_init(|| {
            let pair = Arc::downgrade(self);
            let listening: Arc<dyn Watcher> = Arc::new(Listening::<S, L, N, V> {
                pair,
                runtime: Handle::current(),
                value: std::marker::PhantomData,
            });
            self.notifier.watch(Arc::downgrade(&listening));
            listening
        });
    }
}

struct Listening<S, L, N, V> {
    pair: Weak<Inner<S, L, N>>,
    runtime: Handle,
    value: std::marker::PhantomData<fn() -> V>,
}

impl<S: Store<V>, L: Lock, N: Notifier, V: Send + Sync + 'static> Watcher
    for Listening<S, L, N, V>
{
    fn on_event(&self, event: Event<'_>) {
        let (Event::Invalidated { name, .. } | Event::Put { name, .. }) = event else { return };
        let Some(pair) = self.pair.upgrade() else { return };
        for (token, fence) in pair.held.of(name) {
            let (pair, name) = (pair.clone(), name.to_owned());
            // The message may be older than the load: the store knows.
            self.runtime.spawn(async move {
                let open = pair.store.check(&name, fence).await;
                if matches!(open, Ok(Renewal::Lost)) {
                    pair.held.take(token);
                }
            });
        }
    }
}

impl Held {
    fn get(&self, token: Token) -> Option<Load> {
        let held = self.by_token.lock();
        held.get(&token).map(|load| Load { lease: load.lease.clone(), minimum: load.minimum })
    }

    fn insert(&self, token: Token, load: Load) {
        self.by_token.lock().insert(token, load);
    }

    fn take(&self, token: Token) -> Option<Load> {
        self.by_token.lock().remove(&token)
    }

    /// The fencing tokens of the loads of a name.
    fn of(&self, name: &str) -> Vec<(Token, u64)> {
        let held = self.by_token.lock();
        let of_name = held.iter().filter(|(_, load)| load.lease.name() == name);
        of_name.map(|(token, load)| (*token, load.lease.fence())).collect()
    }

    /// Frees the locks of loads that are closed for certain.
    async fn free_all(&self, name: &str) {
        let loads = self.of(name).into_iter().filter_map(|(token, _)| self.take(token));
        for load in loads.collect::<Vec<_>>() {
            free(load.lease).await;
        }
    }
}

/// Whoever else still looks at the lease frees the lock by dropping it.
async fn free(lease: Arc<Lease>) {
    if let Some(lease) = Arc::into_inner(lease)
        && let Err(error) = lease.release().await
    {
        tracing::debug!(%error, "release failed; the lock is free after its ttl");
    }
}

/// A tenth of the lease's age, so that a short load is found soon and a long one is not asked after all
/// the time; with jitter.
fn poll(remaining: Duration, ttl: Duration) -> Duration {
    let age = ttl.saturating_sub(remaining);
    let pause = (age / 10).clamp(FIRST_POLL, LONGEST_POLL);
    pause.mul_f64(0.75 + fastrand::f64() / 2.0).min(remaining)
}

pub(crate) fn typed(error: lock::Error) -> Error {
    let kind = match error.kind() {
        lock::ErrorKind::Config => ErrorKind::Config,
        lock::ErrorKind::Unreachable => ErrorKind::Unreachable,
        lock::ErrorKind::Timeout => ErrorKind::Timeout,
        _ => ErrorKind::Refused,
    };
    Error::new(kind, error)
}
