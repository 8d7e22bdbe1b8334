//! The bytes of messages. Of one about a far tier: kind (1) | version (16) | reply to (28) | name. Of a message to one process:
//! length of a channel (2) | that channel | a message for it; without a channel, who confirms (16) | the numbers (8 each)
//! of the messages.

use super::channel::ProcessId;
use crate::{Version, far::Event};

/// Who counts the confirmations of a message, its number for it, and how many processes confirmed the last one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ReplyTo {
    pub(crate) process: ProcessId,
    pub(crate) number: u64,
    pub(crate) fleet: u32,
}

const REPLY_TO: usize = 28;
const NO_REPLY: [u8; REPLY_TO] = [0; REPLY_TO];

/// Puts events into bytes and back.
pub(crate) struct Message;

impl Message {
    /// What follows kind and version, which a script puts before it.
    pub(crate) fn tail(name: &str, reply_to: Option<ReplyTo>) -> Vec<u8> {
        let mut tail = Vec::with_capacity(REPLY_TO + name.len());
        match reply_to {
            Some(ReplyTo { process, number, fleet }) => {
                tail.extend_from_slice(&process);
                tail.extend_from_slice(&number.to_be_bytes());
                tail.extend_from_slice(&fleet.to_be_bytes());
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
        let (reply_to, name) = rest.split_first_chunk::<REPLY_TO>()?;
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
        let reply_to = (*reply_to != NO_REPLY).then(|| ReplyTo::read(reply_to)).flatten();
        Some((event, reply_to))
    }
}

impl ReplyTo {
    fn read(bytes: &[u8]) -> Option<Self> {
        let (&process, rest) = bytes.split_first_chunk()?;
        let (&number, rest) = rest.split_first_chunk()?;
        let (&fleet, _) = rest.split_first_chunk()?;
        let (number, fleet) = (u64::from_be_bytes(number), u32::from_be_bytes(fleet));
        Some(Self { process, number, fleet })
    }
}

/// What arrives on the channel of a process.
pub(super) enum DirectMessage<'a, N> {
    /// A message for the listeners of a channel, sent to those only that wait for it.
    Wakeup { channel: &'a str, message: &'a [u8] },
    /// The numbers of messages that another process has acted on.
    Confirmations { by: ProcessId, numbers: N },
}

impl DirectMessage<'_, ()> {
    pub(super) fn confirmations(by: ProcessId, numbers: &[u64]) -> Vec<u8> {
        let mut bytes = vec![0, 0];
        bytes.extend(by);
        bytes.extend(numbers.iter().flat_map(|number| number.to_be_bytes()));
        bytes
    }

    /// `None` for what this release does not understand.
    pub(super) fn read(bytes: &[u8]) -> Option<DirectMessage<'_, impl Iterator<Item = u64>>> {
        let (&length, rest) = bytes.split_first_chunk()?;
        let (channel, message) = rest.split_at_checked(u16::from_be_bytes(length).into())?;
        if !channel.is_empty() {
            return Some(DirectMessage::Wakeup { channel: str::from_utf8(channel).ok()?, message });
        }
        let (&by, numbers) = message.split_first_chunk()?;
        let numbers = numbers.chunks_exact(8).filter_map(|number| number.try_into().ok());
        Some(DirectMessage::Confirmations { by, numbers: numbers.map(u64::from_be_bytes) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_round_trip() {
        let reply_to = ReplyTo { process: [7; 16], number: 1 << 60, fleet: 200 };
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
        for rubbish in [&b""[..], b"C", b"Cshort", &[0xff; 80], &[b'C'; 44]] {
            assert!(Message::read(rubbish).is_none());
        }
        for rubbish in [&b""[..], b"\0", b"\0\x02a", b"\0\x01\xff", b"\0\0short"] {
            assert!(DirectMessage::read(rubbish).is_none());
        }
    }

    #[test]
    fn direct_messages_are_read() {
        let sent = DirectMessage::confirmations([7; 16], &[1, 1 << 60]);
        let Some(DirectMessage::Confirmations { by, numbers }) = DirectMessage::read(&sent) else {
            panic!()
        };
        assert_eq!((by, numbers.collect::<Vec<_>>()), ([7; 16], vec![1, 1 << 60]));
        // As the script writes it.
        let sent = b"\0\x02cgmessage";
        let Some(DirectMessage::Wakeup { channel, message }) = DirectMessage::read(sent) else {
            panic!()
        };
        assert_eq!((channel, message), ("cg", &b"message"[..]));
    }
}
