use std::{mem, sync::Arc};

use super::map::{Gone, Map, NearEntry, discard};
use crate::Moment;

/// The second part of an insertion, for after the name's lock: what had to make room is dropped, the new entry
/// is measured, and what is past its time leaves.
#[must_use = "dropped by the caller, without the name's lock"]
pub(crate) struct Evicted<V> {
    gone: Gone<V>,
    inserted: Option<Inserted<V>>,
}

pub(super) struct Inserted<V> {
    pub(super) map: Arc<Map<V>>,
    pub(super) name: Arc<str>,
    pub(super) near: NearEntry<V>,
    pub(super) at: Moment,
}

impl<V> Evicted<V> {
    pub(super) fn nothing() -> Self {
        Self { gone: Gone::new(), inserted: None }
    }

    pub(super) fn of(gone: Gone<V>, inserted: Inserted<V>) -> Self {
        Self { gone, inserted: Some(inserted) }
    }
}

impl<V> Drop for Evicted<V> {
    fn drop(&mut self) {
        let mut gone = mem::take(&mut self.gone);
        if let Some(Inserted { map, name, near, at }) = self.inserted.take() {
            gone.extend(map.settle(name, near, at));
        }
        gone.into_iter().for_each(discard);
    }
}
