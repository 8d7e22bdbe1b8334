//! The far tier: the store that processes share, which also grants the leases.
//!
//! [`Far`] joins the two on purpose. Whether a commit may be written depends on the lease, the version and the
//! fence at one moment, and only a store that sees all three can decide it atomically.
//!
//! # The contract
//!
//! A *record* of a name is an entry, or a tombstone: an invalidation's version without a value.
//! Every implementer MUST:
//!
//! 1. *(one holder)* grant a lease only while no other is live; successive grants of a name carry
//!    growing fencing tokens.
//! 2. *(token)* refuse a commit whose token is not the current lease's: [`Commit::Lost`].
//! 3. *(never backwards)* refuse a commit or put whose version is below the record's:
//!    [`Commit::Older`]. An equal version is accepted.
//! 4. *(integers)* compare versions as two unsigned 64-bit integers.
//! 5. *(revoke)* end the current lease with every invalidation and every put that is stored, before
//!    acknowledging it.
//! 6. *(tombstone)* keep the version of an invalidation for its retention, and report it as the
//!    minimum with the next grant. An entry at or above that version stays, and is kept as long. What is written
//!    meanwhile does not shorten that: its version is kept until then.
//! 7. *(idempotent)* let a call be repeated with the same token without a second effect: a call that timed
//!    out may have been carried out.
//! 8. *(expiry)* end a lease that is not renewed after its ttl, and let a renewal extend only the lease of
//!    its token.
//! 9. *(messages)* tell every watcher, in every process, after it took effect, of each put and invalidation, and of each
//!    commit that replaced an entry of an older version: there alone can be an older near entry. While messages arrive,
//!    [`Attempt::Held`] is followed by a message to whoever got it when that lease ends by commit, release or failure. A
//!    commit that nobody waits for, and that replaced nothing older, needs none. Tell of [`Event::Disconnected`] as soon
//!    as messages may be lost, and of [`Event::Connected`] when they arrive again.
//! 10. *(bounded)* end every call within the implementer's own timeout.
//! 11. *(cancel safe)* stay consistent when a call's future is dropped; the call may then have been
//!     carried out or not.
//! 12. *(quiet)* show no key and no value in an error or log.
//! 13. *(fresh enough)* answer a look-up with an entry only if it stays fresh for longer than was asked for, so
//!     that one process is elected to refresh an entry early.
//! 14. *(back-off)* after [`fail`](Far::fail) by the holder, grant no lease until the back-off is over; a put or
//!     an invalidation ends it. The next grants count the failures in a row, at least while no more than
//!     another back-off (and a second) passes between them.
//! 15. *(terms)* keep what [`Entry::terms`] gives with the entry.
//!
//! `tests/far` stamps a test per clause over every implementer.
//!
//! # What may grow
//!
//! A method that is added to [`Far`] or [`Watcher`] has a default. Answers, events and records are
//! `#[non_exhaustive]`: an implementer makes every variant as before, and may not match on all of them. So a minor
//! release may add to each.

use std::{
    fmt,
    future::Future,
    sync::{Arc, Weak},
    time::Duration,
};

use crate::{Clock, Entry, Fault, Version};

mod erased;
mod watchers;

pub(crate) use self::{erased::Erased, watchers::Watchers};
pub use crate::token::{Renewal, Token};

/// A store that processes share and that grants leases. See the [module](self) for the contract.
///
/// Implemented by [`MemoryFar`](crate::memory::MemoryFar) and `redis::RedisFar`; implement it to bring a store
/// of your own.
///
/// # Cancel safety
///
/// A dropped call may have been carried out or not: clause 11.
///
/// # Errors
///
/// Each call fails when the store cannot be reached or does not answer within the implementer's timeout
/// ([`Unreachable`](crate::FaultKind::Unreachable), [`Timeout`](crate::FaultKind::Timeout)), when it refuses
/// ([`Refused`](crate::FaultKind::Refused), [`Config`](crate::FaultKind::Config)), and a write when the value
/// cannot be encoded ([`Codec`](crate::FaultKind::Codec)). That another holds the lease, or a newer version is
/// on record, is an answer and no error.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a far tier for `{V}`",
    label = "not a `Far<{V}>`",
    note = "a connection becomes one with a codec: `RedisFar::new(connection, codec::Json)`; without servers there is `MemoryFar`",
    note = "for a store of your own, implement `cattleguard::far::Far`"
)]
pub trait Far<V>: Send + Sync + 'static {
    /// The clock whose moments are in the entries that this tier returns.
    fn clock(&self) -> &Clock;

    /// The entry of `name`, fresh or not. Tombstones are not returned.
    fn read(&self, name: &str)
    -> impl Future<Output = Result<Option<Arc<Entry<V>>>, Fault>> + Send;

    /// The entry of `name` if it is fresh for longer than `fresh_for`, or the lease on it, or how long another
    /// holds it.
    fn look_up_or_lease(
        &self,
        name: &str,
        token: Token,
        ttl: Duration,
        fresh_for: Duration,
    ) -> impl Future<Output = Result<Attempt<V>, Fault>> + Send;

    /// Writes what the holder of `token` loaded, and ends its lease, whether it was written or not.
    fn commit(
        &self,
        name: &str,
        token: Token,
        record: Record<V>,
    ) -> impl Future<Output = Result<Commit<V>, Fault>> + Send;

    /// Extends the lease of `token` to `ttl` from now.
    fn renew(
        &self,
        name: &str,
        token: Token,
        ttl: Duration,
    ) -> impl Future<Output = Result<Renewal, Fault>> + Send;

    /// Ends the lease of `token`, so that another process may load. The failures in a row may be forgotten.
    fn release(&self, name: &str, token: Token) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Ends the lease of `token`, because its load failed, and grants none for `back_off`.
    fn fail(
        &self,
        name: &str,
        token: Token,
        back_off: Duration,
    ) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Writes without a lease, unless the record is newer. Revokes the current lease.
    fn put(
        &self,
        name: &str,
        record: Record<V>,
    ) -> impl Future<Output = Result<Put<V>, Fault>> + Send;

    /// Revokes the current lease and replaces an entry below `version` (any entry, without one) with a tombstone
    /// that lasts for `retention`. An entry that stays lasts as long, too.
    fn invalidate(
        &self,
        name: &str,
        version: Option<Version>,
        retention: Duration,
    ) -> impl Future<Output = Result<Invalidated, Fault>> + Send;

    /// As [`invalidate`](Self::invalidate), for a caller that does not ask who has dropped the older entry: it waits for no
    /// confirmation, and none is sent. Default: waits all the same.
    fn invalidate_unconfirmed(
        &self,
        name: &str,
        version: Option<Version>,
        retention: Duration,
    ) -> impl Future<Output = Result<(), Fault>> + Send {
        let invalidating = self.invalidate(name, version, retention);
        async move { invalidating.await.map(drop) }
    }

    /// The entries of several names, in their order, as [`read`](Self::read) finds them. Default: one read for
    /// each, all at once.
    fn read_many(
        &self,
        names: &[&str],
    ) -> impl Future<Output = Vec<Result<Option<Arc<Entry<V>>>, Fault>>> + Send
    where
        V: Send + Sync,
    {
        futures::future::join_all(names.iter().map(|name| self.read(name)))
    }

    /// Waits until `replicas` replicas have all that was written about `name` until now, or for `timeout`. Returns
    /// how many have it. Default: zero, for a tier without replicas.
    fn replicated(
        &self,
        name: &str,
        replicas: usize,
        timeout: Duration,
    ) -> impl Future<Output = Result<usize, Fault>> + Send {
        let _ = (name, replicas, timeout);
        async { Ok(0) }
    }

    /// Tells `watcher` of every event from now on, until it is dropped. Messages count as
    /// disconnected until the first [`Event::Connected`].
    fn watch(&self, watcher: Weak<dyn Watcher>);
}

/// Is told what happens in a far tier.
pub trait Watcher: Send + Sync + 'static {
    /// Called for each event, on the task that reads the messages: must be quick and must not block.
    fn on_event(&self, event: Event<'_>);
}

/// What happened in a far tier.
#[non_exhaustive]
#[derive(Clone, Copy)]
pub enum Event<'a> {
    /// The holder of the lease has written an entry.
    Committed {
        /// The entry's name.
        name: &'a str,
        /// The entry's version. Other entries of this version are the same one.
        version: Version,
    },
    /// An entry was put, and the lease revoked.
    Put {
        /// The entry's name.
        name: &'a str,
        /// The entry's version. Other entries of this version are replaced: they may differ, where an
        /// origin has no versions.
        version: Version,
    },
    /// An entry was invalidated and its lease revoked.
    Invalidated {
        /// The entry's name.
        name: &'a str,
        /// Entries at or above this version stay valid. `None`: all are invalid.
        version: Option<Version>,
    },
    /// A lease ended without a commit.
    Released {
        /// The lease's name.
        name: &'a str,
    },
    /// Messages may be lost from now on.
    Disconnected,
    /// Messages arrive; those since the last `Disconnected` may be lost.
    Connected,
}

/// Without names: an event is for logs, too.
impl fmt::Debug for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Committed { version, .. } => {
                f.debug_struct("Committed").field("version", version).finish_non_exhaustive()
            }
            Self::Put { version, .. } => {
                f.debug_struct("Put").field("version", version).finish_non_exhaustive()
            }
            Self::Invalidated { version, .. } => {
                f.debug_struct("Invalidated").field("version", version).finish_non_exhaustive()
            }
            Self::Released { .. } => f.debug_struct("Released").finish_non_exhaustive(),
            Self::Disconnected => f.write_str("Disconnected"),
            Self::Connected => f.write_str("Connected"),
        }
    }
}

/// The answer to [`Far::look_up_or_lease`].
#[non_exhaustive]
#[derive(Debug)]
pub enum Attempt<V> {
    /// There is an entry that is fresh for long enough.
    Hit(Arc<Entry<V>>),
    /// The lease is the caller's.
    Granted(Grant),
    /// Another holds the lease.
    Held {
        /// When to look again if no message comes: the rest of that lease, or less.
        remaining: Duration,
        /// How many wait for it already, as far as is known: of many, not all should look at the moment of the message.
        ahead: usize,
    },
    /// The last load failed: no process loads until the back-off is over.
    BackOff {
        /// The rest of the back-off.
        remaining: Duration,
    },
}

/// A lease that was granted.
#[must_use = "a lease that is neither committed nor released blocks other processes for its ttl"]
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Grant {
    /// The fencing token: grows with every grant of a name.
    pub fence: u64,
    /// The version on record: a load below it will be refused.
    pub minimum: Version,
    /// How many loads of this name have failed in a row until now.
    pub failures: u32,
}

impl Grant {
    /// A lease with this fencing token, on a name whose version on record is `minimum`, after so many failures in
    /// a row.
    pub const fn new(fence: u64, minimum: Version, failures: u32) -> Self {
        Self { fence, minimum, failures }
    }
}

/// What a commit or a put writes.
#[non_exhaustive]
#[derive(Debug)]
pub struct Record<V> {
    /// The entry. Its `fresh_until` is the writer's estimate; a store with its own clock uses `ttl`.
    pub entry: Arc<Entry<V>>,
    /// The entry's version. Without one (an absence from an origin that does not version
    /// deletions) it is judged by the lease alone and takes over the version on record.
    pub version: Option<Version>,
    /// How long it is fresh.
    pub ttl: Duration,
    /// How long it, and with it its version, is kept.
    pub retention: Duration,
}

impl<V> Record<V> {
    /// A record of `entry` with its own version, fresh for `ttl`, and kept for `retention`. A guard makes it; an
    /// implementer needs it for tests.
    pub fn new(entry: Arc<Entry<V>>, ttl: Duration, retention: Duration) -> Self {
        let version = Some(entry.version());
        Self { entry, version, ttl, retention }
    }
}

/// The outcome of a commit.
#[must_use = "a refused commit was not written"]
#[non_exhaustive]
#[derive(Debug)]
pub enum Commit<V> {
    /// Written, as this entry.
    Stored(Arc<Entry<V>>),
    /// Refused: a newer version is on record.
    Older {
        /// The version on record.
        minimum: Version,
    },
    /// Refused: the lease expired or was revoked.
    Lost,
}

/// The outcome of a put.
#[must_use = "an older put was not written"]
#[non_exhaustive]
#[derive(Debug)]
pub enum Put<V> {
    /// Written.
    Stored(Arc<Entry<V>>),
    /// Refused: a newer version is on record.
    Older {
        /// The version on record.
        minimum: Version,
    },
}

/// How far an acknowledged invalidation has reached.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Invalidated {
    /// The far tier and the near tier of every connected process have dropped the older entry.
    Everywhere,
    /// The far tier has dropped the older entry. At least one process did not confirm in time that its near
    /// tier has, or it is not known which processes there are: a near tier drops it when the message arrives,
    /// or after its near ttl.
    Unconfirmed,
    /// The far tier has dropped the older entry, but fewer replicas than asked for have confirmed it:
    /// a failover now could bring it back.
    Unreplicated {
        /// How many have confirmed it.
        replicas: usize,
    },
}
