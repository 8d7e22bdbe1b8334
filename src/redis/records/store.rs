use std::time::Duration;

use bytes::Bytes;

use super::{
    header::{Header, Kind},
    scripts::Scripts,
    server_clock::ServerClock,
};
use crate::{
    Clock, Entry, Fault,
    codec::Codec,
    redis::{connection::Connection, namespace::Namespace},
};

/// Entries and tombstones in Redis, each beside the lease, or the open load, whose token alone may write.
pub(crate) struct Records<C> {
    pub(super) connection: Connection,
    pub(super) clock: ServerClock,
    pub(super) codec: C,
    pub(super) keys: Namespace,
    /// Where the scripts announce what they did; empty for nowhere.
    pub(super) channel: String,
    pub(super) scripts: &'static Scripts,
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

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(crate) fn clock(&self) -> &Clock {
        self.clock.own()
    }

    pub(crate) fn codec(&self) -> &C {
        &self.codec
    }

    pub(super) fn lease_key(&self, name: &str) -> String {
        self.keys.key_with(name, ":l")
    }

    /// `None` for a tombstone and for what does not decode: both are a miss.
    pub(super) fn entry<V>(&self, bytes: Bytes) -> Option<Entry<V>>
    where
        C: Codec<V>,
    {
        let (header, payload) = Header::split(bytes)?;
        let length = payload.len();
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
        let entry = Entry::new(value, header.version, fresh_until).loaded_in(header.load_time);
        entry.set_bytes(length);
        Some(entry)
    }

    /// Waits until `replicas` replicas have what was written about `name` until now.
    pub(crate) async fn replicated(
        &self,
        name: &str,
        replicas: usize,
        timeout: Duration,
    ) -> Result<usize, Fault> {
        self.connection.replicated(&self.keys.key_with(name, ":w"), replicas, timeout).await
    }
}
