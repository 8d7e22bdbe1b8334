//! What is invalidated together: by a tag, or all entries of a guard.
//!
//! Each tag has an *epoch*: a number kept in the far tier as the version of an absence. An entry is kept with the
//! epochs of its tags, and is there only while all of them are current. To invalidate a tag is to give it a larger
//! epoch: that invalidates the smaller one with the promise of [`Guard::invalidate`](crate::Guard::invalidate), and each
//! connected process hears of it. The cost is the same however many entries have the tag.
//!
//! A load says its tags when it ends, so their epochs cannot be read before it begins. All epochs are of one
//! *sequence* that each purge takes forward before it gives its number to the tag. A load reads the sequence before it
//! begins, and the epochs of its tags when it has ended: an epoch beyond that number is of a purge during the load, and
//! the entry is kept as purged. Suppose that a purge is acknowledged and a load has begun before that.
//!
//! - It has read the sequence before the purge took its number. Then it reads either the purge's epoch, which is beyond what
//!   it has read, or one from before, with which its entry is purged.
//! - It has read the purge's number, or a later one. Then it began after the purge had begun, and so after the write
//!   that the purge is for: what it brings is new.
//!
//! Two numbers are never the same: they end in random bits. An epoch that a far tier has lost is made anew, a little
//! below the sequence, and as good as purged.
//!
//! Each entry has one tag more, that of everything.
//!
//! While the far tier says nothing about epochs, what is loaded is good for this process alone, until that has heard
//! of another purge; and what was there before cannot be checked, so it is not there.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tracing::Instrument;

use super::core::{Core, Guard};
use crate::{
    Entry, Error, Fault, FaultKind, Fetched, Key, Loaded, Moment, Outcome, Version,
    far::{Event, Invalidated, Put, Record},
    key::{RESERVED, own_name},
    terms::{TAG, Tag, Tags, are_too_many},
};

impl<K: Key + ?Sized, V: Send + Sync + 'static> Guard<K, V> {
    /// Makes every tier forget all entries with this tag: see [`Loaded::tag`](crate::Loaded::tag). With the promise of
    /// [`invalidate`](Self::invalidate), for those whose load is in progress, too; its cost does not grow with their
    /// number. The next caller of each makes its load.
    ///
    /// While the far tier is away, busy or refuses for now, this process serves none of them either, and the guard
    /// repeats it.
    ///
    /// # Cancel safety
    ///
    /// Once polled it is carried out, also when the future is dropped.
    ///
    /// # Errors
    ///
    /// As for [`invalidate`](Self::invalidate). [`Error::Far`] of the kind [`Config`](FaultKind::Config), and nothing
    /// done, if the guard was built without [`tags`](crate::GuardBuilder::tags).
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

    /// As [`invalidate_tag`](Self::invalidate_tag), for all entries of the guard, in all processes. Not for entries stored
    /// before the guard kept tags, or by a process whose guard keeps none.
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

    /// As [`tags`](crate::GuardBuilder::tags), for a guard that is built already.
    #[cfg(feature = "http")]
    pub(crate) fn keep_tags(&self) {
        // What is kept already has none, and is not purged by any.
        self.core.has_tags.store(true, Ordering::Release);
    }

    async fn purge(&self, name: Arc<str>) -> Result<Invalidated, Error> {
        let work = self.core.clone().purge(name);
        // On a task: a caller that is dropped must not leave the old values behind.
        tokio::spawn(work.in_current_span()).await.unwrap_or(Err(Error::Abandoned))
    }
}

/// What was known of tags before a load.
#[derive(Clone, Copy)]
pub(crate) enum Before {
    /// The guard keeps no tags.
    Nothing,
    /// The number that the sequence had reached, and how many purges there were.
    Sequence(Version, u64),
    /// So many purges: the far tier did not say more.
    Purges(u64),
}

/// Whether a name in the far tier is that of an epoch.
pub(super) fn is_epoch(name: &str) -> bool {
    name.starts_with(RESERVED) && own_name(name).is_none()
}

fn name_of(tag: &str) -> Arc<str> {
    format!("{TAG}{tag}").into()
}

impl<V: Send + Sync + 'static> Core<V> {
    fn has_tags(&self) -> bool {
        self.has_tags.load(Ordering::Acquire)
    }

    /// To be asked before a load, unless the far tier is known to be away.
    pub(super) async fn before_load(&self, is_far_there: bool) -> Before {
        if !self.has_tags() {
            return Before::Nothing;
        }
        let purges = self.epochs.purges();
        match is_far_there {
            true => match self.sequence().await {
                Ok(number) => Before::Sequence(number, purges),
                Err(_) => Before::Purges(purges),
            },
            false => Before::Purges(purges),
        }
    }

    /// What a load has brought, with the epochs of its tags.
    pub(super) async fn tagged(&self, mut loaded: Loaded<V>, before: Before) -> Loaded<V> {
        let names = std::mem::take(&mut loaded.tagged);
        if !loaded.cacheable {
            // Not for callers who boarded after a purge.
            if self.has_tags() {
                loaded.tags = Tags::Purged;
            }
            return loaded;
        }
        loaded.tags = match before {
            Before::Nothing if names.is_empty() => Tags::None,
            Before::Nothing => {
                let guard = self.observer.guard();
                tracing::warn!(guard, "a load names tags: not kept; see `GuardBuilder::tags`");
                return loaded.uncacheable();
            }
            _ if are_too_many(names.iter().map(String::as_str)) => {
                let guard = self.observer.guard();
                tracing::warn!(guard, "a load names too many tags, or too long ones: not kept");
                return loaded.uncacheable();
            }
            Before::Purges(purges) => Tags::Local(purges),
            Before::Sequence(before, purges) => {
                self.tags_since(&names, before).await.unwrap_or(Tags::Local(purges))
            }
        };
        loaded
    }

    async fn tags_since(&self, names: &[String], before: Version) -> Result<Tags, Fault> {
        let mut tags = Vec::with_capacity(names.len() + 1);
        let names = names.iter().map(|tag| name_of(tag));
        for name in std::iter::once(EVERYTHING.into()).chain(names) {
            let epoch = self.epoch(&name).await?;
            if epoch > before {
                return Ok(Tags::Purged);
            }
            tags.push((name, epoch));
        }
        Ok(Tags::Of(tags.into()))
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

    /// How far the sequence has come.
    async fn sequence(&self) -> Result<Version, Fault> {
        self.epoch(SEQUENCE).await
    }

    /// The epoch under this name. Makes one if there is none to be read: it was never made, or the far tier has lost
    /// it, or a purge is under way that makes a larger one, which is on record then.
    async fn epoch(&self, name: &str) -> Result<Version, Fault> {
        self.may_ask_about(name)?;
        if let Some(epoch) = self.epochs.get(name, self.now()) {
            return Ok(epoch);
        }
        let forgotten = self.epochs.forgotten();
        let epoch = match self.ask_about(name, self.far.read(name)).await? {
            Some(found) => {
                let epoch = found.version();
                if found.fresh_until().since(self.now()) < EPOCH_TTL / 2 {
                    // It lives on. If it is purged meanwhile, this one is older.
                    let _ = self.ask_about(name, self.far.put(name, self.record_of(epoch))).await;
                }
                epoch
            }
            None => self.make_epoch(name).await?,
        };
        self.epochs.read(name, epoch, self.known_times(), forgotten);
        Ok(epoch)
    }

    /// A little below the number that the sequence has now, and above what it was before the last purge: should the far
    /// tier have lost the epoch during a load, it is beyond what that has read before, if anything was purged since.
    async fn make_epoch(&self, name: &str) -> Result<Version, Fault> {
        let read = async |name| self.ask_about(name, self.far.read(name)).await;
        let reached = match name {
            SEQUENCE => None,
            _ => read(SEQUENCE).await?.map(|sequence| sequence.version().high()),
        };
        let made = number(reached.unwrap_or_else(unix_millis).saturating_sub(1));
        Ok(match self.ask_about(name, self.far.put(name, self.record_of(made))).await? {
            Put::Older { minimum } => minimum,
            // Of two that are made at the same time the larger one stays.
            Put::Stored(_) => read(name).await?.map_or(made, |stored| stored.version()),
        })
    }

    fn record_of(&self, epoch: Version) -> Record<V> {
        let entry = Arc::new(Entry::new(None, epoch, self.now().after(EPOCH_TTL)));
        Record { entry, version: Some(epoch), ttl: EPOCH_TTL, retention: EPOCH_TTL }
    }

    /// Now, and until when what is known now counts.
    fn known_times(&self) -> (Moment, Moment) {
        let now = self.now();
        (now, now.after(self.near_ttl()))
    }

    async fn purge(self: Arc<Self>, name: Arc<str>) -> Result<Invalidated, Error> {
        if !self.has_tags() {
            let advice = "the guard keeps no tags: build it with `GuardBuilder::tags`";
            return Err(Fault::saying(FaultKind::Config, advice).into());
        }
        // Before, so that a dead far tier leaves nothing old in this process.
        self.forget_epoch(Some(&name));
        let purged = self.ask_to_write(self.purge_in_far(&name)).await;
        if let Err(fault) = &purged {
            // In this order: an epoch that is read meanwhile is forgotten, and none is read while this is pending.
            self.keep_if_it_may_pass(&name, None, fault);
            self.forget_epoch(Some(&name));
        }
        self.observer.invalidated(&name, purged.as_ref().copied().map_err(Fault::kind));
        Ok(purged?)
    }

    /// Takes the sequence forward, and gives its number to the tag: in this order.
    pub(super) async fn purge_in_far(&self, name: &str) -> Result<Invalidated, Fault> {
        let number = self.next_number(name).await?;
        let retention = self.freshness.tombstone_retention();
        let invalidated = self.far.invalidate(name, Some(number), retention).await?;
        self.epochs.heard(SEQUENCE, number, self.known_times());
        self.epochs.purged(name, number, self.known_times());
        // So that it can be read. Who reads before makes another one, or learns of this.
        let _ = self.far.put(name, self.record_of(number)).await;
        Ok(invalidated)
    }

    /// A number above all of the sequence, and above the epoch of the tag, should the sequence have been lost.
    async fn next_number(&self, name: &str) -> Result<Version, Fault> {
        let mut high = unix_millis();
        for known in self.far.read_many(&[SEQUENCE, name]).await {
            high = high.max(known?.map_or(0, |known| known.version().high()));
        }
        let heard = [SEQUENCE, name].map(|name| self.epochs.get(name, self.now()));
        high = heard.into_iter().flatten().map(Version::high).fold(high, u64::max);
        for _ in 0..ATTEMPTS {
            let next = number(high.saturating_add(STEP));
            match self.far.put(SEQUENCE, self.record_of(next)).await {
                Ok(Put::Stored(_)) => return Ok(next),
                Ok(Put::Older { minimum }) => high = minimum.high(),
                // Its memory is full: it lets through what begins by making room.
                Err(fault) if fault.kind() == FaultKind::Refused => {
                    self.far.invalidate(SEQUENCE, Some(next), EPOCH_TTL).await?;
                    return Ok(next);
                }
                Err(fault) => return Err(fault),
            }
        }
        Err(Fault::saying(FaultKind::Busy, "other purges take the numbers of this one"))
    }

    /// A message about an epoch.
    pub(super) fn heard_of_epoch(&self, event: Event<'_>) {
        match event {
            // What this process has declared outdated is not known until that went through.
            Event::Put { name, .. } if self.pending.contains(name) => {}
            Event::Put { name, version } => self.epochs.heard(name, version, self.known_times()),
            Event::Invalidated { name, version: Some(version) } => {
                self.epochs.purged(name, version, self.known_times());
            }
            Event::Invalidated { name, version: None } => self.forget_epoch(Some(name)),
            _ => {}
        }
    }

    /// A purge of a tag, or perhaps of any, after which its epoch is not known.
    pub(super) fn forget_epoch(&self, name: Option<&str>) {
        self.epochs.forget(name);
    }

    /// Whether a flight's answer is for a caller that boarded it. If it was `purged` since it was opened, its load may
    /// have begun before; and what is served meanwhile is from before in any case.
    pub(super) fn may_follow(&self, fetched: &Fetched<V>, purged: bool) -> bool {
        let is_older = matches!(fetched.outcome(), Outcome::Stale(_) | Outcome::StaleIfError(_));
        !(purged || is_older) || self.is_current(fetched.entry())
    }
}

/// A number with this beginning, like no other.
fn number(high: u64) -> Version {
    Version::with_tie(high, fastrand::u64(1..))
}

/// What a sequence begins with that may have been lost: it was most likely smaller. No version is judged by it.
fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Longer than entries are kept: to lose an epoch is to purge its tag.
const EPOCH_TTL: Duration = Duration::from_secs(30 * 24 * 3600);

/// How far the sequence has come.
const SEQUENCE: &str = "\0s";
/// The tag of each entry.
const EVERYTHING: &str = "\0e";

/// From one number of the sequence to the next: there is one between for an epoch that was lost.
const STEP: u64 = 2;
const ATTEMPTS: u32 = 8;
