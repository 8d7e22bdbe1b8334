//! What is invalidated together: by a tag, or all entries of a guard.
//!
//! Each tag has an *epoch*: a random number, kept in the far tier as the version of an absence. An entry is kept
//! with the epochs of its tags, and is there only while all of them are current. To invalidate a tag is to
//! invalidate its epoch, with the promise of [`Guard::invalidate`](crate::Guard::invalidate): each connected process
//! drops it, and the next who asks makes another one. That costs the same however many entries have the tag.
//!
//! A load says its tags when it ends, so their epochs cannot be read before it begins. One more epoch, of all tags,
//! detects a purge between the beginning of the load and the reading of its epochs. Every purge invalidates it *first*;
//! a load reads it before it begins, and again after the epochs of its tags. Suppose that a purge is acknowledged and
//! a load has begun before it. Then the first reading came before the purge. If both readings are equal, the readings
//! between them came before the purge too: the entry is kept with old epochs, and so is purged. If they differ,
//! or the second one fails, it is kept as purged.
//!
//! While the far tier says nothing about epochs, what is loaded is good for this process alone, until that has heard
//! of another purge; and what was there before cannot be checked, so it is not there.

use std::{sync::Arc, time::Duration};

use tracing::Instrument;

use super::{
    core::{Core, Guard},
    epochs::Known,
};
use crate::{
    Entry, Error, Fault, FaultKind, Key, Loaded, Version,
    far::{Invalidated, Put, Record},
    key::RESERVED,
    terms::{TAG, Tag, Tags},
};

impl<K: Key + ?Sized, V: Send + Sync + 'static> Guard<K, V> {
    /// Makes every tier forget all entries with this tag: see [`Loaded::tag`](crate::Loaded::tag). With the promise of
    /// [`invalidate`](Self::invalidate), for those whose load is in progress, too; its cost does not grow with their
    /// number. The next caller of each makes its load.
    ///
    /// While the far tier does not acknowledge it, this process serves none of them either, and the guard repeats it.
    ///
    /// # Cancel safety
    ///
    /// Once polled it is carried out, also when the future is dropped.
    ///
    /// # Errors
    ///
    /// As for [`invalidate`](Self::invalidate). [`Error::Far`], too, if the guard was built without
    /// [`tags`](crate::GuardBuilder::tags).
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    ///
    /// ```
    /// # async fn show() -> Result<(), Box<dyn std::error::Error>> {
    /// use cattleguard::{Guard, Loaded, LoadingGuard};
    ///
    /// // SELECT …: a page that shows products
    /// async fn read(path: String) -> std::io::Result<Loaded<String>> {
    ///     Ok(Loaded::found(format!("page {path}"), 1).tag("products"))
    /// }
    /// let pages: LoadingGuard<str, String> = Guard::builder().tags().loader(read).build();
    /// let page = pages.get("/").await?;
    /// pages.invalidate_tag("products").await?;
    /// # Ok(()) }
    /// ```
    pub async fn invalidate_tag(&self, tag: &str) -> Result<Invalidated, Error> {
        self.purge(name_of(tag)).await
    }

    /// As [`invalidate_tag`](Self::invalidate_tag), for all entries of the guard, in all processes.
    ///
    /// # Cancel safety
    ///
    /// As for [`invalidate_tag`](Self::invalidate_tag).
    ///
    /// # Errors
    ///
    /// As for [`invalidate_tag`](Self::invalidate_tag).
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub async fn clear(&self) -> Result<Invalidated, Error> {
        self.purge(EVERYTHING.into()).await
    }

    async fn purge(&self, name: Arc<str>) -> Result<Invalidated, Error> {
        let work = self.core.clone().purge(name);
        // On a task: a caller that is dropped must not leave the old values behind.
        tokio::spawn(work.in_current_span()).await.unwrap_or(Err(Error::Abandoned))
    }
}

/// What was known of all tags before a load.
#[derive(Clone, Copy)]
pub(super) enum Before {
    /// The guard keeps no tags.
    Nothing,
    /// The epoch of all tags.
    Epoch(Version),
    /// So many purges: the far tier did not say more.
    Purges(u64),
}

/// Whether a name in the far tier is that of an epoch.
pub(super) fn is_epoch(name: &str) -> bool {
    name.starts_with(RESERVED)
}

fn name_of(tag: &str) -> Arc<str> {
    format!("{TAG}{tag}").into()
}

impl<V: Send + Sync + 'static> Core<V> {
    /// To be asked before a load, unless the far tier is known to be away.
    pub(super) async fn before_load(&self, is_far_there: bool) -> Before {
        if !self.has_tags {
            return Before::Nothing;
        }
        let purges = self.epochs.purges();
        match is_far_there {
            true => match self.epoch(&ALL_TAGS.into()).await {
                Ok(epoch) => Before::Epoch(epoch),
                Err(_) => Before::Purges(purges),
            },
            false => Before::Purges(purges),
        }
    }

    /// What a load has brought, with the epochs of its tags.
    pub(super) async fn tagged(&self, mut loaded: Loaded<V>, before: Before) -> Loaded<V> {
        let names = std::mem::take(&mut loaded.tagged);
        if !loaded.cacheable {
            return loaded;
        }
        let too_many = names.len() > MAX_TAGS || names.iter().any(|tag| tag.len() > MAX_BYTES);
        loaded.tags = match before {
            Before::Nothing if names.is_empty() => Tags::None,
            Before::Nothing => {
                let guard = self.observer.guard();
                tracing::warn!(guard, "a load names tags: not kept; see `GuardBuilder::tags`");
                return loaded.uncacheable();
            }
            _ if too_many => {
                let guard = self.observer.guard();
                tracing::warn!(guard, "a load names too many tags, or too long ones: not kept");
                return loaded.uncacheable();
            }
            Before::Purges(purges) => Tags::Local(purges),
            Before::Epoch(before) => self.tags_since(&names, before).await.unwrap_or(Tags::Purged),
        };
        loaded
    }

    async fn tags_since(&self, names: &[String], before: Version) -> Result<Tags, Fault> {
        let mut tags = Vec::with_capacity(names.len() + 1);
        let names = names.iter().map(|tag| name_of(tag));
        for name in std::iter::once(EVERYTHING.into()).chain(names) {
            let epoch = self.epoch(&name).await?;
            tags.push((name, epoch));
        }
        Ok(match self.epoch(&ALL_TAGS.into()).await? == before {
            true => Tags::Of(tags.into()),
            false => Tags::Purged,
        })
    }

    /// An entry of the far tier, if it was not purged.
    pub(super) async fn if_current(
        &self,
        found: Option<Arc<Entry<V>>>,
    ) -> Result<Option<Arc<Entry<V>>>, Fault> {
        let Some(entry) = found else { return Ok(None) };
        let is_current = match entry.tags() {
            Tags::None => true,
            // Those of other processes come as purged.
            Tags::Local(_) | Tags::Purged => self.is_current(&entry),
            Tags::Of(tags) => self.are_current(tags).await?,
        };
        Ok(is_current.then_some(entry))
    }

    async fn are_current(&self, tags: &[Tag]) -> Result<bool, Fault> {
        for (name, epoch) in tags {
            if self.epoch(name).await? != *epoch {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether a near entry was not purged, as far as this process knows.
    pub(super) fn is_current(&self, entry: &Entry<V>) -> bool {
        match entry.tags() {
            Tags::None => true,
            tags => self.epochs.are_current(tags, self.now()),
        }
    }

    /// The epoch under this name. Makes one if there is none.
    ///
    /// Of two that are made at the same time the larger one stays: what was made is read. What is on record
    /// without being readable is an epoch that was purged: the next one is above it.
    async fn epoch(&self, name: &Arc<str>) -> Result<Version, Fault> {
        if let Some(epoch) = self.epochs.get(name, self.now()) {
            return Ok(epoch);
        }
        let mut generation = 1;
        for _ in 0..ATTEMPTS {
            let heard = self.epochs.heard();
            if let Some(epoch) = self.ask_about(name, self.far.read(name)).await? {
                let epoch = epoch.version();
                let until = self.now().after(self.near_ttl());
                self.epochs.keep(name, Known { epoch, until }, heard);
                return Ok(epoch);
            }
            let version = Version::with_tie(generation, fastrand::u64(1..));
            let entry = Arc::new(Entry::new(None, version, self.now().after(EPOCH_TTL)));
            let (version, ttl, retention) = (Some(version), EPOCH_TTL, EPOCH_TTL);
            let record = Record { entry, version, ttl, retention };
            if let Put::Older { minimum } = self.ask_about(name, self.far.put(name, record)).await?
            {
                generation = minimum.high().saturating_add(1);
            }
        }
        Err(Fault::saying(FaultKind::Busy, "the epoch of a tag is purged all the time"))
    }

    /// A message about an epoch: that it was made, or purged.
    pub(super) fn heard_of_epoch(&self, name: &str, made: Option<Version>) {
        match made {
            // Another one in its place purges nothing, but is as good as that.
            Some(made) if !self.epochs.replace(name, made) => {}
            _ => self.purged(Some(name)),
        }
    }

    async fn purge(self: Arc<Self>, name: Arc<str>) -> Result<Invalidated, Error> {
        if !self.has_tags {
            let advice = "the guard keeps no tags: build it with `GuardBuilder::tags`";
            return Err(Fault::saying(FaultKind::Config, advice).into());
        }
        // Before, so that a dead far tier leaves nothing old in this process; after, because an epoch may have been
        // read meanwhile.
        self.purged(Some(ALL_TAGS));
        self.purged(Some(&name));
        // In this order: see above. Both in any case: what fails is repeated later, and not served before.
        let all = self.clone().invalidate(ALL_TAGS.into(), None, None).await;
        let one = self.clone().invalidate(name.clone(), None, None).await;
        self.purged(Some(ALL_TAGS));
        self.purged(Some(&name));
        Ok(match (all?, one?) {
            (Invalidated::Everywhere, one) => one,
            (all, _) => all,
        })
    }

    /// A purge of a tag, or perhaps of any, has begun somewhere. Callers who come later board no flight whose load
    /// may have begun before.
    pub(super) fn purged(&self, name: Option<&str>) {
        self.epochs.purge(name);
        self.flights.close_all();
        self.failures.clear();
    }
}

/// Longer than entries are kept: to lose an epoch is to purge its tag.
const EPOCH_TTL: Duration = Duration::from_secs(30 * 24 * 3600);

/// The epoch of all tags.
pub(super) const ALL_TAGS: &str = "\0a";
/// The tag of each entry.
pub(super) const EVERYTHING: &str = "\0e";

const ATTEMPTS: u32 = 8;
const MAX_TAGS: usize = 64;
const MAX_BYTES: usize = 1_000;
