use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use ::redis::{Cmd, Script, Value};
use bytes::Bytes;

use super::{
    header::{self, Header, Kind, malformed},
    server_clock::ServerClock,
};
use crate::{
    Clock, Entry, Version,
    codec::Codec,
    far::{Commit, Error, ErrorKind, Put, Record, Renewal, Token},
    notify::message::Message,
    redis::{Connection, Namespace, millis},
};

/// Entries and tombstones in Redis, each beside the lease, or the open load, whose token alone may write.
pub(crate) struct Records<C> {
    pub(crate) connection: Connection,
    clock: ServerClock,
    codec: C,
    keys: Namespace,
    /// Where a script tells of what it did; empty for nowhere.
    channel: String,
    scripts: &'static Scripts,
}

/// The scripts of one way to make fences.
pub(crate) struct Scripts {
    open: Script,
    commit: Script,
    invalidate: Script,
}

macro_rules! script {
    ($($file:literal),*) => {
        Script::new(concat!(
            include_str!("../../redis/lua/integers.lua"),
            include_str!("lua/prelude.lua"),
            $(include_str!($file)),*
        ))
    };
}

/// Fences from the server's clock: a far tier.
pub(crate) static BY_CLOCK: LazyLock<Scripts> = LazyLock::new(|| Scripts {
    open: script!("../../far/redis/lua/look_up_or_lease.lua"),
    commit: script!("lua/by_clock.lua", "lua/commit.lua"),
    invalidate: script!("lua/by_clock.lua", "lua/invalidate.lua"),
});
/// Fences from a lock somewhere else: a store.
pub(crate) static BY_LOCK: LazyLock<Scripts> = LazyLock::new(|| Scripts {
    open: script!("lua/by_lock.lua", "lua/begin.lua"),
    commit: script!("lua/by_lock.lua", "lua/commit.lua"),
    invalidate: script!("lua/by_lock.lua", "lua/invalidate.lua"),
});
static RENEW: LazyLock<Script> = LazyLock::new(|| script!("lua/renew.lua"));
static RELEASE: LazyLock<Script> = LazyLock::new(|| script!("lua/release.lua"));

/// The answer to an attempt to open.
pub(crate) enum Opened<V> {
    Hit(Arc<Entry<V>>),
    /// What else a script says: a number, and what belongs to it.
    Other(i64, Vec<Value>),
}

impl<C> Records<C> {
    pub(crate) fn new(
        connection: Connection,
        codec: C,
        keys: Namespace,
        channel: String,
        scripts: &'static Scripts,
    ) -> Self {
        let clock = ServerClock::new(Clock::system());
        Self { connection, clock, codec, keys, channel, scripts }
    }

    pub(crate) fn clock(&self) -> &Clock {
        self.clock.own()
    }

    pub(crate) fn codec(&self) -> &C {
        &self.codec
    }

    pub(crate) async fn get<V>(&self, name: &str) -> Result<Option<Arc<Entry<V>>>, Error>
    where
        C: Codec<V>,
    {
        if !self.clock.is_known() {
            self.ask_time().await?;
        }
        let key = self.keys.key(name);
        let mut get = Cmd::with_capacity(2, 3 + key.len());
        get.arg("GET").arg(key);
        let bytes: Option<Vec<u8>> = self.connection.query(&get).await?;
        Ok(bytes.and_then(|bytes| self.entry(bytes.into())).map(Arc::new))
    }

    /// The fresh entry, or what the script that opens says otherwise.
    pub(crate) async fn open<V>(
        &self,
        name: &str,
        token: Token,
        ttl: Duration,
    ) -> Result<Opened<V>, Error>
    where
        C: Codec<V>,
    {
        let mut unusable = "";
        loop {
            let mut call = self.scripts.open.key(self.keys.key(name));
            call.key(self.lease(name)).arg(token.as_bytes()).arg(millis(ttl)).arg(unusable);
            let answer: Vec<Value> = self.connection.run(&call).await?;
            let mut answer = answer.into_iter();
            self.clock.note(answer.next().and_then(integer).ok_or_else(malformed)?);
            let kind = answer.next().and_then(integer).ok_or_else(malformed)?;
            if kind != 0 {
                return Ok(Opened::Other(kind, answer.collect()));
            }
            match answer.next().and_then(bulk).and_then(|bytes| self.entry(bytes)) {
                Some(entry) => return Ok(Opened::Hit(Arc::new(entry))),
                // Another release's value. Ask for the lease, to replace it.
                None if unusable.is_empty() => unusable = "1",
                None => return Err(malformed()),
            }
        }
    }

    pub(crate) async fn commit<V>(
        &self,
        name: &str,
        token: Token,
        record: Record<V>,
    ) -> Result<Commit<V>, Error>
    where
        C: Codec<V>,
    {
        let written = self.write(name, token.as_bytes(), record).await;
        if let Err(error) = &written
            && error.kind() == ErrorKind::Codec
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

    pub(crate) async fn put<V>(&self, name: &str, record: Record<V>) -> Result<Put<V>, Error>
    where
        C: Codec<V>,
    {
        match self.write(name, b"", record).await? {
            Written::Stored(entry) => Ok(Put::Stored(entry)),
            Written::Older(minimum) => Ok(Put::Older { minimum }),
            Written::Lost => Err(malformed()),
        }
    }

    pub(crate) async fn renew(
        &self,
        name: &str,
        token: Token,
        ttl: Duration,
    ) -> Result<Renewal, Error> {
        let mut call = RENEW.key(self.lease(name));
        call.arg(token.as_bytes()).arg(millis(ttl));
        match self.connection.run(&call).await? {
            1 => Ok(Renewal::Renewed),
            _ => Ok(Renewal::Lost),
        }
    }

    pub(crate) async fn release(&self, name: &str, token: Token) -> Result<(), Error> {
        let mut call = RELEASE.key(self.lease(name));
        call.arg(token.as_bytes()).arg(&self.channel).arg(Message::released(name));
        self.connection.run::<()>(&call).await
    }

    /// How many subscribers heard the message.
    pub(crate) async fn invalidate(
        &self,
        name: &str,
        version: Option<Version>,
        retention: Duration,
        message: Vec<u8>,
    ) -> Result<usize, Error> {
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
                        Arc::new(Entry::new(None, version, record.entry.fresh_until()))
                    }
                };
                Ok(Written::Stored(entry))
            }
            0 => Ok(Written::Lost),
            -1 => Ok(Written::Older(header::version(&detail).ok_or_else(malformed)?)),
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

enum Written<V> {
    Stored(Arc<Entry<V>>),
    Older(Version),
    Lost,
}

pub(crate) fn integer(value: Value) -> Option<i64> {
    match value {
        Value::Int(number) => Some(number),
        Value::BulkString(digits) => str::from_utf8(&digits).ok()?.parse().ok(),
        Value::SimpleString(digits) => digits.parse().ok(),
        _ => None,
    }
}

pub(crate) fn bulk(value: Value) -> Option<Bytes> {
    match value {
        Value::BulkString(bytes) => Some(bytes.into()),
        _ => None,
    }
}
