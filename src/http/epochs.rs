//! Purging by tag.
//!
//! Each tag has an epoch, a random number that the guard stores like a response. A response is stored with
//! the epochs of its tags, and is used only while all of them are current. A purge invalidates the epoch of
//! its tag, with the promise of [`Guard::invalidate`]: each connected process drops it, and the next who asks
//! makes another one.
//!
//! A response names its tags when it arrives, so their epochs cannot be read before its load. One more epoch,
//! of all tags, detects a purge between the load and the reading of its epochs. Every purge invalidates it
//! *first*; a load reads it before it begins, and again after the epochs of the tags. Suppose that a purge is
//! acknowledged and a response is older than it. Then the first reading came before the purge. If both
//! readings are equal, the readings between them came before the purge too: the response is stored with old
//! epochs, and so is purged. If they differ, or the second one fails, it is stored as purged.
//!
//! While the far tier is away, a process makes epochs of its own, which live as shortly as other near entries
//! then. They equal no stored one, so what cannot be checked is not served: it is loaded again, once per key
//! and process. A response that is loaded meanwhile depends on the epoch of all tags alone, or it would be
//! loaded again as often as that of any tag ends.

use std::{
    sync::atomic::{AtomicU64, Ordering::SeqCst},
    time::Duration,
};

use http::{HeaderMap, HeaderName};

use super::{
    key::CacheKey,
    response::{CachedResponse, Kind, StoredResponse, Tag},
};
use crate::{
    Error, Fetched, Guard, Loaded, Outcome, Tier,
    far::{Event, Invalidated, Watcher},
    freshness::Found,
    guard::{FlightLoader, LoadBudget},
};

/// The epochs in a guard.
#[derive(Clone, Copy)]
pub(super) struct Epochs<'a> {
    pub(super) guard: &'a Guard<str, StoredResponse>,
    pub(super) local: &'a LocalEpochs,
}

/// What a process knows of epochs by itself, while the far tier is away. Shared by all that share a guard.
#[derive(Debug, Default)]
pub(super) struct LocalEpochs {
    /// The latest epoch of all tags that was made without the far tier. A near hit does not tell.
    of_all_tags: AtomicU64,
    /// How many purges have begun in this process, or were heard of. Raised before the guard drops the epoch of
    /// all tags: a load that ends between would take the next one for that of before.
    purges: AtomicU64,
}

/// The current epoch of a tag.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Epoch {
    /// That of all processes.
    Shared(u64),
    /// That of this process, while the far tier is away.
    Local { number: u64, purges: u64 },
}

/// Whether a response may be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Currency {
    Current,
    /// One of its tags was purged since its load.
    Purged,
    /// The far tier does not say: as good as purged.
    Unknown,
}

impl Epochs<'_> {
    /// The epoch of all tags, to be read before a load.
    pub(super) async fn of_all_tags(self) -> Result<Epoch, Error> {
        let epoch = self.read(&CacheKey::of_tag(None)).await?;
        let made_here = &self.local.of_all_tags;
        Ok(match epoch {
            Epoch::Local { number, .. } => {
                made_here.store(number, SeqCst);
                epoch
            }
            Epoch::Shared(number) if number == made_here.load(SeqCst) => self.local(number),
            Epoch::Shared(_) => epoch,
        })
    }

    /// The tags that a response names in `field`. `before` is the epoch of all tags before its load.
    pub(super) async fn tags(
        self,
        field: &HeaderName,
        response: &HeaderMap,
        before: Epoch,
    ) -> Result<Vec<Tag>, Error> {
        let mut tags = Vec::new();
        let mut is_tagged = false;
        for name in Tag::names(field, response) {
            is_tagged = true;
            if let Epoch::Local { .. } = before {
                break;
            }
            let epoch = self.read(&CacheKey::of_tag(Some(name))).await?.number();
            tags.push(Tag { name: name.to_owned(), epoch });
        }
        if !is_tagged {
            return Ok(tags);
        }
        Ok(match (before, self.of_all_tags().await) {
            (Epoch::Shared(before), Ok(after)) if after.number() == before => tags,
            // One takes the place of another with its time: that alone tells of no purge.
            (Epoch::Local { purges: before, .. }, Ok(Epoch::Local { purges: after, number }))
                if after == before =>
            {
                vec![of_all_tags(number)]
            }
            // Perhaps purged in between. The next request loads it again.
            _ => vec![of_all_tags(PURGED)],
        })
    }

    /// Whether the near tier has all epochs of a response, and they are current.
    pub(super) fn are_current_near(self, cached: &CachedResponse) -> bool {
        cached.tags.iter().all(|tag| match self.guard.look(&key(tag)) {
            Found::Fresh(entry) => number(entry.value()).is_some_and(|number| is_of(tag, number)),
            _ => false,
        })
    }

    /// Whether all epochs of a response are current.
    pub(super) async fn currency(self, cached: &CachedResponse) -> Currency {
        for tag in &cached.tags {
            let is_shared = match self.read(&key(tag)).await {
                Ok(epoch) if is_of(tag, epoch.number()) => continue,
                Ok(Epoch::Shared(_)) => {
                    // Perhaps it was made here a moment ago.
                    matches!(self.of_all_tags().await, Ok(Epoch::Shared(_)))
                }
                Ok(Epoch::Local { .. }) | Err(_) => false,
            };
            return if is_shared { Currency::Purged } else { Currency::Unknown };
        }
        Currency::Current
    }

    /// Invalidates all responses with this tag.
    pub(super) async fn purge(self, tag: &str) -> Result<Invalidated, Error> {
        self.local.purges.fetch_add(1, SeqCst);
        // In this order: see above. Both in any case: what fails is repeated later, and not served before.
        let all = self.guard.invalidate(&*CacheKey::of_tag(None)).await;
        let one = self.guard.invalidate(&*CacheKey::of_tag(Some(tag))).await;
        Ok(match (all?, one?) {
            (Invalidated::Everywhere, one) => one,
            (all, _) => all,
        })
    }

    /// Part of the request that asks, so it is counted nowhere.
    async fn read(self, key: &CacheKey) -> Result<Epoch, Error> {
        let fetched = match self.guard.look(key) {
            Found::Fresh(entry) => Fetched::new(entry, Outcome::Hit(Tier::Near)),
            found => self.guard.resolve_part(found, (&**key).into(), None, NewEpoch).await?,
        };
        // Only epochs are stored under such a key.
        let number = number(fetched.value()).unwrap_or(PURGED);
        Ok(match fetched.outcome() {
            Outcome::Bypassed(_) => self.local(number),
            _ => Epoch::Shared(number),
        })
    }

    fn local(self, number: u64) -> Epoch {
        Epoch::Local { number, purges: self.local.purges.load(SeqCst) }
    }
}

impl Watcher for LocalEpochs {
    fn on_event(&self, event: Event<'_>) {
        let is_purge = match event {
            Event::Invalidated { name, .. } => name == &*CacheKey::of_tag(None),
            // One may have been missed.
            Event::Connected => true,
            _ => false,
        };
        if is_purge {
            self.purges.fetch_add(1, SeqCst);
        }
    }
}

impl Epoch {
    const fn number(self) -> u64 {
        match self {
            Self::Shared(number) | Self::Local { number, .. } => number,
        }
    }
}

/// Makes an epoch. It asks no origin, so it needs no place in the bulkhead and is no load.
struct NewEpoch;

impl FlightLoader<StoredResponse> for NewEpoch {
    fn load(
        &mut self,
        _: &LoadBudget,
    ) -> impl Future<Output = Result<Loaded<StoredResponse>, Error>> + Send + use<> {
        let epoch = StoredResponse(Kind::Epoch(fastrand::u64(PURGED + 1..)));
        std::future::ready(Ok(Loaded::unversioned(epoch).ttl(EPOCH_TTL)))
    }

    fn has_own_place(&self) -> bool {
        true
    }
}

/// In the place of its tags, a response has the epoch of all.
fn of_all_tags(epoch: u64) -> Tag {
    Tag { name: String::new(), epoch }
}

/// Whether a tag is from this epoch.
const fn is_of(tag: &Tag, epoch: u64) -> bool {
    tag.epoch == epoch && epoch != PURGED
}

fn key(tag: &Tag) -> CacheKey {
    CacheKey::of_tag(Some(&*tag.name).filter(|name| !name.is_empty()))
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
