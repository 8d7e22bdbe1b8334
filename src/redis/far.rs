use std::{
    fmt,
    marker::PhantomData,
    sync::{Arc, Weak},
    time::Duration,
};

use super::{
    confirmations::Confirming,
    connection::Connection,
    elected::ElectedFar,
    message::Message,
    messages::Messages,
    namespace::Namespace,
    permissions::Permissions,
    records::{BY_CLOCK, OpenReply, Records, malformed},
};
use crate::{
    Clock, Entry, Fault, Version,
    codec::Codec,
    far::{Attempt, Commit, Far, Invalidated, Put, Record, Renewal, Token, Watcher},
    lock::Lock,
};

/// When a waiter looks again while no messages arrive.
const POLL: Duration = Duration::from_millis(25);

/// A far tier on Redis, with values encoded by `C`.
///
/// Clones share the connection and the subscription. Guards of different kinds of values in one Redis
/// need a [`namespace`](Self::namespace) each.
///
/// ```no_run
/// # #[cfg(feature = "json")]
/// # async fn connect() -> Result<(), cattleguard::Fault> {
/// use cattleguard::{Guard, codec::Json, redis::{Connection, RedisFar}};
///
/// let connection = Connection::open("redis://127.0.0.1/").await?;
/// let users: Guard<u64, String> =
///     Guard::builder().far(RedisFar::new(connection, Json).namespace("users")).build();
/// # Ok(()) }
/// ```
pub struct RedisFar<V, C> {
    inner: Arc<Inner<C>>,
    value: PhantomData<fn() -> V>,
}

struct Inner<C> {
    namespace: String,
    records: Records<C>,
    messages: Messages,
}

impl<V, C: Codec<V>> RedisFar<V, C> {
    /// A far tier over this connection, in the empty namespace.
    pub fn new(connection: Connection, codec: C) -> Self {
        Self::with(connection, codec, "")
    }

    /// Lets `lock` elect who loads, in place of Redis' own leases. Its fencing token is checked at the record;
    /// messages and confirmations stay as they are.
    pub fn elected_by<L: Lock>(self, lock: L) -> ElectedFar<V, C, L>
    where
        C: Clone,
    {
        let records = &self.inner.records;
        let (connection, codec) = (records.connection().clone(), records.codec().clone());
        ElectedFar::new(connection, codec, &self.inner.namespace, lock)
    }

    /// Keeps the entries apart from those of other kinds of values: keys become
    /// `cg:{namespace:name}`. Default: the empty one.
    pub fn namespace(self, namespace: &str) -> Self
    where
        C: Clone,
    {
        let records = &self.inner.records;
        Self::with(records.connection().clone(), records.codec().clone(), namespace)
    }

    fn with(connection: Connection, codec: C, namespace: &str) -> Self {
        let keys = Arc::new(Namespace::new("cg", namespace));
        let permissions = Arc::<Permissions>::default();
        let messages = Messages::new(connection.clone(), keys.clone(), permissions.clone());
        let told = Some(messages.clone());
        let records = Records::new(connection, codec, keys, told, &BY_CLOCK, permissions);
        Self {
            inner: Arc::new(Inner { namespace: namespace.to_owned(), records, messages }),
            value: PhantomData,
        }
    }
}

impl<V, C> Clone for RedisFar<V, C> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), value: PhantomData }
    }
}

impl<V, C> fmt::Debug for RedisFar<V, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisFar")
            .field("connection", self.inner.records.connection())
            .field("namespace", &self.inner.namespace)
            .finish_non_exhaustive()
    }
}

impl<V: Send + Sync + 'static, C: Codec<V>> Far<V> for RedisFar<V, C> {
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
        // Before the look-up: a message that is sent after it will arrive.
        let connected = self.inner.messages.ready().await;
        self.inner.records.know_channels(name).await;
        let waiter = connected.then(|| self.inner.messages.process());
        match self.inner.records.open(name, token, ttl, fresh_for, waiter).await? {
            OpenReply::Hit(entry) => Ok(Attempt::Hit(entry)),
            OpenReply::Granted(grant) => Ok(Attempt::Granted(grant)),
            OpenReply::Held { remaining, ahead } => {
                let is_told = connected && ahead.is_some();
                let remaining = if is_told { remaining } else { remaining.min(POLL) };
                Ok(Attempt::Held { remaining, ahead: ahead.unwrap_or(0) })
            }
            OpenReply::BackOff { remaining } => Ok(Attempt::BackOff { remaining }),
            OpenReply::Fenced => Err(malformed()),
        }
    }

    async fn commit(
        &self,
        name: &str,
        token: Token,
        record: Record<V>,
    ) -> Result<Commit<V>, Fault> {
        self.inner.records.commit(name, token, record).await
    }

    async fn renew(&self, name: &str, token: Token, ttl: Duration) -> Result<Renewal, Fault> {
        self.inner.records.renew(name, token, ttl).await
    }

    async fn release(&self, name: &str, token: Token) -> Result<(), Fault> {
        self.inner.records.release(name, token).await
    }

    async fn fail(&self, name: &str, token: Token, back_off: Duration) -> Result<(), Fault> {
        self.inner.records.fail(name, token, back_off).await
    }

    async fn put(&self, name: &str, record: Record<V>) -> Result<Put<V>, Fault> {
        self.inner.records.know_channels(name).await;
        self.inner.records.put(name, record).await
    }

    /// Waits until every subscribed process has confirmed, up to the far timeout, or 200 ms in a fleet of more than 25 if
    /// that is longer. In a Cluster older than Redis 7 the number of subscribers is not known, and the answer is
    /// always [`Invalidated::Unconfirmed`].
    async fn invalidate(
        &self,
        name: &str,
        version: Option<Version>,
        retention: Duration,
    ) -> Result<Invalidated, Fault> {
        let Inner { records, messages, .. } = &*self.inner;
        messages.ready().await;
        records.know_channels(name).await;
        let address = messages.address(name);
        let confirming = messages.confirming(&address);
        let reply_to = confirming.as_ref().map(Confirming::reply_to);
        let message = Message::invalidated(name, version, reply_to);
        let receivers = records.invalidate(name, version, retention, &address, &message).await?;
        Ok(messages.delivery(confirming, receivers).await)
    }

    async fn invalidate_unconfirmed(
        &self,
        name: &str,
        version: Option<Version>,
        retention: Duration,
    ) -> Result<(), Fault> {
        let Inner { records, messages, .. } = &*self.inner;
        messages.start();
        records.know_channels(name).await;
        let message = Message::invalidated(name, version, None);
        let address = messages.address(name);
        records.invalidate(name, version, retention, &address, &message).await.map(drop)
    }

    /// One command for every 512 names. In a Cluster one for each name: they are in different slots.
    async fn read_many(&self, names: &[&str]) -> Vec<Result<Option<Arc<Entry<V>>>, Fault>> {
        self.inner.messages.start();
        self.inner.records.get_many(names).await
    }

    /// Uses Redis' `WAIT`, over a connection that is opened for each call: a connect, a small write and the wait,
    /// so it is for the few writes that a failover must not undo. With fewer replicas than asked for it takes
    /// the whole `timeout`, and never longer than that, the far timeout and a second to connect.
    ///
    /// It asks the server that takes the commands now: a failover between the write and this call goes
    /// unnoticed.
    ///
    /// # Errors
    ///
    /// [`FaultKind::Config`](crate::FaultKind::Config) in a Cluster, where this is not supported.
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
