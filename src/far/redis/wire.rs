//! What is written to Redis: names of keys, the header of an entry, messages. The scripts in `lua/`
//! read and write the same layout; `lua/prelude.lua` states it.

use bytes::{Buf, Bytes};

use crate::{
    Version,
    far::{Error, ErrorKind, Event},
};

pub(super) const HEADER: usize = 34;
const FORMAT: u8 = 1;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Value,
    Absent,
    Tombstone,
}

impl Kind {
    pub(super) fn letter(self) -> &'static str {
        match self {
            Self::Value => "V",
            Self::Absent => "N",
            Self::Tombstone => "T",
        }
    }
}

pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) version: Version,
    /// Milliseconds of the server's clock.
    pub(super) fresh_until: u64,
}

impl Header {
    /// The header and the payload; `None` for bytes that no release of ours wrote.
    pub(super) fn split(mut bytes: Bytes) -> Option<(Self, Bytes)> {
        if bytes.len() < HEADER || bytes[0] != FORMAT {
            return None;
        }
        let kind = match bytes[1] {
            b'V' => Kind::Value,
            b'N' => Kind::Absent,
            b'T' => Kind::Tombstone,
            _ => return None,
        };
        let version = version(&bytes[2..18])?;
        let fresh_until = u64::from_be_bytes(bytes[26..34].try_into().ok()?);
        bytes.advance(HEADER);
        Some((Self { kind, version, fresh_until }, bytes))
    }
}

pub(super) fn version(bytes: &[u8]) -> Option<Version> {
    Some(Version::from_bytes(bytes.try_into().ok()?))
}

/// How the keys of one namespace are spelt: `cg:{namespace:name}` and, for the lease, the same with
/// `:l`. The braces put both into one slot of a cluster.
pub(super) struct Keys {
    prefix: String,
}

impl Keys {
    pub(super) fn new(namespace: &str) -> Self {
        let mut prefix = "cg:{".to_owned();
        // The colon ends the namespace, also an empty one; one inside it must look different.
        let mut escaped = String::new();
        escape(namespace, &mut escaped);
        prefix.push_str(&escaped.replace(':', "%3A"));
        prefix.push(':');
        Self { prefix }
    }

    pub(super) fn entry(&self, name: &str) -> String {
        let mut key = String::with_capacity(self.prefix.len() + name.len() + 3);
        key.push_str(&self.prefix);
        escape(name, &mut key);
        key.push('}');
        key
    }

    pub(super) fn lease(&self, name: &str) -> String {
        let mut key = self.entry(name);
        key.push_str(":l");
        key
    }

    /// The channel of this namespace's messages. Not a hash tag: no key has this form.
    pub(super) fn channel(&self) -> String {
        format!("{}}}:events", self.prefix)
    }
}

/// Percent-encodes what would end a hash tag early, and the escape itself.
fn escape(text: &str, into: &mut String) {
    for part in text.split_inclusive(['{', '}', '%']) {
        let plain = part.trim_end_matches(['{', '}', '%']);
        into.push_str(plain);
        into.push_str(match &part[plain.len()..] {
            "{" => "%7B",
            "}" => "%7D",
            "%" => "%25",
            _ => "",
        });
    }
}

/// Names one process's subscription, for the confirmations of its invalidations.
pub(super) type Subscriber = [u8; 16];

/// Who wants to hear that a message was acted upon, and under what number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ReplyTo {
    pub(super) subscriber: Subscriber,
    pub(super) number: u64,
}

const NO_REPLY: [u8; 24] = [0; 24];

/// kind (1) | version (16) | reply to (24) | name
pub(super) struct Message;

impl Message {
    /// What follows kind and version, which a script puts before it.
    pub(super) fn tail(name: &str, reply_to: Option<ReplyTo>) -> Vec<u8> {
        let mut tail = Vec::with_capacity(24 + name.len());
        match reply_to {
            Some(ReplyTo { subscriber, number }) => {
                tail.extend_from_slice(&subscriber);
                tail.extend_from_slice(&number.to_be_bytes());
            }
            None => tail.extend_from_slice(&NO_REPLY),
        }
        tail.extend_from_slice(name.as_bytes());
        tail
    }

    pub(super) fn invalidated(
        name: &str,
        version: Option<Version>,
        reply_to: Option<ReplyTo>,
    ) -> Vec<u8> {
        let kind = if version.is_some() { b'I' } else { b'D' };
        Self::whole(kind, version, &Self::tail(name, reply_to))
    }

    pub(super) fn released(name: &str) -> Vec<u8> {
        Self::whole(b'R', None, &Self::tail(name, None))
    }

    fn whole(kind: u8, version: Option<Version>, tail: &[u8]) -> Vec<u8> {
        let mut message = vec![kind];
        message.extend_from_slice(&version.unwrap_or_default().to_bytes());
        message.extend_from_slice(tail);
        message
    }

    /// `None` for what this release does not understand.
    pub(super) fn read(message: &[u8]) -> Option<(Event<'_>, Option<ReplyTo>)> {
        let (&kind, rest) = message.split_first()?;
        let (found, rest) = rest.split_at_checked(16)?;
        let (reply_to, name) = rest.split_at_checked(24)?;
        let name = str::from_utf8(name).ok()?;
        let found = version(found)?;
        let event = match kind {
            b'C' => Event::Committed { name, version: found },
            b'P' => Event::Put { name, version: found },
            b'I' => Event::Invalidated { name, version: Some(found) },
            b'D' => Event::Invalidated { name, version: None },
            b'R' => Event::Released { name },
            _ => return None,
        };
        let reply_to = (reply_to != NO_REPLY).then(|| reply_to.split_at(16)).and_then(
            |(subscriber, number)| {
                Some(ReplyTo {
                    subscriber: subscriber.try_into().ok()?,
                    number: u64::from_be_bytes(number.try_into().ok()?),
                })
            },
        );
        Some((event, reply_to))
    }
}

/// The channel on which a subscriber hears confirmations.
pub(super) fn reply_channel(subscriber: Subscriber) -> String {
    format!("cg:replies:{:032x}", u128::from_be_bytes(subscriber))
}

pub(super) fn malformed() -> Error {
    Error::new(ErrorKind::Refused, "an answer of a script has an unknown form")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_one_key_and_one_slot() {
        let keys = Keys::new("");
        assert_eq!(keys.entry("42"), "cg:{:42}");
        assert_eq!(keys.lease("42"), "cg:{:42}:l");
        assert_eq!(keys.entry("a{b}c%"), "cg:{:a%7Bb%7Dc%25}");
        assert_eq!(keys.entry("}}{"), "cg:{:%7D%7D%7B}");
        assert_eq!(keys.entry(""), "cg:{:}");
        assert_ne!(keys.entry("users:42"), Keys::new("users").entry("42"));
        assert_eq!(Keys::new("users").entry(""), "cg:{users:}");
        assert_eq!(Keys::new("users").entry("42"), "cg:{users:42}");
        assert_eq!(Keys::new("a:b").entry("c"), "cg:{a%3Ab:c}");
        assert_eq!(Keys::new("users").channel(), "cg:{users:}:events");
    }

    #[test]
    fn messages_round_trip() {
        let reply_to = ReplyTo { subscriber: [7; 16], number: 1 << 60 };
        let message = Message::invalidated("näme", Some(Version::new(9)), Some(reply_to));
        let (event, reply) = Message::read(&message).expect("our own message");
        assert!(
            matches!(event, Event::Invalidated { name: "näme", version: Some(v) } if v == Version::new(9))
        );
        assert_eq!(reply, Some(reply_to));
        let released = Message::released("k");
        let (event, reply) = Message::read(&released).expect("our own message");
        assert!(matches!(event, Event::Released { name: "k" }) && reply.is_none());
    }

    #[test]
    fn rubbish_is_no_message_and_no_entry() {
        for rubbish in [&b""[..], b"C", b"Cshort", &[0xff; 80], &[b'C'; 40]] {
            assert!(Message::read(rubbish).is_none());
            assert!(Header::split(Bytes::copy_from_slice(rubbish)).is_none());
        }
    }
}
