use std::{
    fmt,
    marker::PhantomData,
    sync::{Arc, Weak},
    time::Duration,
};

use futures::future::join;

use super::election::{Election, settle, unlock};
use crate::{
    Clock, Entry, Fault, FaultKind, Version, backoff,
    codec::Codec,
    far::{Attempt, Commit, Event, Far, Invalidated, Put, Record, Renewal, Token, Watcher},
    lock::{self, Lock},
    redis::{channel::Address, connection::Connection, records::LookUp},
};

/// When a waiter looks again while no messages arrive: soon at first, and later with the lease's age.
const FIRST_POLL: Duration = Duration::from_millis(10);
const LONGEST_POLL: Duration = Duration::from_millis(250);

/// A far tier on Redis that lets a lock of another system elect who loads: for a service that trusts that
/// lock more, or has it already. Made by [`RedisFar::elected_by`](crate::redis::RedisFar::elected_by).
///
/// The lock's page says what its election promises. Whatever the lock does, an older value never replaces
/// a newer one: the record refuses fencing tokens of the past. A load that takes longer than ten minutes
/// is not stored. Keys are `cgs:{namespace:name}`. Clones share connection, subscription and lock.
pub struct ElectedFar<V, C, L> {
    election: Arc<Election<C, L>>,
    value: PhantomData<fn() -> V>,
}

impl<V, C: Codec<V>, L: Lock> ElectedFar<V, C, L> {
    pub(crate) fn new(connection: Connection, codec: C, namespace: &str, lock: L) -> Self {
        let election = Election::new(connection, codec, namespace, lock);
        Self { election: Arc::new(election), value: PhantomData }
    }

    /// How long one call to the lock may take; after that each process loads without it, once. Default
    /// 100 ms; lengthen it where the lock alone needs more. Call it before cloning: it has no effect on a
    /// far tier that has clones.
    pub fn lock_timeout(mut self, timeout: Duration) -> Self {
        if let Some(election) = Arc::get_mut(&mut self.election) {
            election.lock_timeout = timeout;
        }
        self
    }
}

impl<V, C, L> Clone for ElectedFar<V, C, L> {
    fn clone(&self) -> Self {
        Self { election: self.election.clone(), value: PhantomData }
    }
}

impl<V, C, L> fmt::Debug for ElectedFar<V, C, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ElectedFar")
            .field("connection", self.election.records.connection())
            .field("lock_timeout", &self.election.lock_timeout)
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
        self.election.records.clock()
    }

    async fn read(&self, name: &str) -> Result<Option<Arc<Entry<V>>>, Fault> {
        self.election.messages.start();
        self.election.records.get(name).await
    }

    async fn look_up_or_lease(
        &self,
        name: &str,
        token: Token,
        ttl: Duration,
        fresh_for: Duration,
    ) -> Result<Attempt<V>, Fault> {
        let election = &*self.election;
        if let Some(load) = election.open.get(token) {
            return Ok(Attempt::Granted(load.grant));
        }
        self.election.listen();
        // Before the look-up: a message that is sent after it will arrive.
        let connected = election.messages.ready().await;
        // Most often a waiter was notified because there is an entry. During a back-off the lock is not
        // asked: freeing it would notify all waiters, and each of them would notify the others.
        match election.records.look_up(name, fresh_for).await? {
            LookUp::Hit(entry) => return Ok(Attempt::Hit(entry)),
            LookUp::BackOff { remaining } => return Ok(Attempt::BackOff { remaining }),
            LookUp::Miss => {}
        }
        match election.elect(name, ttl).await? {
            lock::Attempt::Granted(lease) => {
                self.election.begin(name, token, lease, fresh_for).await
            }
            lock::Attempt::Held { remaining } => {
                let remaining = if connected { remaining } else { poll(remaining, ttl) };
                Ok(Attempt::Held { remaining, ahead: 0 })
            }
        }
    }

    async fn commit(
        &self,
        name: &str,
        token: Token,
        record: Record<V>,
    ) -> Result<Commit<V>, Fault> {
        let election = &*self.election;
        let Some(load) = election.open.take(token) else { return Ok(Commit::Lost) };
        let committed = if load.lease.is_lost() {
            election.end(name, &load).await.map(|()| Commit::Lost)
        } else {
            election.records.commit(name, load.record_token(), record).await
        };
        let version = match &committed {
            Ok(Commit::Stored(entry)) => Some(entry.version()),
            Ok(_) => None,
            Err(_) => {
                // The commit may have been carried out; the guard releases.
                election.open.insert(token, load);
                return committed;
            }
        };
        let (this, name) = (self.election.clone(), name.to_owned());
        settle(async move {
            match version {
                Some(version) => {
                    let told = this.publish(&name, Event::Committed { name: &name, version });
                    join(told, unlock(&load.lease)).await;
                }
                None => this.free(&load.lease).await,
            }
        })
        .await;
        committed
    }

    async fn renew(&self, name: &str, token: Token, ttl: Duration) -> Result<Renewal, Fault> {
        let election = &*self.election;
        let Some(load) = election.open.get(token) else { return Ok(Renewal::Lost) };
        let (renewed, open) = join(load.lease.renew_for(ttl), election.check(name, &load)).await;
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
        let election = &*self.election;
        let Some(load) = election.open.take(token) else { return Ok(()) };
        let ended = election.end(name, &load).await;
        let this = self.election.clone();
        settle(async move { this.free(&load.lease).await }).await;
        ended
    }

    async fn fail(&self, name: &str, token: Token, back_off: Duration) -> Result<(), Fault> {
        let election = &*self.election;
        let Some(load) = election.open.take(token) else { return Ok(()) };
        // A holder that has lost the lock must not begin a back-off.
        let failed = if load.lease.is_lost() {
            election.end(name, &load).await
        } else {
            election.records.fail(name, load.record_token(), back_off).await
        };
        let this = self.election.clone();
        settle(async move { this.free(&load.lease).await }).await;
        failed
    }

    async fn put(&self, name: &str, record: Record<V>) -> Result<Put<V>, Fault> {
        let (this, name) = (self.election.clone(), name.to_owned());
        // On a task, so that the message follows also when the caller is cancelled.
        let putting = tokio::spawn(async move {
            let open = this.open.of(&name);
            this.records.know_channels(&name).await;
            let put = this.records.put(&name, record).await?;
            if let Put::Stored(entry) = &put {
                let version = entry.version();
                let told = this.publish(&name, Event::Put { name: &name, version });
                join(told, settle(this.clone().close(open))).await;
            }
            Ok(put)
        });
        putting.await.unwrap_or_else(|_| Err(FaultKind::Timeout.into()))
    }

    /// As [`RedisFar`](crate::redis::RedisFar) does.
    async fn invalidate(
        &self,
        name: &str,
        version: Option<Version>,
        retention: Duration,
    ) -> Result<Invalidated, Fault> {
        self.invalidate_and_tell(name, version, retention, true).await
    }

    async fn invalidate_unconfirmed(
        &self,
        name: &str,
        version: Option<Version>,
        retention: Duration,
    ) -> Result<(), Fault> {
        self.invalidate_and_tell(name, version, retention, false).await.map(drop)
    }

    /// One command for every 512 names. In a Cluster one for each name: they are in different slots.
    async fn read_many(&self, names: &[&str]) -> Vec<Result<Option<Arc<Entry<V>>>, Fault>> {
        self.election.messages.start();
        self.election.records.get_many(names).await
    }

    /// As [`RedisFar`](crate::redis::RedisFar) does.
    async fn replicated(
        &self,
        name: &str,
        replicas: usize,
        timeout: Duration,
    ) -> Result<usize, Fault> {
        self.election.records.replicated(name, replicas, timeout).await
    }

    fn watch(&self, watcher: Weak<dyn Watcher>) {
        self.election.messages.watch(watcher);
    }
}

impl<V, C: Codec<V>, L: Lock> ElectedFar<V, C, L> {
    async fn invalidate_and_tell(
        &self,
        name: &str,
        version: Option<Version>,
        retention: Duration,
        is_confirmed: bool,
    ) -> Result<Invalidated, Fault> {
        let (this, name) = (self.election.clone(), name.to_owned());
        // On a task, so that the message follows also when the caller is cancelled.
        let invalidating = tokio::spawn(async move {
            let open = this.open.of(&name);
            this.records.know_channels(&name).await;
            // The messages follow.
            let nowhere = Address::default();
            this.records.invalidate(&name, version, retention, &nowhere, &[]).await?;
            let event = Event::Invalidated { name: &name, version };
            let told = this.messages.tell(&name, event, is_confirmed);
            let (told, ()) = join(told, settle(this.clone().close(open))).await;
            // Redis has dropped it: only the near tiers are in doubt.
            Ok(told.unwrap_or(Invalidated::Unconfirmed))
        });
        invalidating.await.unwrap_or_else(|_| Err(FaultKind::Timeout.into()))
    }
}

/// A tenth of the lease's age, spread: a short load is found soon, a long one is not asked for all the time.
fn poll(remaining: Duration, ttl: Duration) -> Duration {
    let age = ttl.saturating_sub(remaining);
    let pause = (age / 10).clamp(FIRST_POLL, LONGEST_POLL);
    backoff::spread(pause, 0.75..1.25).min(remaining)
}
