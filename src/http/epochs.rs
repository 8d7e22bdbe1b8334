//! Purging by tag.
//!
//! Each tag has an epoch, a random number that the guard stores like a response. A response is stored with
//! the epochs of its tags, and is used only while all of them are current. A purge invalidates the epoch of
//! its tag, with the promise of [`Guard::invalidate`].
//!
//! A response names its tags when it arrives, so their epochs cannot be read before its load. One more epoch,
//! of all tags, detects a purge between the load and the reading of its epochs. Every purge invalidates it
//! *first*; a load reads it before it begins, and again after the epochs of the tags. Suppose that a purge is
//! acknowledged and a response is older than it. Then the first reading came before the purge. If both
//! readings are equal, the readings between them came before the purge too: the response is stored with old
//! epochs, and so is purged.

use std::{convert::Infallible, time::Duration};

use http::{HeaderMap, HeaderName};

use super::{
    key::CacheKey,
    response::{CachedResponse, Kind, StoredResponse, Tag},
};
use crate::{Error, Guard, Loaded, Outcome, far::Invalidated, freshness::Found};

/// The epochs in a guard.
#[derive(Clone, Copy)]
pub(super) struct Epochs<'a>(pub(super) &'a Guard<str, StoredResponse>);

/// The current epoch of a tag.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Epoch {
    /// That of all processes.
    Shared(u64),
    /// That of this process, while the far tier is away: then no purge is acknowledged, and near entries
    /// live shortly.
    Local(u64),
}

impl Epochs<'_> {
    /// The epoch of all tags, to be read before a load.
    pub(super) async fn of_all_tags(self) -> Result<Epoch, Error> {
        self.read(&CacheKey::of_tag(None)).await
    }

    /// The tags that a response names in `field`. `before` is the epoch of all tags before its load.
    pub(super) async fn tags(
        self,
        field: &HeaderName,
        response: &HeaderMap,
        before: Epoch,
    ) -> Result<Vec<Tag>, Error> {
        let mut tags = Vec::new();
        for name in Tag::names(field, response) {
            let (Epoch::Shared(epoch) | Epoch::Local(epoch)) =
                self.read(&CacheKey::of_tag(Some(name))).await?;
            tags.push(Tag { name: name.to_owned(), epoch });
        }
        if tags.is_empty() {
            return Ok(tags);
        }
        match self.of_all_tags().await? {
            after @ Epoch::Shared(_) if after != before => {
                // Perhaps purged in between. The next request loads it again.
                tags.iter_mut().for_each(|tag| tag.epoch = PURGED);
            }
            _ => {}
        }
        Ok(tags)
    }

    /// Whether the near tier has all epochs of a response, and they are current.
    pub(super) fn are_current_near(self, cached: &CachedResponse) -> bool {
        cached.tags.iter().all(|tag| match self.0.look_near(&CacheKey::of_tag(Some(&tag.name))) {
            Found::Fresh(entry) => number(entry.value()) == Some(tag.epoch),
            _ => false,
        })
    }

    /// Whether all epochs of a response are current.
    pub(super) async fn are_current(self, cached: &CachedResponse) -> bool {
        for tag in &cached.tags {
            match self.read(&CacheKey::of_tag(Some(&tag.name))).await {
                Ok(Epoch::Shared(epoch)) if epoch == tag.epoch => {}
                Ok(Epoch::Local(_)) => {}
                _ => return false,
            }
        }
        true
    }

    /// Invalidates all responses with this tag.
    pub(super) async fn purge(self, tag: &str) -> Result<Invalidated, Error> {
        // In this order: see above.
        let all = self.0.invalidate(&*CacheKey::of_tag(None)).await?;
        let one = self.0.invalidate(&*CacheKey::of_tag(Some(tag))).await?;
        Ok(if all == Invalidated::Everywhere { one } else { all })
    }

    async fn read(self, key: &CacheKey) -> Result<Epoch, Error> {
        let fetched = self.0.fetch(&**key, new_epoch).await?;
        // Only epochs are stored under such a key.
        let epoch = number(fetched.value()).unwrap_or(PURGED);
        Ok(match fetched.outcome() {
            Outcome::Bypassed(_) => Epoch::Local(epoch),
            _ => Epoch::Shared(epoch),
        })
    }
}

async fn new_epoch() -> Result<Loaded<StoredResponse>, Infallible> {
    let epoch = fastrand::u64(PURGED + 1..);
    Ok(Loaded::unversioned(StoredResponse(Kind::Epoch(epoch))).ttl(EPOCH_TTL))
}

fn number(stored: Option<&StoredResponse>) -> Option<u64> {
    match stored?.0 {
        Kind::Epoch(epoch) => Some(epoch),
        _ => None,
    }
}

/// The epoch of no tag.
const PURGED: u64 = 0;

/// Longer than responses are stored: to lose the epoch of a tag is to purge it.
const EPOCH_TTL: Duration = Duration::from_secs(30 * 24 * 3600);
