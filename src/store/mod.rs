//! Where entries are kept, for [`far::Paired`](crate::far::Paired): a store that grants no leases, and
//! goes by the fencing tokens of a lock somewhere else.
//!
//! A *load* begins at the store with its lock's fencing token and stays *open* until it is written,
//! ended, overtaken by a greater token, or revoked by a put or an invalidation. Only the open load may
//! write. That is what makes a holder harmless that lost its lock without knowing, and an
//! invalidation final whose message the holder did not hear.
//!
//! # The contract
//!
//! A *record* of a name is an entry, or a tombstone: an invalidation's version without a value. Every
//! implementer MUST:
//!
//! 1. *(fenced)* refuse a load whose fencing token is smaller than the greatest seen for the name, as
//!    long as a record or an open load remembers it.
//! 2. *(open)* refuse a write of a load that is not the open one.
//! 3. *(never backwards)* refuse a write whose version is below the record's. An equal version is
//!    accepted.
//! 4. *(integers)* compare versions and fencing tokens as unsigned 64-bit integers.
//! 5. *(revoke)* close the open load with every invalidation, and every put that is stored, before it
//!    is acknowledged.
//! 6. *(tombstone)* keep the version of an invalidation for its retention, and report it as the
//!    minimum of the next load. An entry at or above that version stays.
//! 7. *(idempotent)* let each call be repeated without another effect than the first.
//! 8. *(bounded)* end every call within the implementer's own timeout.
//! 9. *(cancel safe)* stay consistent when a call's future is dropped; the call may then have been
//!    carried out or not.
//! 10. *(quiet)* show no key and no value in an error or log.
//! 11. *(fresh enough)* let an entry stand in the way of a load only if it stays fresh for longer than was
//!     asked for.
//! 12. *(pause)* after [`fail`](Store::fail) of the open load, open none until the pause is over; a put
//!     or an invalidation ends it. The next loads count the failures in a row, at least while no longer
//!     than another pause (and a second) passes between them.
//!
//! `tests/far` stamps the contract of [`far`](crate::far) over pairs with each implementer.

use std::{future::Future, sync::Arc, time::Duration};

use crate::{
    Clock, Entry, Version,
    far::{Commit, Error, Put, Record, Renewal},
};

pub(crate) mod memory;
#[cfg(feature = "redis")]
pub(crate) mod redis;

pub use self::memory::Memory;
#[cfg(feature = "redis")]
pub use self::redis::Redis;

/// A store of entries that obeys fencing tokens. See the [module](self) for the contract.
pub trait Store<V>: Send + Sync + 'static {
    /// The clock whose moments are in the entries that this store returns.
    fn clock(&self) -> &Clock;

    /// The entry of `name`, fresh or not. Tombstones are not returned.
    fn get(&self, name: &str) -> impl Future<Output = Result<Option<Arc<Entry<V>>>, Error>> + Send;

    /// What a load of `name` would meet, asked before the lock: while there is an entry that is fresh for
    /// longer than `fresh_for`, or a pause, the lock is left alone.
    fn look_up(
        &self,
        name: &str,
        fresh_for: Duration,
    ) -> impl Future<Output = Result<Look<V>, Error>> + Send;

    /// Opens the load of the lock's holder with this fencing token, unless there is an entry that is
    /// fresh for longer than `fresh_for`, or a pause.
    fn begin(
        &self,
        name: &str,
        fence: u64,
        fresh_for: Duration,
    ) -> impl Future<Output = Result<Begin<V>, Error>> + Send;

    /// Whether the load of this fencing token is still the open one.
    fn check(&self, name: &str, fence: u64) -> impl Future<Output = Result<Renewal, Error>> + Send;

    /// Writes what the open load of this fencing token found, and closes it, written or not.
    fn commit(
        &self,
        name: &str,
        fence: u64,
        record: Record<V>,
    ) -> impl Future<Output = Result<Commit<V>, Error>> + Send;

    /// Closes the load of this fencing token without a write.
    fn end(&self, name: &str, fence: u64) -> impl Future<Output = Result<(), Error>> + Send;

    /// Closes the load of this fencing token, because it failed, and opens none for `pause`.
    fn fail(
        &self,
        name: &str,
        fence: u64,
        pause: Duration,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Writes without a load: iff not older than the record. Closes the open load.
    fn put(
        &self,
        name: &str,
        record: Record<V>,
    ) -> impl Future<Output = Result<Put<V>, Error>> + Send;

    /// Closes the open load and replaces an entry below `version` (any entry, without one) with a
    /// tombstone that lasts for `retention`.
    fn invalidate(
        &self,
        name: &str,
        version: Option<Version>,
        retention: Duration,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Waits until `replicas` replicas have all that was written about `name` until now, and says how
    /// many do. `timeout` ends the wait. Default: a store without replicas, zero.
    fn replicated(
        &self,
        name: &str,
        replicas: usize,
        timeout: Duration,
    ) -> impl Future<Output = Result<usize, Error>> + Send {
        let _ = (name, replicas, timeout);
        async { Ok(0) }
    }
}

/// The answer to [`Store::look_up`].
#[derive(Debug)]
pub enum Look<V> {
    /// There is an entry that is fresh for long enough.
    Hit(Arc<Entry<V>>),
    /// The last load failed, and none opens until the failure pause is over.
    Paused {
        /// The rest of the pause.
        remaining: Duration,
    },
    /// Neither, as far as the store can say without opening a load.
    Miss,
}

/// The answer to [`Store::begin`].
#[derive(Debug)]
pub enum Begin<V> {
    /// There is an entry that is fresh for long enough: nothing to load.
    Hit(Arc<Entry<V>>),
    /// The load is open.
    Begun {
        /// The version on record: a write below it will be refused.
        minimum: Version,
        /// How many loads of this name have failed in a row until now.
        failures: u32,
    },
    /// Refused: a greater fencing token was seen.
    Fenced,
    /// Refused: the last load failed, and none opens until the failure pause is over.
    Paused {
        /// The rest of the pause.
        remaining: Duration,
    },
}
