use std::{borrow::Borrow, fmt, future::IntoFuture, sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream};
use tracing::Instrument;

use super::core::{Core, Guard};
use crate::{
    Error, Fault, FaultKind, Key, Loaded, NegativeVersion, Version, Write,
    far::{Invalidated, Put},
    key::name_of,
};

impl<K: Key + ?Sized, V: Send + Sync + 'static> Guard<K, V> {
    /// Writes through: stores a value that the caller has just written to the origin, iff it is not
    /// older than what is on record, and revokes the lease of the load in the air. Call it after the
    /// origin's transaction has committed.
    ///
    /// It is guarded against older puts while a record lives: ttl, grace, stale-if-error and version
    /// retention of the [`Policy`](crate::Policy) together.
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
    /// [`Error::Far`], when the far tier did not confirm. The near entry has been dropped then, and if
    /// the far tier is away, the older entry there is invalidated when it comes back. With the kind
    /// [`Config`](FaultKind::Config), and nothing done, if the value has [tags](Loaded::tag) that cannot be kept;
    /// [`Error::Origin`], if it has failed, for instance by a negative version.
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
    ///     Write::Older { minimum } => println!("version {minimum} was written meanwhile"),
    ///     _ => {}
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn put(&self, key: &K, value: Loaded<V>) -> Result<Write, Error> {
        let name = name_of(key);
        let core = &*self.core;
        let before = core.before_load(true).await;
        let value = value.into_result()?;
        let has_tags = !value.tagged.is_empty();
        let value = core.tagged(value, before).await;
        if has_tags && !value.cacheable {
            let advice = "its tags cannot be kept: see `Loaded::tag`";
            return Err(Fault::saying(FaultKind::Config, advice).into());
        }
        let record = core.freshness.record(value, core.now());
        // Before and after, as for an invalidation. Nothing is kept near: an invalidation by another
        // process may come between the store's answer and here, and its message would have found
        // nothing to drop.
        core.forget_below(&name, record.version);
        let version = record.version;
        let written = match core.ask_to_write(core.far.put(&name, record)).await {
            Ok(Put::Stored(entry)) => {
                core.forget_through(&name, entry.version());
                Ok(Write::Stored)
            }
            Ok(Put::Older { minimum }) => {
                core.forget_below(&name, Some(minimum));
                Ok(Write::Older { minimum })
            }
            Err(error) => {
                core.keep_if_it_may_pass(&name, version, &error);
                core.forget_below(&name, None);
                Err(error)
            }
        };
        core.observer.put(&name, written.as_ref().copied().map_err(Fault::kind));
        Ok(written?)
    }

    /// Makes every tier forget `key`, and revokes the lease of the load in the air: once this
    /// returns, no load that began before can fill the cache, and a later caller does not
    /// get its answer. Call it after the origin's transaction has committed.
    ///
    /// [`Invalidated::Everywhere`] says that also the near tiers of all connected processes have
    /// confirmed; the far tier has in any case.
    ///
    /// Prefer [`invalidate_at`](Self::invalidate_at) where the version is known: this one has none to compare with, so
    /// it keeps out loads, but not a [`put`](Self::put) of an older value that is under way and arrives after it.
    ///
    /// # Cancel safety
    ///
    /// Once polled it is carried out, also when the future is dropped.
    ///
    /// # Errors
    ///
    /// [`Error::Far`], when the far tier did not confirm: it is not acknowledged. This process has
    /// forgotten the key; others may serve the old value until it expires. If the far tier is away,
    /// busy or refuses for now, the guard keeps the invalidation (100,000 names at most) and repeats it, and asks
    /// nothing about the key there before it went through; only the end of the process, or of the last clone of the guard, loses it.
    /// [`Error::Abandoned`], when the runtime shuts down.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn invalidate(&self, key: &K) -> Invalidation<'_, V> {
        Invalidation::new(&self.core, &name_of(key), Ok(None))
    }

    /// [`invalidate`](Self::invalidate) for many keys, 512 at a time over one connection. What became of each, in their
    /// order.
    ///
    /// # Cancel safety
    ///
    /// Those that have begun are carried out, also when the future is dropped; the rest is not.
    ///
    /// # Errors
    ///
    /// As for [`invalidate`](Self::invalidate), for each key.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub async fn invalidate_many<Q: Borrow<K> + Sync>(
        &self,
        keys: &[Q],
    ) -> Vec<Result<Invalidated, Error>> {
        let invalidating = keys.iter().map(|key| self.invalidate(key.borrow()).into_future());
        stream::iter(invalidating).buffered(INVALIDATIONS_AT_ONCE).collect().await
    }

    /// Like [`invalidate`](Self::invalidate), and leaves a tombstone: while a record lives (ttl, grace,
    /// stale-if-error and version retention of the [`Policy`](crate::Policy) together), loads below `version` are
    /// refused and repeated, so a lagging replica cannot bring the old value back. An entry at or above `version` stays.
    ///
    /// # Cancel safety
    ///
    /// As for [`invalidate`](Self::invalidate).
    ///
    /// # Errors
    ///
    /// As for [`invalidate`](Self::invalidate), and [`Error::NegativeVersion`], with which nothing is invalidated.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
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
    pub fn invalidate_at(
        &self,
        key: &K,
        version: impl TryInto<Version, Error: Into<NegativeVersion>>,
    ) -> Invalidation<'_, V> {
        let version = version.try_into().map(Some).map_err(Into::into);
        Invalidation::new(&self.core, &name_of(key), version)
    }
}

/// As many as a connection has under way.
const INVALIDATIONS_AT_ONCE: usize = 512;

/// An invalidation that is to be awaited; made by [`Guard::invalidate`].
#[must_use = "nothing is invalidated until it is awaited"]
pub struct Invalidation<'a, V> {
    core: &'a Arc<Core<V>>,
    name: Arc<str>,
    version: Result<Option<Version>, NegativeVersion>,
    confirmed: Option<(usize, Duration)>,
    is_unconfirmed: bool,
}

impl<'a, V> Invalidation<'a, V> {
    fn new(
        core: &'a Arc<Core<V>>,
        name: &str,
        version: Result<Option<Version>, NegativeVersion>,
    ) -> Self {
        Self { core, name: name.into(), version, confirmed: None, is_unconfirmed: false }
    }

    /// Does not wait for the near tiers of other processes, and has none of them confirm:
    /// [`Invalidated::Unconfirmed`] once the far tier has dropped the entry. Another process' near tier drops it when the
    /// message arrives, or after its near ttl. Confirmations cost the far tier most of an invalidation; leave
    /// them out where nobody acts on the answer.
    ///
    /// ```
    /// # async fn show(guard: cattleguard::Guard<u64, String>) -> Result<(), cattleguard::Error> {
    /// guard.invalidate_at(&42, 18).unconfirmed().await?;
    /// # Ok(()) }
    /// ```
    pub fn unconfirmed(mut self) -> Self {
        self.is_unconfirmed = true;
        self
    }

    /// Waits until `replicas` replicas of the far tier have the invalidation, up to `timeout`, so that a
    /// failover cannot lose it; [`Invalidated::Unreplicated`] says when fewer have confirmed. Redis'
    /// `WAIT`, on a connection opened for it; not in a Cluster.
    ///
    /// ```
    /// # async fn show(guard: cattleguard::Guard<u64, String>) -> Result<(), cattleguard::Error> {
    /// use std::time::Duration;
    /// use cattleguard::far::Invalidated;
    ///
    /// let done = guard.invalidate_at(&42, 18).confirmed(1, Duration::from_millis(100)).await?;
    /// if let Invalidated::Unreplicated { replicas } = done {
    ///     eprintln!("only {replicas} replicas have it: a failover now could bring the old value back");
    /// }
    /// # Ok(()) }
    /// ```
    pub fn confirmed(mut self, replicas: usize, timeout: Duration) -> Self {
        self.confirmed = Some((replicas, timeout));
        self
    }
}

impl<'a, V: Send + Sync + 'static> IntoFuture for Invalidation<'a, V> {
    type Output = Result<Invalidated, Error>;
    type IntoFuture = BoxFuture<'a, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { core, name, version, confirmed, is_unconfirmed } = self;
        // On a task: a caller that is dropped must not leave the old value behind.
        let invalidating = async move {
            let version = version.map_err(|_| Error::NegativeVersion)?;
            let work = core.clone().invalidate(name, version, confirmed, is_unconfirmed);
            tokio::spawn(work.in_current_span()).await.unwrap_or(Err(Error::Abandoned))
        };
        invalidating.boxed()
    }
}

impl<V> fmt::Debug for Invalidation<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invalidation")
            .field("version", &self.version)
            .field("confirmed", &self.confirmed)
            .finish_non_exhaustive()
    }
}

impl<V: Send + Sync + 'static> Core<V> {
    pub(super) async fn invalidate(
        self: Arc<Self>,
        name: Arc<str>,
        version: Option<Version>,
        confirmed: Option<(usize, Duration)>,
        is_unconfirmed: bool,
    ) -> Result<Invalidated, Error> {
        // Before: so that a dead far tier leaves nothing old in this process. After: because a flight
        // that opened between may have read the far tier just before it forgot.
        self.forget_below(&name, version);
        let retention = self.freshness.tombstone_retention();
        let invalidating = async {
            if is_unconfirmed {
                let done = self.far.invalidate_unconfirmed(&name, version, retention).await;
                return done.map(|()| Invalidated::Unconfirmed);
            }
            self.far.invalidate(&name, version, retention).await
        };
        let invalidated = self.ask_to_write(invalidating).await;
        if let Err(fault) = &invalidated {
            self.keep_if_it_may_pass(&name, version, fault);
        }
        self.forget_below(&name, version);
        let invalidated = match (invalidated, confirmed) {
            (Ok(delivery), Some((replicas, timeout))) => {
                self.replicated(&name, delivery, replicas, timeout).await
            }
            (invalidated, _) => invalidated,
        };
        self.observer.invalidated(&name, invalidated.as_ref().copied().map_err(Fault::kind));
        Ok(invalidated?)
    }

    /// How far an invalidation that has reached the far tier got, its replicas included.
    async fn replicated(
        &self,
        name: &str,
        delivery: Invalidated,
        replicas: usize,
        timeout: Duration,
    ) -> Result<Invalidated, Fault> {
        match self.far.replicated(name, replicas, timeout).await {
            Ok(have) if have >= replicas => Ok(delivery),
            Ok(have) => Ok(Invalidated::Unreplicated { replicas: have }),
            Err(error) => {
                self.observer.far_failed(&error);
                if error.kind() == FaultKind::Config {
                    return Err(error);
                }
                tracing::debug!(guard = self.observer.guard(), %error, "replicas not asked");
                Ok(Invalidated::Unreplicated { replicas: 0 })
            }
        }
    }
}
