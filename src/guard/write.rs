use super::{Core, Guard};
use crate::{
    Error, Key, Loaded, Version,
    far::{Invalidated, Put},
};

/// What became of a [`put`](Guard::put).
#[must_use = "an older value was not stored"]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Write {
    /// Stored in the far tier; the next fetch brings it near.
    Stored,
    /// Refused: a newer version is on record.
    Older {
        /// The version on record.
        minimum: Version,
    },
}

impl<K: Key + ?Sized, V: Send + Sync + 'static> Guard<K, V> {
    /// Writes through: stores a value that the caller has just written to the origin, iff it is not
    /// older than what is on record, and revokes the lease of the load in the air. Call it after the
    /// origin's transaction has committed.
    ///
    /// It is guarded against older puts while a version record lives: ttl + grace + margin of the
    /// [`Policy`](crate::Policy).
    ///
    /// An absence should have a version here (that of the deletion): there is no lease to judge one
    /// without, so it is always stored. [`uncacheable`](Loaded::uncacheable) has no meaning here.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, the value may have been stored or not. The origin has it in any
    /// case; put or invalidate again if it matters.
    ///
    /// # Errors
    ///
    /// [`Error::Far`], when the far tier did not confirm. The near entry has been dropped then.
    ///
    /// # Examples
    ///
    /// ```
    /// # async fn show(guard: cattleguard::Guard<u64, String>) -> Result<(), cattleguard::Error> {
    /// use cattleguard::{Loaded, Write};
    ///
    /// // UPDATE users SET name = 'Ada', version = version + 1 … RETURNING version
    /// let version = 18;
    /// match guard.put(&42, Loaded::found("Ada".to_owned(), version)).await? {
    ///     Write::Stored => {}
    ///     Write::Older { minimum } => println!("somebody wrote version {minimum} meanwhile"),
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn put(&self, key: &K, value: Loaded<V>) -> Result<Write, Error> {
        let name = key.name();
        let core = &*self.core;
        let record = core.record(value);
        // Before and after, as for an invalidation. Nothing is kept near: an invalidation by another
        // process may come between the store's answer and here, and its message would have found
        // nothing to drop.
        core.forget_below(&name, record.version);
        let put = core.far.put(&name, record).await;
        match put {
            Ok(Put::Stored(entry)) => {
                core.forget(&name, |near| near <= entry.version());
                Ok(Write::Stored)
            }
            Ok(Put::Older { minimum }) => {
                core.forget_below(&name, Some(minimum));
                Ok(Write::Older { minimum })
            }
            Err(error) => {
                core.forget_below(&name, None);
                Err(error.into())
            }
        }
    }

    /// Makes every tier forget `key`, and revokes the lease of the load in the air: once this
    /// returns, no load that began before can fill the cache, and a caller who comes later does not
    /// get its answer. Call it after the origin's transaction has committed.
    ///
    /// [`Invalidated::Everywhere`] says that also the near tiers of all connected processes have
    /// confirmed; the far tier has in any case.
    ///
    /// Prefer [`invalidate_at`](Self::invalidate_at) where the version is known.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, this process has forgotten the key; the far tier may have or not.
    /// Invalidate again if it matters.
    ///
    /// # Errors
    ///
    /// [`Error::Far`], when the far tier did not confirm. This process has forgotten the key; others
    /// may serve the old value until it expires, unless the call is repeated with success.
    pub async fn invalidate(&self, key: &K) -> Result<Invalidated, Error> {
        self.core.invalidate(&key.name(), None).await
    }

    /// Like [`invalidate`](Self::invalidate), and leaves a tombstone: for ttl + grace + margin of the
    /// [`Policy`](crate::Policy), loads below `version` are refused and repeated, so a lagging
    /// replica cannot bring the old value back. An entry at or above `version` stays.
    ///
    /// # Cancel safety
    ///
    /// As for [`invalidate`](Self::invalidate).
    ///
    /// # Errors
    ///
    /// As for [`invalidate`](Self::invalidate).
    ///
    /// # Examples
    ///
    /// ```
    /// # async fn show(guard: cattleguard::Guard<u64, String>) -> Result<(), cattleguard::Error> {
    /// // UPDATE users SET …, version = version + 1 WHERE id = 42 RETURNING version
    /// let version = 18;
    /// guard.invalidate_at(&42, version).await?;
    /// # Ok(()) }
    /// ```
    pub async fn invalidate_at(
        &self,
        key: &K,
        version: impl Into<Version>,
    ) -> Result<Invalidated, Error> {
        self.core.invalidate(&key.name(), Some(version.into())).await
    }
}

impl<V: Send + Sync + 'static> Core<V> {
    async fn invalidate(&self, name: &str, version: Option<Version>) -> Result<Invalidated, Error> {
        // Before: so that a dropped future or a dead far tier leaves nothing old in this process.
        // After: because a flight that opened between may have read the far tier just before it
        // forgot.
        self.forget_below(name, version);
        let retention = self.policy.retention(self.policy.ttl);
        let invalidated = self.far.invalidate(name, version, retention).await;
        self.forget_below(name, version);
        Ok(invalidated?)
    }

    /// Closes the flight of `name`, and drops the near entry below `version`, or any without one.
    pub(super) fn forget_below(&self, name: &str, version: Option<Version>) {
        self.forget(name, |near| version.is_none_or(|version| near < version));
    }

    /// Closes the flight of `name`, and drops the near entry if its version is outdated.
    pub(super) fn forget(&self, name: &str, outdated: impl Fn(Version) -> bool) {
        self.flights.close(name, || self.near.drop_if(name, outdated));
    }
}
