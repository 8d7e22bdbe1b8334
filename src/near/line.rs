use std::{collections::VecDeque, sync::Arc};

use crate::Moment;

/// Near entries in the order in which they came, which is nearly that in which their time ends. An entry
/// that has left the map keeps its place until it is called.
#[derive(Default)]
pub(super) struct Line(VecDeque<Place>);

pub(super) struct Place {
    pub(super) name: Arc<str>,
    /// The end of the entry's life, by which it is told from an earlier or later one of this name.
    pub(super) until: Moment,
}

impl Line {
    pub(super) fn push(&mut self, place: Place) {
        self.0.push_back(place);
    }

    pub(super) fn pop(&mut self) -> Option<Place> {
        self.0.pop_front()
    }

    /// The first, if its time is over.
    pub(super) fn pop_due(&mut self, now: Moment) -> Option<Place> {
        self.0.front().is_some_and(|place| place.until <= now).then(|| self.0.pop_front())?
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
