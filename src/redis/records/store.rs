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

    /// See [`read`].
    pub(super) fn entry<V>(&self, bytes: Bytes) -> Option<Entry<V>>
    where
        C: Codec<V>,
    {
        read(bytes, &self.codec, &self.clock)
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

/// The entry in these bytes. `None` for a tombstone and for what does not decode: all are a miss.
pub(crate) fn read<V>(
    bytes: Bytes,
    codec: &impl Codec<V>,
    clock: &ServerClock,
) -> Option<Entry<V>> {
    let (header, payload) = Header::split(bytes)?;
    let length = payload.len();
    let value = match header.kind {
        Kind::Value => match codec.decode(payload) {
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
    let fresh_until = clock.moment_of(header.fresh_until, header.ttl);
    let entry = Entry::new(value, header.version, fresh_until).loaded_in(header.load_time);
    entry.set_bytes(length);
    match header.terms {
        Some(terms) => entry.with_terms(&terms),
        None => Some(entry),
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::{
        Version,
        codec::Raw,
        policy::StaleFor,
        redis::fuzzing::{is_same, written},
        terms::{Tags, Terms},
    };

    fn millis() -> impl Strategy<Value = Option<Duration>> {
        proptest::option::of(any::<u32>().prop_map(|millis| Duration::from_millis(millis.into())))
    }

    fn terms() -> impl Strategy<Value = Terms> {
        let tag = (any::<String>(), any::<u64>(), any::<u64>());
        let tag = tag.prop_map(|(name, high, low)| (name.into(), Version::with_tie(high, low)));
        let tags = prop_oneof![
            Just(Tags::None),
            Just(Tags::Purged),
            vec(tag, 1..5).prop_map(|tags| Tags::Of(tags.into())),
        ];
        (millis(), millis(), tags)
            .prop_map(|(grace, if_error, tags)| Terms { stale: StaleFor { grace, if_error }, tags })
    }

    fn entries() -> impl Strategy<Value = Entry<Bytes>> {
        let value = proptest::option::of(vec(any::<u8>(), 0..50));
        (value, any::<(u64, u64)>(), any::<u32>(), terms()).prop_map(
            |(value, (high, low), load_time, terms)| {
                let until = crate::Moment::FAR_FUTURE;
                let version = Version::with_tie(high, low);
                let entry = Entry::new(value.map(Bytes::from), version, until);
                entry.loaded_in(Duration::from_micros(load_time.into())).on(terms)
            },
        )
    }

    fn read_back(bytes: &[u8], clock: &ServerClock) -> Option<Entry<Bytes>> {
        read(Bytes::copy_from_slice(bytes), &Raw, clock)
    }

    proptest! {
        #[test]
        fn any_entry_is_read_as_it_was_written(
            entry in entries(),
            now in 0_i64..1 << 42,
            remaining in 0_u32..1 << 22,
            longer in 0_u32..100,
        ) {
            let clock = ServerClock::new(Clock::manual());
            clock.note(now);
            let until = now.unsigned_abs() + 1000 * u64::from(remaining);
            let bytes = written(&entry, until, remaining + longer);
            let again = read_back(&bytes, &clock).expect("an entry of ours");
            prop_assert!(is_same(&entry, &again));
            let remaining = Duration::from_secs(remaining.into());
            prop_assert_eq!(again.fresh_until(), clock.own().now().after(remaining));
        }

        #[test]
        fn a_part_of_an_entry_is_none_unless_the_value_alone_is_cut(entry in entries()) {
            let clock = ServerClock::new(Clock::manual());
            let bytes = written(&entry, 0, 0);
            let value = entry.value().map_or(0, |value| value.len());
            for end in 0..bytes.len() {
                let is_read = read_back(&bytes[..end], &clock).is_some();
                prop_assert_eq!(is_read, end >= bytes.len() - value, "{} of {}", end, bytes.len());
            }
        }

        #[test]
        fn any_bytes_are_an_entry_or_none(
            bytes in vec(any::<u8>(), 0..200),
            kind in prop::sample::select(b"VvNnT".to_vec()),
        ) {
            crate::redis::fuzzing::entry(&bytes);
            crate::redis::fuzzing::entry(&[&[2, kind][..], &bytes].concat());
        }
    }
}
