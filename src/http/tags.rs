//! Purging by tag: surrogate keys.
//!
//! Each tag has an epoch, a random number that the guard keeps like a response. A response is stored with the
//! epochs of its tags, and answers nobody once one of them is another; to purge a tag is to forget its epoch,
//! as [`Guard::invalidate`] promises.
//!
//! A response names its tags when it is there, so their epochs cannot be read before its load. That a purge
//! falls between load and reading is seen by one more epoch, which all purges forget *first*: it is read before
//! the load, and again after the tags'. Let a purge be acknowledged, and the response be older than it. Then
//! the first reading came before the purge, so if both are equal, so did those in between: what is stored has
//! the epochs of before, and is purged.

use std::{convert::Infallible, time::Duration};

use http::{HeaderMap, HeaderName};

use super::{
    StoredResponse,
    key::{self, Spelt},
    stored::{Kind, Whole},
};
use crate::{Error, Guard, Loaded, Outcome, far::Invalidated, freshness::Found};

/// A tag of a stored response.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Tag {
    pub(super) name: String,
    /// That of the tag when the response was loaded.
    pub(super) epoch: u64,
}

/// The epochs of a guard.
#[derive(Clone, Copy)]
pub(super) struct Epochs<'a>(pub(super) &'a Guard<str, StoredResponse>);

/// An epoch as it is now.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Epoch {
    /// That of all processes.
    Shared(u64),
    /// This process's own, while the far tier is away: then no purge is acknowledged here, and nothing stays
    /// near for long.
    Own(u64),
}

impl Epochs<'_> {
    /// To be read before a load.
    pub(super) async fn of_all(self) -> Result<Epoch, Error> {
        self.read(&key::of_tag(None)).await
    }

    /// The tags that a loaded response names in `field`.
    pub(super) async fn tags(
        self,
        field: &HeaderName,
        response: &HeaderMap,
        before: Epoch,
    ) -> Result<Vec<Tag>, Error> {
        let mut tags = Vec::new();
        for name in names(field, response) {
            let (Epoch::Shared(epoch) | Epoch::Own(epoch)) =
                self.read(&key::of_tag(Some(name))).await?;
            tags.push(Tag { name: name.to_owned(), epoch });
        }
        if tags.is_empty() {
            return Ok(tags);
        }
        match self.of_all().await? {
            after @ Epoch::Shared(_) if after != before => {
                // Purged meanwhile, perhaps: who comes for it has it loaded again, all at one time.
                tags.iter_mut().for_each(|tag| tag.epoch = PURGED);
            }
            _ => {}
        }
        Ok(tags)
    }

    /// Whether a stored response may be used, if this process knows.
    pub(super) fn know_near(self, whole: &Whole) -> Option<bool> {
        for tag in &whole.tags {
            let Found::Fresh(entry) = self.0.look_near(&key::of_tag(Some(&tag.name))) else {
                return None;
            };
            if epoch(entry.value()) != Some(tag.epoch) {
                return Some(false);
            }
        }
        Some(true)
    }

    /// Whether a stored response may be used.
    pub(super) async fn allow(self, whole: &Whole) -> bool {
        for tag in &whole.tags {
            match self.read(&key::of_tag(Some(&tag.name))).await {
                Ok(Epoch::Shared(epoch)) if epoch == tag.epoch => {}
                Ok(Epoch::Own(_)) => {}
                _ => return false,
            }
        }
        true
    }

    /// Forgets all responses with this tag.
    pub(super) async fn purge(self, tag: &str) -> Result<Invalidated, Error> {
        // This one first.
        let all = self.0.invalidate(&*key::of_tag(None)).await?;
        let one = self.0.invalidate(&*key::of_tag(Some(tag))).await?;
        Ok(if all == Invalidated::Everywhere { one } else { all })
    }

    async fn read(self, key: &Spelt) -> Result<Epoch, Error> {
        let fetched = self.0.fetch(&**key, new_epoch).await?;
        // Nothing else is kept under such a key.
        let epoch = epoch(fetched.value()).unwrap_or(PURGED);
        Ok(match fetched.outcome() {
            Outcome::Bypassed(_) => Epoch::Own(epoch),
            _ => Epoch::Shared(epoch),
        })
    }
}

async fn new_epoch() -> Result<Loaded<StoredResponse>, Infallible> {
    let epoch = fastrand::u64(PURGED + 1..);
    Ok(Loaded::unversioned(StoredResponse(Kind::Epoch(epoch))).ttl(LIFETIME))
}

fn epoch(stored: Option<&StoredResponse>) -> Option<u64> {
    match stored?.0 {
        Kind::Epoch(epoch) => Some(epoch),
        _ => None,
    }
}

/// Separated by spaces, as in `Surrogate-Key`, or by commas, as in `Cache-Tag`.
pub(super) fn names<'a>(
    field: &HeaderName,
    headers: &'a HeaderMap,
) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(field)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split([' ', '\t', ',']))
        .filter(|name| !name.is_empty())
}

/// No tag's epoch.
const PURGED: u64 = 0;

/// Longer than responses are kept: a tag whose epoch is forgotten is as good as purged.
const LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);
