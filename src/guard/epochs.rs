use std::{collections::HashMap, sync::Arc};

use parking_lot::RwLock;
use tokio::time::Instant;

use crate::{
    Moment, Version,
    sync::atomic::{AtomicU64, Ordering},
    terms::{Tag, Tags},
};

/// The epochs that a process knows. They only grow, so that of two tidings the larger one is right.
#[derive(Default)]
pub(super) struct Epochs {
    state: RwLock<State>,
    /// How many purges have begun in this process, or were heard of.
    purges: AtomicU64,
}

#[derive(Default)]
struct State {
    /// By the tag's name in the far tier.
    known: HashMap<Arc<str>, Known>,
    /// How often something was forgotten: a reading that was under way says nothing then.
    forgotten: u64,
    last_purge: Option<Instant>,
}

#[derive(Clone, Copy)]
struct Known {
    epoch: Version,
    until: Moment,
}

impl Epochs {
    pub(super) fn purges(&self) -> u64 {
        self.purges.load(Ordering::SeqCst)
    }

    /// When a purge last began in this process, or was heard of.
    pub(super) fn last_purge(&self) -> Option<Instant> {
        self.state.read().last_purge
    }

    pub(super) fn get(&self, name: &str, now: Moment) -> Option<Version> {
        let state = self.state.read();
        state.known.get(name).filter(|known| now < known.until).map(|known| known.epoch)
    }

    /// To be asked before a reading.
    pub(super) fn forgotten(&self) -> u64 {
        self.state.read().forgotten
    }

    /// Learns what was read, unless something was forgotten since.
    pub(super) fn read(&self, name: &str, epoch: Version, times: (Moment, Moment), forgotten: u64) {
        let mut state = self.state.write();
        if state.forgotten == forgotten {
            state.learn(name, epoch, times);
        }
    }

    /// Learns what was heard. `times`: now, and until when it counts.
    pub(super) fn heard(&self, name: &str, epoch: Version, times: (Moment, Moment)) {
        self.state.write().learn(name, epoch, times);
    }

    /// A purge by which `epoch` is that of the tag.
    pub(super) fn purged(&self, name: &str, epoch: Version, times: (Moment, Moment)) {
        let mut state = self.state.write();
        self.purge(&mut state);
        // A far tier that has lost its numbers begins with smaller ones: what is known is of no use then.
        if state.known.get(name).is_some_and(|known| known.epoch > epoch) {
            state.known.remove(name);
            state.forgotten += 1;
        } else {
            state.learn(name, epoch, times);
        }
    }

    /// A purge of a tag, or perhaps of any: what its epoch is now is not known.
    pub(super) fn forget(&self, name: Option<&str>) {
        let mut state = self.state.write();
        self.purge(&mut state);
        state.forgotten += 1;
        match name {
            Some(name) => drop(state.known.remove(name)),
            None => state.known.clear(),
        }
    }

    fn purge(&self, state: &mut State) {
        self.purges.fetch_add(1, Ordering::SeqCst);
        state.last_purge = Some(Instant::now());
    }

    /// Whether what a process knows says that none of these was purged.
    pub(super) fn are_current(&self, tags: &Tags, now: Moment) -> bool {
        match tags {
            Tags::None => true,
            Tags::Of(tags) => {
                let state = self.state.read();
                let is_current = |(name, epoch): &Tag| {
                    let known = state.known.get(name);
                    known.is_some_and(|known| known.epoch == *epoch && now < known.until)
                };
                tags.iter().all(is_current)
            }
            Tags::Local(purges) => *purges == self.purges(),
            Tags::Purged => false,
        }
    }
}

impl State {
    fn learn(&mut self, name: &str, epoch: Version, (now, until): (Moment, Moment)) {
        let known = Known { epoch, until };
        match self.known.get_mut(name) {
            Some(other) if other.epoch > epoch && now < other.until => {}
            Some(other) => *other = known,
            None => {
                if self.known.len() >= CAPACITY {
                    self.known.clear();
                    self.forgotten += 1;
                }
                self.known.insert(name.into(), known);
            }
        }
    }
}

/// How many epochs a process knows at most.
const CAPACITY: usize = 100_000;
