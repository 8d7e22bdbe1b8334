//! The far tier on Redis 6.2 or later, single or Cluster.
//!
//! - A hit is one plain `GET`; everything else one atomic script. A miss costs the process that loads
//!   three commands (`GET`, look up or lease, commit), and each other process three (`GET`, look up or
//!   lease, look up again when woken).
//! - An entry is one string with a 34-byte header, a lease another key in the same slot with its own
//!   expiry (`lua/prelude.lua` states the layout).
//! - All times are the server's. A client estimates the server's clock from the answers it gets; the
//!   estimate moves only the moment at which it takes an entry for stale.
//! - The fence comes from the server's clock and grows past each record's floor, so there is no
//!   counter key that could be evicted or expire.
//!
//! A Redis that evicts may drop a live lease or a version: a second load is possible then, and a lagging
//! read is no longer recognised, but a commit without its lease is still refused. After a failover that
//! lost writes, promises P1–P3 can break until the next write or the hard expiry.

use std::{
    marker::PhantomData,
    sync::{Arc, LazyLock, Weak},
    time::Duration,
};

use ::redis::{Cmd, Script, Value};
use bytes::Bytes;

use self::{
    server_clock::ServerClock,
    wire::{Header, Kind, malformed},
};
use super::{
    Attempt, Commit, Error, ErrorKind, Far, Grant, Invalidated, Put, Record, Renewal, Token,
    Watcher,
};
use crate::{
    Clock, Entry, Version,
    codec::Codec,
    notify::{
        self, Notifier,
        message::Message,
        redis::{Confirming, reach},
    },
    redis::{Connection, Namespace, millis},
};

mod server_clock;
mod wire;

/// How long a waiter waits before it looks again while no messages arrive.
const POLL: Duration = Duration::from_millis(25);

macro_rules! script {
    ($file:literal) => {
        LazyLock::new(|| Script::new(concat!(include_str!("lua/prelude.lua"), include_str!($file))))
    };
}
static LOOK_UP_OR_LEASE: LazyLock<Script> = script!("lua/look_up_or_lease.lua");
static COMMIT: LazyLock<Script> = script!("lua/commit.lua");
static RENEW: LazyLock<Script> = script!("lua/renew.lua");
static RELEASE: LazyLock<Script> = script!("lua/release.lua");
static INVALIDATE: LazyLock<Script> = script!("lua/invalidate.lua");

/// A far tier on Redis, with values encoded by `C`.
///
/// Clones share the connection and the subscription. Guards of different kinds of values in one Redis
/// need a [`namespace`](Self::namespace) each.
///
/// ```no_run
/// # #[cfg(feature = "json")]
/// # async fn connect() -> Result<(), cattleguard::far::Error> {
/// use cattleguard::{Guard, codec::Json, far, redis::Connection};
///
/// let redis = Connection::open("redis://127.0.0.1/").await?;
/// let users: Guard<u64, String> =
///     Guard::builder().far(far::Redis::new(redis, Json).namespace("users")).build();
/// # Ok(()) }
/// ```
pub struct Redis<V, C> {
    inner: Arc<Inner<C>>,
    value: PhantomData<fn() -> V>,
}

struct Inner<C> {
    clock: ServerClock,
    connection: Connection,
    codec: C,
    keys: Namespace,
    messages: notify::Redis,
}

impl<V, C: Codec<V>> Redis<V, C> {
    /// A far tier over this connection, in the empty namespace.
    pub fn new(connection: Connection, codec: C) -> Self {
        Self::with(connection, codec, "")
    }

    /// Keeps the entries apart from those of other kinds of values: keys become
    /// `cg:{namespace:name}`. Default: the empty one.
    pub fn namespace(self, namespace: &str) -> Self
    where
        C: Clone,
    {
        Self::with(self.inner.connection.clone(), self.inner.codec.clone(), namespace)
    }

    fn with(connection: Connection, codec: C, namespace: &str) -> Self {
        let keys = Namespace::new("cg", namespace);
        let messages = notify::Redis::within(connection.clone(), &keys);
        Self {
            inner: Arc::new(Inner {
                clock: ServerClock::new(Clock::system()),
                connection,
                codec,
                keys,
                messages,
            }),
            value: PhantomData,
        }
    }
}

impl<V, C> Clone for Redis<V, C> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), value: PhantomData }
    }
}

impl<V: Send + Sync + 'static, C: Codec<V>> Far<V> for Redis<V, C> {
    fn clock(&self) -> &Clock {
        self.inner.clock.own()
    }

    async fn read(&self, name: &str) -> Result<Option<Arc<Entry<V>>>, Error> {
        let inner = &*self.inner;
        inner.messages.start();
        if !inner.clock.is_known() {
            inner.ask_time().await?;
        }
        let key = inner.keys.key(name);
        let mut get = Cmd::with_capacity(2, 3 + key.len());
        get.arg("GET").arg(key);
        let bytes: Option<Vec<u8>> = inner.connection.query(&get).await?;
        Ok(bytes.and_then(|bytes| inner.entry(bytes.into())).map(Arc::new))
    }

    async fn look_up_or_lease(
        &self,
        name: &str,
        token: Token,
        ttl: Duration,
    ) -> Result<Attempt<V>, Error> {
        let inner = &*self.inner;
        // Before the look-up, which thereby is also the re-check: a message that is sent after it
        // will be heard.
        let connected = inner.messages.ready().await;
        let mut unusable = "";
        loop {
            let mut call = LOOK_UP_OR_LEASE.key(inner.keys.key(name));
            call.key(inner.keys.key_with(name, ":l"))
                .arg(token.as_bytes())
                .arg(millis(ttl))
                .arg(unusable);
            let answer: Vec<Value> = inner.connection.run(&call).await?;
            let mut answer = answer.into_iter();
            inner.clock.note(answer.next().and_then(integer).ok_or_else(malformed)?);
            return match answer.next().and_then(integer) {
                Some(0) => {
                    match answer.next().and_then(bulk).and_then(|bytes| inner.entry(bytes)) {
                        Some(entry) => Ok(Attempt::Hit(Arc::new(entry))),
                        // Another release's value. Ask for the lease, to replace it.
                        None if unusable.is_empty() => {
                            unusable = "1";
                            continue;
                        }
                        None => Err(malformed()),
                    }
                }
                Some(1) => {
                    let fence = answer.next().and_then(integer);
                    let fence = fence.and_then(|fence| u64::try_from(fence).ok());
                    let minimum = answer.next().and_then(bulk);
                    Ok(Attempt::Granted(Grant {
                        fence: fence.ok_or_else(malformed)?,
                        minimum: minimum.as_deref().and_then(wire::version).unwrap_or_default(),
                    }))
                }
                Some(2) => {
                    let left = answer.next().and_then(integer).ok_or_else(malformed)?;
                    let rest = Duration::from_millis(u64::try_from(left).unwrap_or(0));
                    Ok(Attempt::Held { remaining: if connected { rest } else { rest.min(POLL) } })
                }
                _ => Err(malformed()),
            };
        }
    }

    async fn commit(
        &self,
        name: &str,
        token: Token,
        record: Record<V>,
    ) -> Result<Commit<V>, Error> {
        let written = self.inner.write(name, token.as_bytes(), record).await;
        if let Err(error) = &written
            && error.kind() == ErrorKind::Codec
        {
            // Nothing was sent: the lease would last for its ttl.
            Far::<V>::release(self, name, token).await?;
        }
        match written? {
            Written::Stored(entry) => Ok(Commit::Stored(entry)),
            Written::Older(minimum) => Ok(Commit::Older { minimum }),
            Written::Lost => Ok(Commit::Lost),
        }
    }

    async fn renew(&self, name: &str, token: Token, ttl: Duration) -> Result<Renewal, Error> {
        let mut call = RENEW.key(self.inner.keys.key_with(name, ":l"));
        call.arg(token.as_bytes()).arg(millis(ttl));
        match self.inner.connection.run(&call).await? {
            1 => Ok(Renewal::Renewed),
            _ => Ok(Renewal::Lost),
        }
    }

    async fn release(&self, name: &str, token: Token) -> Result<(), Error> {
        let mut call = RELEASE.key(self.inner.keys.key_with(name, ":l"));
        call.arg(token.as_bytes()).arg(self.inner.messages.channel()).arg(Message::released(name));
        self.inner.connection.run::<()>(&call).await
    }

    async fn put(&self, name: &str, record: Record<V>) -> Result<Put<V>, Error> {
        match self.inner.write(name, b"", record).await? {
            Written::Stored(entry) => Ok(Put::Stored(entry)),
            Written::Older(minimum) => Ok(Put::Older { minimum }),
            Written::Lost => Err(malformed()),
        }
    }

    /// Waits, up to the far timeout, until every subscribed process has confirmed. In a Cluster
    /// the number of subscribers is not known, and the answer is always
    /// [`Invalidated::Unconfirmed`].
    async fn invalidate(
        &self,
        name: &str,
        version: Option<Version>,
        retention: Duration,
    ) -> Result<Invalidated, Error> {
        let inner = &*self.inner;
        inner.messages.ready().await;
        let confirming = inner.messages.confirming();
        let reply_to = confirming.as_ref().map(Confirming::reply_to);
        let message = Message::invalidated(name, version, reply_to);
        let mut call = INVALIDATE.key(inner.keys.key(name));
        call.key(inner.keys.key_with(name, ":l"))
            .arg(version.map(|version| version.to_bytes().to_vec()).unwrap_or_default())
            .arg(millis(retention))
            .arg(inner.messages.channel())
            .arg(message);
        let receivers = inner.connection.run(&call).await?;
        Ok(reach(confirming, receivers, inner.connection.far_timeout()).await)
    }

    fn watch(&self, watcher: Weak<dyn Watcher>) {
        self.inner.messages.watch(watcher);
    }
}

enum Written<V> {
    Stored(Arc<Entry<V>>),
    Older(Version),
    Lost,
}

impl<C> Inner<C> {
    /// A commit, or, without a token, a put.
    async fn write<V>(
        &self,
        name: &str,
        token: &[u8],
        record: Record<V>,
    ) -> Result<Written<V>, Error>
    where
        C: Codec<V>,
    {
        let mut payload = Vec::new();
        let kind = match record.entry.value() {
            Some(value) => {
                let encoded = self.codec.encode(value, &mut payload);
                encoded.map_err(|error| Error::new(ErrorKind::Codec, error))?;
                Kind::Value
            }
            None => Kind::Absent,
        };
        let version = record.version.map(|version| version.to_bytes().to_vec());
        let mut call = COMMIT.key(self.keys.key(name));
        call.key(self.keys.key_with(name, ":l"))
            .arg(token)
            .arg(kind.letter())
            .arg(version.unwrap_or_default())
            .arg(millis(record.ttl))
            .arg(millis(record.retention))
            .arg(payload)
            .arg(self.messages.channel())
            .arg(Message::tail(name, None));
        let answer: Vec<Value> = self.connection.run(&call).await?;
        let mut answer = answer.into_iter();
        let kind = answer.next().and_then(integer).ok_or_else(malformed)?;
        let detail = answer.next().and_then(bulk).unwrap_or_default();
        match kind {
            1 => {
                let entry = match record.version {
                    Some(_) => record.entry,
                    None => {
                        let version = wire::version(&detail).ok_or_else(malformed)?;
                        Arc::new(Entry::new(None, version, record.entry.fresh_until()))
                    }
                };
                Ok(Written::Stored(entry))
            }
            0 => Ok(Written::Lost),
            -1 => Ok(Written::Older(wire::version(&detail).ok_or_else(malformed)?)),
            // The reason begins with the server's error code; none names a key or a value.
            -2 => {
                let reason = String::from_utf8_lossy(&detail).into_owned();
                Err(Error::new(ErrorKind::Refused, reason))
            }
            _ => Err(malformed()),
        }
    }

    /// `None` for a tombstone and for what does not decode: both are a miss.
    fn entry<V>(&self, bytes: Bytes) -> Option<Entry<V>>
    where
        C: Codec<V>,
    {
        let (header, payload) = Header::split(bytes)?;
        let value = match header.kind {
            Kind::Value => match self.codec.decode(payload) {
                Ok(value) => Some(value),
                // The codec's error may quote the value.
                Err(_) => {
                    tracing::warn!("a stored value does not decode and is loaded again");
                    return None;
                }
            },
            Kind::Absent => None,
            Kind::Tombstone => return None,
        };
        let fresh_until = self.clock.moment_of(header.fresh_until);
        Some(Entry::new(value, header.version, fresh_until))
    }

    async fn ask_time(&self) -> Result<(), Error> {
        let mut time = Cmd::new();
        time.arg("TIME");
        let (seconds, micros): (i64, i64) = self.connection.query(&time).await?;
        self.clock.note(seconds.saturating_mul(1000).saturating_add(micros / 1000));
        Ok(())
    }
}

fn integer(value: Value) -> Option<i64> {
    match value {
        Value::Int(number) => Some(number),
        Value::BulkString(digits) => str::from_utf8(&digits).ok()?.parse().ok(),
        Value::SimpleString(digits) => digits.parse().ok(),
        _ => None,
    }
}

fn bulk(value: Value) -> Option<Bytes> {
    match value {
        Value::BulkString(bytes) => Some(bytes.into()),
        _ => None,
    }
}
