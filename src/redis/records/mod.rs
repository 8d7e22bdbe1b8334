use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use ::redis::{Cmd, Script, Value};
use bytes::Bytes;
use futures::future::join_all;

pub(super) use self::header::malformed;
use self::{
    header::{Header, Kind},
    server_clock::ServerClock,
};
use super::{
    connection::Connection,
    message::Message,
    namespace::{Namespace, millis},
};
use crate::{
    Clock, Entry, Fault, FaultKind, Version,
    codec::Codec,
    entry::Age,
    far::{Commit, Grant, Put, Record, Renewal, Token},
};

mod header;
mod server_clock;

/// How many names one command asks for: a longer answer would hold up what others asked.
const AT_ONCE: usize = 512;

/// Longer than any entry stays fresh, in milliseconds.
const FOREVER: u64 = u64::MAX;

/// Entries and tombstones in Redis, each beside the lease, or the open load, whose token alone may write.
pub(in crate::redis) struct Records<C> {
    pub(in crate::redis) connection: Connection,
    clock: ServerClock,
    codec: C,
    keys: Namespace,
    /// Where a script tells of what it did; empty for nowhere.
    channel: String,
    scripts: &'static Scripts,
}

/// The scripts of one way to make fences.
pub(in crate::redis) struct Scripts {
    open: Script,
    commit: Script,
    invalidate: Script,
}

macro_rules! script {
    ($($file:literal),*) => {
        Script::new(concat!(
            include_str!("../integers.lua"),
            include_str!("lua/prelude.lua"),
            $(include_str!($file)),*
        ))
    };
}

/// Fences from the server's clock: a far tier.
pub(in crate::redis) static BY_CLOCK: LazyLock<Scripts> = LazyLock::new(|| Scripts {
    open: script!("lua/open.lua", "lua/look_up_or_lease.lua"),
    commit: script!("lua/by_clock.lua", "lua/commit.lua"),
    invalidate: script!("lua/by_clock.lua", "lua/invalidate.lua"),
});
/// Fences from a lock somewhere else: a store.
pub(in crate::redis) static BY_LOCK: LazyLock<Scripts> = LazyLock::new(|| Scripts {
    open: script!("lua/by_lock.lua", "lua/open.lua", "lua/begin.lua"),
    commit: script!("lua/by_lock.lua", "lua/commit.lua"),
    invalidate: script!("lua/by_lock.lua", "lua/invalidate.lua"),
});
static RENEW: LazyLock<Script> = LazyLock::new(|| script!("lua/renew.lua"));
/// Sent whole: after a look-up that timed out nobody waits for the answer that the script is unknown, and
/// the lease would be nobody's until its ttl.
const RELEASE: &str = include_str!("lua/release.lua");
static FAIL: LazyLock<Script> = LazyLock::new(|| script!("lua/fail.lua"));

/// What a load would meet, asked before the lock.
pub(in crate::redis) enum LookUp<V> {
    /// There is an entry that is fresh for long enough.
    Hit(Arc<Entry<V>>),
    /// The last load failed, and none opens until the back-off is over.
    BackOff {
        remaining: Duration,
    },
    Miss,
}

/// The answer to an attempt to open.
pub(in crate::redis) enum Opened<V> {
    Hit(Arc<Entry<V>>),
    Granted(Grant),
    Held {
        remaining: Duration,
    },
    /// A greater fencing token was seen.
    Fenced,
    BackOff {
        remaining: Duration,
    },
}

impl<C> Records<C> {
    pub(in crate::redis) fn new(
        connection: Connection,
        codec: C,
        keys: Namespace,
        channel: String,
        scripts: &'static Scripts,
    ) -> Self {
        let clock = ServerClock::new(Clock::system());
        Self { connection, clock, codec, keys, channel, scripts }
    }

    pub(in crate::redis) fn clock(&self) -> &Clock {
        self.clock.own()
    }

    pub(in crate::redis) fn codec(&self) -> &C {
        &self.codec
    }

    pub(in crate::redis) async fn get<V>(&self, name: &str) -> Result<Option<Arc<Entry<V>>>, Fault>
    where
        C: Codec<V>,
    {
        self.know_time().await?;
        let key = self.keys.key(name);
        let mut get = Cmd::with_capacity(2, 3 + key.len());
        get.arg("GET").arg(key);
        let bytes: Option<Vec<u8>> = self.connection.query(&get).await?;
        Ok(bytes.and_then(|bytes| self.entry(bytes.into())).map(Arc::new))
    }

    /// One command for [`AT_ONCE`] names; in a cluster, where each is in a slot of its own, one for each.
    pub(in crate::redis) async fn get_many<V>(
        &self,
        names: &[&str],
    ) -> Vec<Result<Option<Arc<Entry<V>>>, Fault>>
    where
        V: Send + Sync,
        C: Codec<V>,
    {
        if self.connection.is_cluster() {
            return join_all(names.iter().map(|name| self.get(name))).await;
        }
        let chunks = join_all(names.chunks(AT_ONCE).map(|names| self.get_chunk(names))).await;
        let answers =
            chunks.into_iter().zip(names.chunks(AT_ONCE)).map(|(found, names)| match found {
                Ok(found) => found.into_iter().map(Ok).collect::<Vec<_>>(),
                Err(fault) => names.iter().map(|_| Err(fault.clone())).collect(),
            });
        answers.flatten().collect()
    }

    async fn get_chunk<V>(&self, names: &[&str]) -> Result<Vec<Option<Arc<Entry<V>>>>, Fault>
    where
        C: Codec<V>,
    {
        self.know_time().await?;
        let mut get = Cmd::new();
        get.arg("MGET");
        for name in names {
            get.arg(self.keys.key(name));
        }
        let found: Vec<Value> = self.connection.query(&get).await?;
        if found.len() != names.len() {
            return Err(malformed());
        }
        let entries = found.into_iter().map(|value| self.entry(bulk(value)?).map(Arc::new));
        Ok(entries.collect())
    }

    /// What a load would meet, without a script.
    pub(in crate::redis) async fn look_up<V>(
        &self,
        name: &str,
        fresh_for: Duration,
    ) -> Result<LookUp<V>, Fault>
    where
        C: Codec<V>,
    {
        self.know_time().await?;
        let mut get = Cmd::new();
        get.arg("MGET").arg(self.keys.key(name)).arg(self.lease(name));
        let (entry, lease): (Value, Value) = self.connection.query(&get).await?;
        let now = self.clock.own().now();
        if let Some(entry) = bulk(entry).and_then(|bytes| self.entry(bytes))
            && entry.age(now.after(fresh_for), Duration::ZERO) == Age::Fresh
        {
            return Ok(LookUp::Hit(Arc::new(entry)));
        }
        let until = bulk(lease).and_then(|lease| header::paused_until(&lease));
        match until.map(|until| self.clock.moment_of(until).since(now)) {
            Some(remaining) if remaining > Duration::ZERO => Ok(LookUp::BackOff { remaining }),
            _ => Ok(LookUp::Miss),
        }
    }

    /// The entry that is fresh for long enough, or what the script that opens says otherwise.
    pub(in crate::redis) async fn open<V>(
        &self,
        name: &str,
        token: Token,
        ttl: Duration,
        fresh_for: Duration,
    ) -> Result<Opened<V>, Fault>
    where
        C: Codec<V>,
    {
        let mut fresh_for = if fresh_for.is_zero() { 0 } else { millis(fresh_for) };
        loop {
            let mut call = self.scripts.open.key(self.keys.key(name));
            call.key(self.lease(name)).arg(token.as_bytes()).arg(millis(ttl)).arg(fresh_for);
            let answer: Vec<Value> = self.connection.run(&call).await?;
            let mut answer = answer.into_iter();
            self.clock.note(answer.next().and_then(integer).ok_or_else(malformed)?);
            let kind = answer.next().and_then(integer).ok_or_else(malformed)?;
            let Some(value) = answer.next() else {
                return if kind == 3 { Ok(Opened::Fenced) } else { Err(malformed()) };
            };
            return match kind {
                0 => match bulk(value).and_then(|bytes| self.entry(bytes)) {
                    Some(entry) => Ok(Opened::Hit(Arc::new(entry))),
                    // Another release's value. Ask for the lease, to replace it.
                    None if fresh_for < FOREVER => {
                        fresh_for = FOREVER;
                        continue;
                    }
                    None => Err(malformed()),
                },
                1 => {
                    let granted = bulk(value).and_then(|bytes| header::grant(&bytes));
                    let (fence, failures) = granted.ok_or_else(malformed)?;
                    let minimum = answer.next().and_then(bulk);
                    let minimum = minimum.as_deref().and_then(header::version).unwrap_or_default();
                    Ok(Opened::Granted(Grant { fence, minimum, failures }))
                }
                2 => Ok(Opened::Held { remaining: left(value)? }),
                4 => Ok(Opened::BackOff { remaining: left(value)? }),
                _ => Err(malformed()),
            };
        }
    }

    pub(in crate::redis) async fn commit<V>(
        &self,
        name: &str,
        token: Token,
        record: Record<V>,
    ) -> Result<Commit<V>, Fault>
    where
        C: Codec<V>,
    {
        let written = self.write(name, token.as_bytes(), record).await;
        if let Err(error) = &written
            && error.kind() == FaultKind::Codec
        {
            // Nothing was sent: the lease would last for its ttl.
            self.release(name, token).await?;
        }
        match written? {
            Written::Stored(entry) => Ok(Commit::Stored(entry)),
            Written::Older(minimum) => Ok(Commit::Older { minimum }),
            Written::Lost => Ok(Commit::Lost),
        }
    }

    pub(in crate::redis) async fn put<V>(
        &self,
        name: &str,
        record: Record<V>,
    ) -> Result<Put<V>, Fault>
    where
        C: Codec<V>,
    {
        match self.write(name, b"", record).await? {
            Written::Stored(entry) => Ok(Put::Stored(entry)),
            Written::Older(minimum) => Ok(Put::Older { minimum }),
            Written::Lost => Err(malformed()),
        }
    }

    pub(in crate::redis) async fn renew(
        &self,
        name: &str,
        token: Token,
        ttl: Duration,
    ) -> Result<Renewal, Fault> {
        let mut call = RENEW.key(self.lease(name));
        call.arg(token.as_bytes()).arg(millis(ttl));
        match self.connection.run(&call).await? {
            1 => Ok(Renewal::Renewed),
            _ => Ok(Renewal::Lost),
        }
    }

    pub(in crate::redis) async fn release(&self, name: &str, token: Token) -> Result<(), Fault> {
        let mut call = ::redis::cmd("EVAL");
        call.arg(RELEASE).arg(1).arg(self.lease(name));
        call.arg(token.as_bytes()).arg(&self.channel).arg(Message::released(name));
        self.connection.query::<()>(&call).await
    }

    pub(in crate::redis) async fn fail(
        &self,
        name: &str,
        token: Token,
        pause: Duration,
    ) -> Result<(), Fault> {
        let mut call = FAIL.key(self.lease(name));
        call.arg(token.as_bytes()).arg(millis(pause));
        call.arg(&self.channel).arg(Message::released(name));
        self.connection.run::<()>(&call).await
    }

    pub(in crate::redis) async fn replicated(
        &self,
        name: &str,
        replicas: usize,
        timeout: Duration,
    ) -> Result<usize, Fault> {
        self.connection.replicated(&self.keys.key_with(name, ":w"), replicas, timeout).await
    }

    /// How many subscribers heard the message.
    pub(in crate::redis) async fn invalidate(
        &self,
        name: &str,
        version: Option<Version>,
        retention: Duration,
        message: Vec<u8>,
    ) -> Result<usize, Fault> {
        let mut call = self.scripts.invalidate.key(self.keys.key(name));
        call.key(self.lease(name))
            .arg(version.map(|version| version.to_bytes().to_vec()).unwrap_or_default())
            .arg(millis(retention))
            .arg(&self.channel)
            .arg(message);
        self.connection.run(&call).await
    }

    fn lease(&self, name: &str) -> String {
        self.keys.key_with(name, ":l")
    }

    /// A commit, or, without a token, a put.
    async fn write<V>(
        &self,
        name: &str,
        token: &[u8],
        record: Record<V>,
    ) -> Result<Written<V>, Fault>
    where
        C: Codec<V>,
    {
        let load_time = record.entry.load_time();
        let mut payload = header::load_time(load_time).to_vec();
        let kind = match record.entry.value() {
            Some(value) => {
                let encoded = self.codec.encode(value, &mut payload);
                encoded.map_err(|error| Fault::new(FaultKind::Codec, error))?;
                Kind::Value
            }
            None => Kind::Absent,
        };
        let version = record.version.map(|version| version.to_bytes().to_vec());
        let mut call = self.scripts.commit.key(self.keys.key(name));
        call.key(self.keys.key_with(name, ":l"))
            .arg(token)
            .arg(kind.letter())
            .arg(version.unwrap_or_default())
            .arg(millis(record.ttl))
            .arg(millis(record.retention))
            .arg(payload)
            .arg(&self.channel)
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
                        let version = header::version(&detail).ok_or_else(malformed)?;
                        let entry = Entry::new(None, version, record.entry.fresh_until());
                        Arc::new(entry.loaded_in(load_time))
                    }
                };
                Ok(Written::Stored(entry))
            }
            0 => Ok(Written::Lost),
            -1 => Ok(Written::Older(header::version(&detail).ok_or_else(malformed)?)),
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
        Some(Entry::new(value, header.version, fresh_until).loaded_in(header.load_time))
    }

    async fn know_time(&self) -> Result<(), Fault> {
        if self.clock.is_known() {
            return Ok(());
        }
        let mut time = Cmd::new();
        time.arg("TIME");
        let (seconds, micros): (i64, i64) = self.connection.query(&time).await?;
        self.clock.note(seconds.saturating_mul(1000).saturating_add(micros / 1000));
        Ok(())
    }
}

enum Written<V> {
    Stored(Arc<Entry<V>>),
    Older(Version),
    Lost,
}

fn left(value: Value) -> Result<Duration, Fault> {
    let left = integer(value).ok_or_else(malformed)?;
    Ok(Duration::from_millis(u64::try_from(left).unwrap_or(0)))
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
