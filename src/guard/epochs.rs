use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::RwLock;

use crate::{
    Moment, Version,
    terms::{Tag, Tags},
};

/// The epochs that a process knows.
#[derive(Default)]
pub(super) struct Epochs {
    /// By the tag's name in the far tier.
    known: RwLock<HashMap<Arc<str>, Known>>,
    /// How many purges have begun in this process, or were heard of.
    purges: AtomicU64,
    /// How often an epoch was heard of, purges included; written under the lock of `known`. A reading that was under
    /// way is not kept.
    heard: AtomicU64,
}

#[derive(Clone, Copy)]
pub(super) struct Known {
    pub(super) epoch: Version,
    pub(super) until: Moment,
}

impl Epochs {
    pub(super) fn purges(&self) -> u64 {
        self.purges.load(Ordering::SeqCst)
    }

    pub(super) fn heard(&self) -> u64 {
        self.heard.load(Ordering::SeqCst)
    }

    pub(super) fn get(&self, name: &str, now: Moment) -> Option<Version> {
        self.known.read().get(name).filter(|known| now < known.until).map(|known| known.epoch)
    }

    /// Keeps what was read since so much was `heard`.
    pub(super) fn keep(&self, name: &Arc<str>, known: Known, heard: u64) {
        let mut all = self.known.write();
        if self.heard() == heard {
            if all.len() >= CAPACITY {
                all.clear();
            }
            all.insert(name.clone(), known);
        }
    }

    /// Whether another epoch takes the place of the one that is known.
    pub(super) fn replace(&self, name: &str, made: Version) -> bool {
        let mut all = self.known.write();
        self.heard.fetch_add(1, Ordering::SeqCst);
        let is_other = all.get(name).is_some_and(|known| known.epoch != made);
        if is_other {
            all.remove(name);
        }
        is_other
    }

    /// A purge: of one tag, or perhaps of any.
    pub(super) fn purge(&self, name: Option<&str>) {
        let mut all = self.known.write();
        self.heard.fetch_add(1, Ordering::SeqCst);
        self.purges.fetch_add(1, Ordering::SeqCst);
        match name {
            Some(name) => drop(all.remove(name)),
            None => all.clear(),
        }
    }

    /// Whether what a process knows says that none of these was purged.
    pub(super) fn are_current(&self, tags: &Tags, now: Moment) -> bool {
        match tags {
            Tags::None => true,
            Tags::Of(tags) => {
                let known = self.known.read();
                let is_current = |(name, epoch): &Tag| {
                    known.get(name).is_some_and(|known| known.epoch == *epoch && now < known.until)
                };
                tags.iter().all(is_current)
            }
            Tags::Local(purges) => *purges == self.purges(),
            Tags::Purged => false,
        }
    }
}

/// How many epochs a process knows at most.
const CAPACITY: usize = 100_000;
