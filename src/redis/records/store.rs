use std::{sync::Arc, time::Duration};

use ::redis::{FromRedisValue, Script, ScriptInvocation};
use bytes::Bytes;

use super::{
    header::{Header, Kind},
    scripts::Scripts,
    server_clock::ServerClock,
};
use crate::{
    Clock, Entry, Fault,
    codec::Codec,
    redis::{
        channel::Address, connection::Connection, messages::Messages, namespace::Namespace,
        permissions::Permissions,
    },
};

/// Entries and tombstones in Redis, each beside the lease, or the open load, whose token alone may write.
pub(crate) struct Records<C> {
    pub(super) connection: Connection,
    pub(super) clock: ServerClock,
    pub(super) codec: C,
    pub(super) keys: Arc<Namespace>,
    /// Who hears what the scripts did; nobody if that is told in another way.
    messages: Option<Messages>,
    pub(super) scripts: &'static Scripts,
    pub(super) permissions: Arc<Permissions>,
}

impl<C> Records<C> {
    pub(crate) fn new(
        connection: Connection,
        codec: C,
        keys: Arc<Namespace>,
        messages: Option<Messages>,
        scripts: &'static Scripts,
        permissions: Arc<Permissions>,
    ) -> Self {
        let clock = ServerClock::new(Clock::system());
        Self { connection, clock, codec, keys, messages, scripts, permissions }
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

    /// Runs a script that asks for the time with its last argument.
    pub(super) async fn run<T: FromRedisValue + Send>(
        &self,
        script: &Script,
        arguments: impl FnOnce(&mut ScriptInvocation<'_>),
    ) -> Result<T, Fault> {
        let mut call = script.prepare_invoke();
        arguments(&mut call);
        call.arg(self.time_argument());
        let answer = self.connection.run(&call).await;
        self.doubt_if_refused(&answer);
        answer
    }

    /// Where a script tells what it does to `name`.
    pub(super) fn address(&self, name: &str) -> Address {
        self.messages.as_ref().map(|messages| messages.address(name)).unwrap_or_default()
    }

    /// Publishes what a script could not. How many heard it.
    pub(super) async fn publish(&self, address: &Address, message: &[u8]) -> usize {
        let Some(messages) = &self.messages else { return 0 };
        match messages.publish(address, message).await {
            Ok(receivers) => receivers,
            // What it is about has been done.
            Err(fault) => {
                tracing::debug!(%fault, "message not sent; waiters look for themselves");
                0
            }
        }
    }

    /// `None` for a tombstone and for what does not decode: all are a miss.
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
        let fresh_until = self.clock.moment_of(header.fresh_until, header.ttl);
        let entry = Entry::new(value, header.version, fresh_until).loaded_in(header.load_time);
        entry.set_bytes(length);
        match header.terms {
            Some(terms) => entry.with_terms(&terms),
            None => Some(entry),
        }
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
