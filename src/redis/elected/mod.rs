//! Redis keeps the entries and carries the messages; a lock of another system elects who loads.
//!
//! - A *load* begins at its record with the lock's fencing token and stays *open* until it is committed,
//!   ended, overtaken by a greater token, or revoked by a put or an invalidation. Only the open load may
//!   write, so a holder that lost the lock without knowing, or was overtaken by an invalidation, writes
//!   nothing. The lock promises only that there is one load.
//! - A miss costs the process that loads: read, look up, lock, open, commit, publish, unlock. A waiter:
//!   read, look up, lock, and one look-up when it is notified.
//! - An invalidation closes the open load at once. The lock is freed when its holder hears of it: at once in
//!   this process, by message in another, and with the next renewal otherwise.
//! - Every caller that was told "held" hears of each way in which that ends: a lock is freed by
//!   [`Inner::free`] alone, which publishes.
//! - What follows the record's answer (messages, the lock's release) goes on when the caller goes away, and
//!   is waited for no longer than [`SETTLE`].

use std::{
    fmt,
    marker::PhantomData,
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use futures::future::join;
use tokio::runtime::Handle;

use self::open::{OpenLoad, OpenLoads};
use super::{
    connection::Connection,
    messages::Messages,
    namespace::Namespace,
    records::{BY_LOCK, LookUp, Opened, Records, malformed},
};
use crate::{
    Clock, Entry, Fault, FaultKind, Version,
    codec::Codec,
    far::{Attempt, Commit, Event, Far, Grant, Invalidated, Put, Record, Renewal, Token, Watcher},
    lock::{self, Lease, Lock},
};

mod open;

/// How long a waiter waits before it looks again while no messages arrive: a little at first, then ever
/// longer with the lease's age.
const FIRST_POLL: Duration = Duration::from_millis(10);
const LONGEST_POLL: Duration = Duration::from_millis(250);

/// How long an answer waits for the messages about it, and for the lock to be freed.
const SETTLE: Duration = Duration::from_millis(100);
const LOCK_TIMEOUT: Duration = Duration::from_millis(100);

/// How long Redis remembers a load that was neither committed nor ended: its process is dead.
const FORGOTTEN: Duration = Duration::from_secs(600);

/// A far tier on Redis that lets a lock of another system elect who loads, for a service that trusts that
/// lock more or has it already. Made by [`RedisFar::elected_by`](super::RedisFar::elected_by).
///
/// [`Lock`]'s implementers say what their election promises. Whatever the lock does, values never go out of
/// order: the record refuses fencing tokens of the past. A load that takes longer than ten minutes is not
/// stored. Keys are `cgs:{namespace:name}`. Clones share connection, subscription and lock.
pub struct ElectedFar<V, C, L> {
    inner: Arc<Inner<C, L>>,
    value: PhantomData<fn() -> V>,
}

struct Inner<C, L> {
    records: Records<C>,
    messages: Messages,
    lock: L,
    lock_timeout: Duration,
    open: OpenLoads,
    /// Set with the first use, which is inside a runtime.
    listening: OnceLock<Arc<dyn Watcher>>,
}

impl<V, C: Codec<V>, L: Lock> ElectedFar<V, C, L> {
    pub(super) fn new(connection: Connection, codec: C, namespace: &str, lock: L) -> Self {
        let keys = Namespace::new("cgs", namespace);
        let messages = Messages::new(connection.clone(), &keys);
        // No channel: what the scripts do is told after the lock is free.
        let records = Records::new(connection, codec, keys, String::new(), &BY_LOCK);
        let inner = Inner {
            records,
            messages,
            lock,
            lock_timeout: LOCK_TIMEOUT,
            open: OpenLoads::default(),
            listening: OnceLock::new(),
        };
        Self { inner: Arc::new(inner), value: PhantomData }
    }

    /// How long one question to the lock may take; after that each process loads without it, once. Default
    /// 100 ms; lengthen it where the lock alone needs more. To be called before clones are made, on which it
    /// has no effect.
    pub fn lock_timeout(mut self, timeout: Duration) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.inner) {
            inner.lock_timeout = timeout;
        }
        self
    }
}

impl<V, C, L> Clone for ElectedFar<V, C, L> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), value: PhantomData }
    }
}

impl<V, C, L> fmt::Debug for ElectedFar<V, C, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ElectedFar")
            .field("connection", &self.inner.records.connection)
            .field("lock_timeout", &self.inner.lock_timeout)
            .finish_non_exhaustive()
    }
}

impl<V, C, L> Far<V> for ElectedFar<V, C, L>
where
    V: Send + Sync + 'static,
    C: Codec<V>,
    L: Lock,
{
    fn clock(&self) -> &Clock {
        self.inner.records.clock()
    }

    async fn read(&self, name: &str) -> Result<Option<Arc<Entry<V>>>, Fault> {
        self.inner.messages.start();
        self.inner.records.get(name).await
    }

    async fn look_up_or_lease(
        &self,
        name: &str,
        token: Token,
        ttl: Duration,
        fresh_for: Duration,
    ) -> Result<Attempt<V>, Fault> {
        let inner = &self.inner;
        if let Some(load) = inner.open.get(token) {
            return Ok(Attempt::Granted(load.grant));
        }
        inner.listen();
        // Before the look-up, which thereby is also the re-check: a message that is sent after it
        // will be heard.
        let connected = inner.messages.ready().await;
        // Most often a waiter was notified because there is an entry. During a back-off the lock is left
        // alone: freed, it would notify all who wait, and each of them the others.
        match inner.records.look_up(name, fresh_for).await? {
            LookUp::Hit(entry) => return Ok(Attempt::Hit(entry)),
            LookUp::BackOff { remaining } => return Ok(Attempt::BackOff { remaining }),
            LookUp::Miss => {}
        }
        match inner.elect(name, ttl).await? {
            lock::Attempt::Granted(lease) => inner.begin(name, token, lease, fresh_for).await,
            lock::Attempt::Held { remaining } => {
                let remaining = if connected { remaining } else { poll(remaining, ttl) };
                Ok(Attempt::Held { remaining })
            }
        }
    }

    async fn commit(
        &self,
        name: &str,
        token: Token,
        record: Record<V>,
    ) -> Result<Commit<V>, Fault> {
        let inner = &self.inner;
        let Some(load) = inner.open.take(token) else { return Ok(Commit::Lost) };
        let committed = if load.lease.is_lost() {
            inner.end(name, &load).await.map(|()| Commit::Lost)
        } else {
            inner.records.commit(name, load.record_token(), record).await
        };
        let version = match &committed {
            Ok(Commit::Stored(entry)) => Some(entry.version()),
            Ok(_) => None,
            Err(_) => {
                // It may have been carried out; the guard releases.
                inner.open.insert(token, load);
                return committed;
            }
        };
        let (this, name) = (inner.clone(), name.to_owned());
        settle(async move {
            match version {
                Some(version) => {
                    let told = this.publish(Event::Committed { name: &name, version });
                    join(told, unlock(&load.lease)).await;
                }
                None => this.free(&load.lease).await,
            }
        })
        .await;
        committed
    }

    async fn renew(&self, name: &str, token: Token, ttl: Duration) -> Result<Renewal, Fault> {
        let inner = &self.inner;
        let Some(load) = inner.open.get(token) else { return Ok(Renewal::Lost) };
        let (renewed, open) = join(load.lease.renew_for(ttl), inner.check(name, &load)).await;
        let renewed = match renewed {
            Ok(()) => open?,
            Err(fault) if fault.kind() == FaultKind::Lost => Renewal::Lost,
            Err(fault) => return Err(fault),
        };
        if renewed == Renewal::Lost {
            // A lease without a load, or a load without a lease, holds up the others.
            self.release(name, token).await?;
        }
        Ok(renewed)
    }

    async fn release(&self, name: &str, token: Token) -> Result<(), Fault> {
        let inner = &self.inner;
        let Some(load) = inner.open.take(token) else { return Ok(()) };
        let ended = inner.end(name, &load).await;
        let this = inner.clone();
        settle(async move { this.free(&load.lease).await }).await;
        ended
    }

    async fn fail(&self, name: &str, token: Token, back_off: Duration) -> Result<(), Fault> {
        let inner = &self.inner;
        let Some(load) = inner.open.take(token) else { return Ok(()) };
        // A holder that lost the lock makes nobody back off.
        let failed = if load.lease.is_lost() {
            inner.end(name, &load).await
        } else {
            inner.records.fail(name, load.record_token(), back_off).await
        };
        let this = inner.clone();
        settle(async move { this.free(&load.lease).await }).await;
        failed
    }

    async fn put(&self, name: &str, record: Record<V>) -> Result<Put<V>, Fault> {
        let (this, name) = (self.inner.clone(), name.to_owned());
        // On a task: once Redis has it, the others are told.
        let putting = tokio::spawn(async move {
            let open = this.open.of(&name);
            let put = this.records.put(&name, record).await?;
            if let Put::Stored(entry) = &put {
                let told = this.publish(Event::Put { name: &name, version: entry.version() });
                join(told, settle(this.clone().close(open))).await;
            }
            Ok(put)
        });
        putting.await.unwrap_or_else(|_| Err(FaultKind::Timeout.into()))
    }

    /// Waits, up to the far timeout, until every subscribed process has confirmed. In a Cluster
    /// the number of subscribers is not known, and the answer is always
    /// [`Invalidated::Unconfirmed`].
    async fn invalidate(
        &self,
        name: &str,
        version: Option<Version>,
        retention: Duration,
    ) -> Result<Invalidated, Fault> {
        let (this, name) = (self.inner.clone(), name.to_owned());
        // On a task: once Redis has it, the others are told.
        let invalidating = tokio::spawn(async move {
            let open = this.open.of(&name);
            this.records.invalidate(&name, version, retention, Vec::new()).await?;
            let told = this.messages.publish(Event::Invalidated { name: &name, version });
            let (told, ()) = join(told, settle(this.clone().close(open))).await;
            // Redis has it: what is not known is how many near tiers do.
            Ok(told.unwrap_or(Invalidated::Unconfirmed))
        });
        invalidating.await.unwrap_or_else(|_| Err(FaultKind::Timeout.into()))
    }

    /// One command for every 512 names. In a Cluster one for each name: they are in different slots.
    async fn read_many(&self, names: &[&str]) -> Vec<Result<Option<Arc<Entry<V>>>, Fault>> {
        self.inner.messages.start();
        self.inner.records.get_many(names).await
    }

    /// As [`RedisFar`](super::RedisFar) does.
    async fn replicated(
        &self,
        name: &str,
        replicas: usize,
        timeout: Duration,
    ) -> Result<usize, Fault> {
        self.inner.records.replicated(name, replicas, timeout).await
    }

    fn watch(&self, watcher: Weak<dyn Watcher>) {
        self.inner.messages.watch(watcher);
    }
}

impl<C: Send + Sync + 'static, L: Lock> Inner<C, L> {
    /// One attempt at the lock.
    async fn elect(&self, name: &str, ttl: Duration) -> Result<lock::Attempt, Fault> {
        let asking = tokio::time::timeout(self.lock_timeout, self.lock.try_acquire(name, ttl));
        asking.await.unwrap_or_else(|_| Err(FaultKind::Timeout.into()))
    }

    /// Opens the lock holder's load at the record.
    async fn begin<V>(
        self: &Arc<Self>,
        name: &str,
        token: Token,
        lease: Lease,
        fresh_for: Duration,
    ) -> Result<Attempt<V>, Fault>
    where
        C: Codec<V>,
    {
        let (fence, lease) = (lease.fence(), Arc::new(lease));
        // Whoever was told "held" meanwhile is told when that ends, also when this future is dropped.
        let unused = FreeOnDrop { inner: Some(self.clone()), lease: lease.clone() };
        let opened = self.records.open(name, Token::of_fence(fence), FORGOTTEN, fresh_for);
        match opened.await? {
            Opened::Granted(Grant { minimum, failures, .. }) => {
                unused.keep();
                let grant = Grant { fence, minimum, failures };
                self.open.insert(token, OpenLoad { lease, grant });
                Ok(Attempt::Granted(grant))
            }
            Opened::Hit(entry) => Ok(Attempt::Hit(entry)),
            Opened::BackOff { remaining } => Ok(Attempt::BackOff { remaining }),
            Opened::Fenced => Err(Fault::saying(
                FaultKind::Refused,
                "the record knows a greater fencing token than the lock's: was the lock's data lost?",
            )),
            Opened::Held { .. } => Err(malformed()),
        }
    }

    /// Whether the load is still the open one.
    async fn check(&self, name: &str, load: &OpenLoad) -> Result<Renewal, Fault> {
        self.records.renew(name, load.record_token(), FORGOTTEN).await
    }

    /// Closes the load without a write.
    async fn end(&self, name: &str, load: &OpenLoad) -> Result<(), Fault> {
        self.records.release(name, load.record_token()).await
    }

    async fn publish(&self, event: Event<'_>) {
        if let Err(fault) = self.messages.publish(event).await {
            tracing::debug!(%fault, "message not sent; waiters look for themselves");
        }
    }

    /// Frees the lock, then says so.
    async fn free(&self, lease: &Lease) {
        unlock(lease).await;
        self.publish(Event::Released { name: lease.name() }).await;
    }

    /// Frees the locks of loads that were closed for certain.
    async fn close(self: Arc<Self>, loads: Vec<Token>) {
        for load in loads.into_iter().filter_map(|token| self.open.take(token)) {
            self.free(&load.lease).await;
        }
    }

    /// Hears of invalidations by others, so that a lock whose load was closed is freed.
    fn listen(self: &Arc<Self>) {
        self.listening.get_or_init(|| {
            let (elected, runtime) = (Arc::downgrade(self), Handle::current());
            let listening: Arc<dyn Watcher> = Arc::new(Revocations { elected, runtime });
            self.messages.watch(Arc::downgrade(&listening));
            listening
        });
    }
}

struct Revocations<C, L> {
    elected: Weak<Inner<C, L>>,
    runtime: Handle,
}

impl<C: Send + Sync + 'static, L: Lock> Watcher for Revocations<C, L> {
    fn on_event(&self, event: Event<'_>) {
        let (Event::Invalidated { name, .. } | Event::Put { name, .. }) = event else { return };
        let Some(elected) = self.elected.upgrade() else { return };
        for token in elected.open.of(name) {
            let (elected, name) = (elected.clone(), name.to_owned());
            // The message may be older than the load: the record knows.
            self.runtime.spawn(async move {
                let Some(load) = elected.open.get(token) else { return };
                if matches!(elected.check(&name, &load).await, Ok(Renewal::Lost)) {
                    elected.close(vec![token]).await;
                }
            });
        }
    }
}

/// Frees a lock that was granted and not made use of.
struct FreeOnDrop<C: Send + Sync + 'static, L: Lock> {
    inner: Option<Arc<Inner<C, L>>>,
    lease: Arc<Lease>,
}

impl<C: Send + Sync + 'static, L: Lock> FreeOnDrop<C, L> {
    fn keep(mut self) {
        self.inner = None;
    }
}

impl<C: Send + Sync + 'static, L: Lock> Drop for FreeOnDrop<C, L> {
    fn drop(&mut self) {
        if let (Some(inner), Ok(runtime)) = (self.inner.take(), Handle::try_current()) {
            let lease = self.lease.clone();
            runtime.spawn(async move { inner.free(&lease).await });
        }
    }
}

async fn unlock(lease: &Lease) {
    if let Err(fault) = lease.end().await {
        tracing::debug!(%fault, "release failed; the lock is free after its ttl");
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
