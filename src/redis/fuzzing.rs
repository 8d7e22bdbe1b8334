//! What comes from Redis: entries, leases and messages, and the keys that names are spelt as there.

use bytes::Bytes;

use super::{
    channel::Scope,
    message::{DirectMessage, Message},
    namespace::Namespace,
    records::{self, Kind, ServerClock},
};
use crate::{Clock, Entry, codec::Raw};

/// An entry is written as it was read, and so is read again. Leases are read as well: they stand beside it.
pub(crate) fn entry(bytes: &[u8]) -> bool {
    let _ = (records::grant(bytes), records::back_off(bytes));
    let clock = ServerClock::new(Clock::manual());
    let read = |bytes: &[u8]| records::read(Bytes::copy_from_slice(bytes), &Raw, &clock);
    let Some(entry) = read(bytes) else { return false };
    let again = written(&entry, 0, 0);
    assert!(again.len() <= bytes.len(), "it grows");
    let again = read(&again).expect("an entry of ours");
    assert!(is_same(&entry, &again), "it changes");
    true
}

/// The same but for its times, which are moments of a clock.
pub(crate) fn is_same(one: &Entry<Bytes>, other: &Entry<Bytes>) -> bool {
    let all = |entry: &Entry<Bytes>| (entry.version(), entry.load_time(), entry.terms());
    all(one) == all(other) && one.value() == other.value()
}

/// The bytes of an entry: what `lua/commit.lua` puts before what this process sends.
pub(crate) fn written(entry: &Entry<Bytes>, fresh_until: u64, ttl: u32) -> Vec<u8> {
    let terms = entry.terms();
    let kind = if entry.value().is_some() { Kind::Value } else { Kind::Absent };
    let mut bytes = vec![2];
    bytes.extend(kind.letter(terms.is_some()).bytes());
    bytes.extend(entry.version().to_bytes());
    bytes.extend(*b"no floor");
    bytes.extend(fresh_until.to_be_bytes());
    bytes.extend(ttl.to_be_bytes());
    bytes.extend(records::before_value(entry.load_time(), terms.as_deref()));
    bytes.extend(entry.value().into_iter().flatten());
    bytes
}

/// A message is sent as it was read, and so is one for a single process.
pub(crate) fn message(bytes: &[u8]) -> bool {
    let event = Message::read(bytes);
    if let Some((event, reply_to)) = event {
        let again = Message::of(event, reply_to).expect("it is about a name");
        let [kind, name] = [bytes, &again].map(|bytes| (bytes[0], &bytes[45..]));
        assert_eq!(kind, name, "kind and name");
        // These have no version, or nobody to reply to: what stands there says nothing.
        assert!(matches!(bytes[0], b'D' | b'R') || again == bytes, "it changes");
    }
    match DirectMessage::read(bytes) {
        Some(DirectMessage::Wakeup { channel, message }) => {
            let (_, topic) = Scope::of(channel);
            assert!(channel.ends_with(topic));
            let _ = Message::read(message);
        }
        Some(DirectMessage::Confirmations { by, numbers }) => {
            let numbers: Vec<_> = numbers.collect();
            assert!(bytes.starts_with(&DirectMessage::confirmations(by, &numbers)));
        }
        None => return event.is_some(),
    }
    true
}

/// A key tells namespace and name, and its braces hold all of it but `cg:`.
pub(crate) fn key(namespace: &str, name: &str) {
    let key = Namespace::new("cg", namespace).key(name);
    assert!(key.len() <= "cg:{:}".len() + 3 * (namespace.len() + name.len()), "too long");
    let tagged = key.strip_prefix("cg:{").and_then(|rest| rest.strip_suffix('}'));
    let tagged = tagged.filter(|tagged| !tagged.contains(['{', '}'])).expect("one hash tag");
    let parts = tagged.split_once(':').expect("a colon");
    assert_eq!((plain(parts.0), plain(parts.1)), (namespace.to_owned(), name.to_owned()));
}

fn plain(escaped: &str) -> String {
    let escapes = [("%7B", "{"), ("%7D", "}"), ("%3A", ":"), ("%25", "%")];
    escapes.iter().fold(escaped.to_owned(), |text, (code, plain)| text.replace(code, plain))
}
