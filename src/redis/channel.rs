//! The channels of messages.
//!
//! One server, and a Cluster older than Redis 7, have plain channels: one for each topic, and one for each process. A
//! Cluster of Redis 7 has sharded channels, which stay in a node: each topic and each process has one for every
//! [`Bucket`] of slots. A script publishes where its record is, so the load is spread as the records are, and who
//! listens there is counted.

use std::{collections::HashMap, sync::LazyLock};

use ::redis::{RedisWrite, ToRedisArgs, cluster_routing::Slot};

/// Names a process that is subscribed. Made of characters that any channel may have.
pub(super) type ProcessId = [u8; 16];

/// What a listener listens to: a namespace's events, say.
pub(super) type Topic = str;

const SLOTS: u16 = 16_384;

/// How many buckets there are: so many channels for each topic and process. The more, the fewer records are on
/// another node than their bucket's channel, and need one more command.
pub(super) const BUCKETS: u16 = 64;

/// Neighbouring slots, whose messages go over one channel.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Bucket(u16);

impl Bucket {
    pub(super) fn all() -> impl Iterator<Item = Self> {
        (0..BUCKETS).map(Self)
    }

    pub(super) fn of_key(key: &str) -> Self {
        BUCKET_OF[&Slot::for_key(key)]
    }

    /// A slot of this bucket, in which all its channels are.
    pub(super) fn slot(self) -> u16 {
        TAGS[usize::from(self.0)].1
    }
}

static BUCKET_OF: LazyLock<HashMap<Slot, Bucket>> = LazyLock::new(|| {
    let slots = (0..SLOTS).filter_map(|slot| Some((Slot::new(slot)?, slot)));
    slots.map(|(key, slot)| (key, Bucket(slot / (SLOTS / BUCKETS)))).collect()
});

/// For each bucket the first number that is in one of its slots as a hash tag, and that slot.
static TAGS: LazyLock<Vec<(u32, u16)>> = LazyLock::new(|| {
    let number_of: HashMap<_, _> =
        (0..SLOTS).filter_map(|slot| Some((Slot::new(slot)?, slot))).collect();
    let mut tags = vec![None; usize::from(BUCKETS)];
    let mut missing = tags.len();
    for tag in 0_u32.. {
        let slot = number_of[&Slot::for_key(tag.to_string())];
        let found = &mut tags[usize::from(slot / (SLOTS / BUCKETS))];
        missing -= usize::from(found.is_none());
        found.get_or_insert((tag, slot));
        if missing == 0 {
            break;
        }
    }
    tags.into_iter().flatten().collect()
});

/// How far a message goes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub(super) enum Scope {
    /// All nodes, if there are several.
    #[default]
    Global,
    Shard(Bucket),
}

impl Scope {
    /// The scope of a channel, and its topic. No namespace's braces hold nothing but a number: see `Namespace`.
    pub(super) fn of(channel: &str) -> (Self, &Topic) {
        let tagged = channel.strip_prefix("cg:{").and_then(|rest| rest.split_once("}:"));
        let sharded = tagged.and_then(|(tag, topic)| {
            let tag: u32 = tag.parse().ok()?;
            let bucket = TAGS.iter().position(|(known, _)| *known == tag)?;
            Some((Self::Shard(Bucket(u16::try_from(bucket).ok()?)), topic))
        });
        sharded.unwrap_or((Self::Global, channel))
    }

    pub(super) fn command(self) -> &'static str {
        match self {
            Self::Global => "PUBLISH",
            Self::Shard(_) => "SPUBLISH",
        }
    }

    pub(super) fn topic(self, topic: &Topic) -> String {
        match self {
            Self::Global => topic.to_owned(),
            Self::Shard(bucket) => format!("cg:{{{}}}:{topic}", TAGS[usize::from(bucket.0)].0),
        }
    }

    /// What the channel of a process begins with, before its id.
    pub(super) fn processes(self) -> String {
        self.topic("cg:process:")
    }

    pub(super) fn process(self, process: ProcessId) -> String {
        self.processes() + &String::from_utf8_lossy(&process)
    }
}

/// Where messages about a name go; by default nowhere.
#[derive(Default)]
pub(super) struct Address {
    pub(super) scope: Scope,
    /// What a script publishes with. Empty if the client publishes.
    pub(super) command: &'static str,
    /// Empty if nobody publishes.
    pub(super) events: String,
    pub(super) processes: String,
    /// The channel of who is to confirm. Empty where nobody else hears a message: no one listens to a sharded channel
    /// by a pattern.
    pub(super) subscribers: String,
}

/// As the scripts take it: command, events, processes.
impl ToRedisArgs for Address {
    fn write_redis_args<W: ?Sized + RedisWrite>(&self, out: &mut W) {
        for part in [self.command, &self.events, &self.processes] {
            out.write_arg(part.as_bytes());
        }
    }
}

/// An id that no other process has: 96 random bits.
pub(super) fn random_process() -> ProcessId {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    crate::token::Token::random().as_bytes().map(|byte| LETTERS[usize::from(byte & 63)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bucket_has_a_channel_in_one_of_its_slots() {
        for bucket in Bucket::all() {
            let channel = Scope::Shard(bucket).topic("cg:{users:}:events");
            assert_eq!(Bucket::of_key(&channel), bucket, "{channel}");
            assert_eq!(Slot::new(bucket.slot()), Some(Slot::for_key(&channel)));
            assert!(channel.starts_with("cg:"), "{channel}");
            assert_eq!(Scope::of(&channel), (Scope::Shard(bucket), "cg:{users:}:events"));
        }
    }

    #[test]
    fn a_namespace_is_not_taken_for_a_bucket() {
        for channel in ["cg:{17:}:events", "cg:{:}:events", "cg:process:abc", "cg:lock:17"] {
            assert_eq!(Scope::of(channel), (Scope::Global, channel));
        }
    }
}
