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
//! - Whoever was told "held" hears of each way in which that ends: a lock is freed by
//!   [`Inner::free`] alone, which tells.
//! - What follows the store's word (messages, the lock's release) goes on when the caller goes away, and is
//!   waited for no longer than [`SETTLE`].

use std::{
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use futures::future::join;
use tokio::runtime::Handle;

use self::held::{Held, Load};
use super::{
    Attempt, Commit, Error, ErrorKind, Event, Far, Grant, Invalidated, Put, Record, Renewal, Token,
    Watcher,
};
use crate::{
    Clock, Entry, Version,
    lock::{self, Lease, Lock},
    notify::Notifier,
    store::{Begin, Look, Store},
};

mod held;

/// How long a waiter waits before it looks again while no messages arrive: a little at first, then ever
/// longer with the lease's age.
const FIRST_POLL: Duration = Duration::from_millis(10);
const LONGEST_POLL: Duration = Duration::from_millis(250);

/// How long an answer waits for the messages about it, and for the lock to be freed.
const SETTLE: Duration = Duration::from_millis(100);
const LOCK_TIMEOUT: Duration = Duration::from_millis(100);

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
    lock_timeout: Duration,
    held: Held,
    /// Set with the first use: it needs the pair's own type, and a runtime.
    listening: OnceLock<Arc<dyn Watcher>>,
}

impl<S, L: Lock, N: Notifier> Paired<S, L, N> {
    /// Entries in `store`, elections by `lock`, messages by `notifier`.
    pub fn new(store: S, lock: L, notifier: N) -> Self {
        let (held, listening) = (Held::default(), OnceLock::new());
        let lock_timeout = LOCK_TIMEOUT;
        Self { inner: Arc::new(Inner { store, lock, notifier, lock_timeout, held, listening }) }
    }

    /// How long one question to the lock may take; after that the load runs without it, once in each
    /// process. Default 100 ms; lengthen it where the lock alone needs more. To be called before clones
    /// are made, on which it has no effect.
    pub fn lock_timeout(mut self, timeout: Duration) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.inner) {
            inner.lock_timeout = timeout;
        }
        self
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
        fresh_for: Duration,
    ) -> Result<Attempt<V>, Error> {
        let inner = &self.inner;
        if let Some(load) = inner.held.get(token) {
            return Ok(Attempt::Granted(load.grant));
        }
        inner.listen::<V>();
        // Before the look-up, which thereby is also the re-check: a message that is sent after it
        // will be heard.
        let connected = inner.notifier.ready().await;
        // Most often a waiter was woken because there is an entry. During a pause the lock is left alone:
        // freed, it would wake all who wait, and each of them the others.
        match inner.store.look_up(name, fresh_for).await? {
            Look::Hit(entry) => return Ok(Attempt::Hit(entry)),
            Look::Paused { remaining } => return Ok(Attempt::Paused { remaining }),
            Look::Miss => {}
        }
        let asking = tokio::time::timeout(inner.lock_timeout, inner.lock.try_acquire(name, ttl));
        let lease = match asking.await {
            Ok(Ok(lock::Attempt::Granted(lease))) => Arc::new(lease),
            Ok(Ok(lock::Attempt::Held { remaining })) => {
                let remaining = if connected { remaining } else { poll(remaining, ttl) };
                return Ok(Attempt::Held { remaining });
            }
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => return Err(ErrorKind::Timeout.into()),
        };
        // Whoever was told "held" meanwhile is told when that ends, also when this future is dropped.
        let freeing = Freeing { inner: Some(inner.clone()), lease: lease.clone() };
        let fence = lease.fence();
        match inner.store.begin(name, fence, fresh_for).await? {
            Begin::Begun { minimum, failures } => {
                freeing.keep();
                let grant = Grant { fence, minimum, failures };
                inner.held.insert(token, Load { lease, grant });
                Ok(Attempt::Granted(grant))
            }
            Begin::Hit(entry) => Ok(Attempt::Hit(entry)),
            Begin::Paused { remaining } => Ok(Attempt::Paused { remaining }),
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
        let committed = if load.lease.is_lost() {
            inner.store.end(name, fence).await.map(|()| Commit::Lost)
        } else {
            inner.store.commit(name, fence, record).await
        };
        let version = match &committed {
            Ok(Commit::Stored(entry)) => Some(entry.version()),
            Ok(_) => None,
            Err(_) => {
                // It may have been carried out; the guard releases.
                inner.held.insert(token, load);
                return committed;
            }
        };
        let (this, name) = (inner.clone(), name.to_owned());
        settle(async move {
            match version {
                Some(version) => {
                    let told = this.tell(Event::Committed { name: &name, version });
                    join(told, end(&load.lease)).await;
                }
                None => this.free(&load.lease).await,
            }
        })
        .await;
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
            Err(error) => return Err(error.into()),
        };
        if renewed == Renewal::Lost {
            // A lease without a load, or a load without a lease, holds up the others.
            Far::<V>::release(self, name, token).await?;
        }
        Ok(renewed)
    }

    async fn release(&self, name: &str, token: Token) -> Result<(), Error> {
        let inner = &self.inner;
        let Some(load) = inner.held.take(token) else { return Ok(()) };
        let ended = inner.store.end(name, load.lease.fence()).await;
        let this = inner.clone();
        settle(async move { this.free(&load.lease).await }).await;
        ended
    }

    async fn fail(&self, name: &str, token: Token, pause: Duration) -> Result<(), Error> {
        let inner = &self.inner;
        let Some(load) = inner.held.take(token) else { return Ok(()) };
        let fence = load.lease.fence();
        // The word of one that lost the lock holds up nobody.
        let failed = if load.lease.is_lost() {
            inner.store.end(name, fence).await
        } else {
            inner.store.fail(name, fence, pause).await
        };
        let this = inner.clone();
        settle(async move { this.free(&load.lease).await }).await;
        failed
    }

    async fn put(&self, name: &str, record: Record<V>) -> Result<Put<V>, Error> {
        let (this, name) = (self.inner.clone(), name.to_owned());
        // On a task: once the store has it, the others are told.
        let putting = tokio::spawn(async move {
            let open = this.held.of(&name);
            let put = this.store.put(&name, record).await?;
            if let Put::Stored(entry) = &put {
                let told = this.tell(Event::Put { name: &name, version: entry.version() });
                join(told, settle(this.clone().close(open))).await;
            }
            Ok(put)
        });
        putting.await.unwrap_or_else(|_| Err(ErrorKind::Timeout.into()))
    }

    async fn invalidate(
        &self,
        name: &str,
        version: Option<Version>,
        retention: Duration,
    ) -> Result<Invalidated, Error> {
        let (this, name) = (self.inner.clone(), name.to_owned());
        // On a task: once the store has it, the others are told.
        let invalidating = tokio::spawn(async move {
            let open = this.held.of(&name);
            this.store.invalidate(&name, version, retention).await?;
            let told = this.notifier.publish(Event::Invalidated { name: &name, version });
            let (told, ()) = join(told, settle(this.clone().close(open))).await;
            // The store has it: what is not known is how many near tiers do.
            Ok(told.unwrap_or(Invalidated::Unconfirmed))
        });
        invalidating.await.unwrap_or_else(|_| Err(ErrorKind::Timeout.into()))
    }

    /// As the store says.
    async fn replicated(
        &self,
        name: &str,
        replicas: usize,
        timeout: Duration,
    ) -> Result<usize, Error> {
        self.inner.store.replicated(name, replicas, timeout).await
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
    async fn free(&self, lease: &Lease) {
        end(lease).await;
        self.tell(Event::Released { name: lease.name() }).await;
    }

    /// Frees the locks of loads that were closed for certain.
    async fn close(self: Arc<Self>, loads: Vec<(Token, u64)>) {
        for load in loads.into_iter().filter_map(|(token, _)| self.held.take(token)) {
            self.free(&load.lease).await;
        }
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
                    pair.close(vec![(token, fence)]).await;
                }
            });
        }
    }
}

/// Frees a lock that was granted and not made use of.
struct Freeing<S, L: Lock, N: Notifier>
where
    Inner<S, L, N>: Send + Sync + 'static,
{
    inner: Option<Arc<Inner<S, L, N>>>,
    lease: Arc<Lease>,
}

impl<S, L: Lock, N: Notifier> Freeing<S, L, N>
where
    Inner<S, L, N>: Send + Sync + 'static,
{
    fn keep(mut self) {
        self.inner = None;
    }
}

impl<S, L: Lock, N: Notifier> Drop for Freeing<S, L, N>
where
    Inner<S, L, N>: Send + Sync + 'static,
{
    fn drop(&mut self) {
        if let (Some(inner), Ok(runtime)) = (self.inner.take(), Handle::try_current()) {
            let lease = self.lease.clone();
            runtime.spawn(async move { inner.free(&lease).await });
        }
    }
}

async fn end(lease: &Lease) {
    if let Err(error) = lease.end().await {
        tracing::debug!(%error, "release failed; the lock is free after its ttl");
    }
}

/// Waits for work that goes on by itself.
async fn settle(work: impl Future<Output = ()> + Send + 'static) {
    // In time or not, it is done.
    let _ = tokio::time::timeout(SETTLE, tokio::spawn(work)).await;
}

/// A tenth of the lease's age, so that a short load is found soon and a long one is not asked after all
/// the time; with jitter.
fn poll(remaining: Duration, ttl: Duration) -> Duration {
    let age = ttl.saturating_sub(remaining);
    let pause = (age / 10).clamp(FIRST_POLL, LONGEST_POLL);
    pause.mul_f64(0.75 + fastrand::f64() / 2.0).min(remaining)
}
