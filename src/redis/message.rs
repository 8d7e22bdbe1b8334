//! The bytes of a message about a far tier: kind (1) | version (16) | reply to (24) | name.

use crate::{Version, far::Event};

/// Names one process's subscription, for the confirmations of its invalidations.
pub(crate) type SubscriberId = [u8; 16];

/// The subscriber that counts the confirmations of a message, and its number for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ReplyTo {
    pub(crate) subscriber: SubscriberId,
    pub(crate) number: u64,
}

const NO_REPLY: [u8; 24] = [0; 24];

/// Puts events into bytes and back.
pub(crate) struct Message;

impl Message {
    /// What follows kind and version, which a script puts before it.
    pub(crate) fn tail(name: &str, reply_to: Option<ReplyTo>) -> Vec<u8> {
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

    pub(crate) fn invalidated(
        name: &str,
        version: Option<Version>,
        reply_to: Option<ReplyTo>,
    ) -> Vec<u8> {
        let kind = if version.is_some() { b'I' } else { b'D' };
        Self::whole(kind, version, &Self::tail(name, reply_to))
    }

    pub(crate) fn released(name: &str) -> Vec<u8> {
        Self::whole(b'R', None, &Self::tail(name, None))
    }

    /// `None` for what is no message: a connection's beginning and end.
    pub(crate) fn of(event: Event<'_>, reply_to: Option<ReplyTo>) -> Option<Vec<u8>> {
        Some(match event {
            Event::Committed { name, version } => {
                Self::whole(b'C', Some(version), &Self::tail(name, reply_to))
            }
            Event::Put { name, version } => {
                Self::whole(b'P', Some(version), &Self::tail(name, reply_to))
            }
            Event::Invalidated { name, version } => Self::invalidated(name, version, reply_to),
            Event::Released { name } => Self::released(name),
            Event::Disconnected | Event::Connected => return None,
        })
    }

    fn whole(kind: u8, version: Option<Version>, tail: &[u8]) -> Vec<u8> {
        let mut message = vec![kind];
        message.extend_from_slice(&version.unwrap_or_default().to_bytes());
        message.extend_from_slice(tail);
        message
    }

    /// `None` for what this release does not understand.
    pub(crate) fn read(message: &[u8]) -> Option<(Event<'_>, Option<ReplyTo>)> {
        let (&kind, rest) = message.split_first()?;
        let (found, rest) = rest.split_at_checked(16)?;
        let (reply_to, name) = rest.split_at_checked(24)?;
        let name = str::from_utf8(name).ok()?;
        let found = Version::from_bytes(found.try_into().ok()?);
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

#[cfg(test)]
mod tests {
    use super::*;

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
    fn rubbish_is_no_message() {
        for rubbish in [&b""[..], b"C", b"Cshort", &[0xff; 80], &[b'C'; 40]] {
            assert!(Message::read(rubbish).is_none());
        }
    }
}
