use std::{sync::Arc, time::Duration};

use super::{
    depth::Depth,
    flight::{Completion, Epoch, Flight, Provisional},
    flights::Flights,
};
use crate::{Moment, Version};

/// The duty to complete a flight. Dropped before, it answers with `abandoned`.
#[must_use = "dropping it abandons the flight"]
pub(crate) struct Completer<T> {
    flights: Arc<Flights<T>>,
    flight: Arc<Flight<T>>,
    abandoned: fn() -> T,
}

impl<T> Completer<T> {
    pub(super) fn new(
        flights: &Arc<Flights<T>>,
        flight: Arc<Flight<T>>,
        abandoned: fn() -> T,
    ) -> Self {
        Self { flights: flights.clone(), flight, abandoned }
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.flight.name
    }

    /// How long ago it began.
    pub(crate) fn age(&self) -> Duration {
        self.flight.age()
    }

    /// Begins an epoch: to be done before each read whose answer is for callers aboard only.
    pub(crate) fn begin_epoch(&self) -> Epoch {
        self.flight.begin_epoch()
    }

    /// Answers callers before the flight completes. `provisional` is made under the name's lock.
    pub(crate) fn provide(&self, provisional: impl FnOnce() -> Option<Provisional<T>>) {
        let names = self.flights.lock(self.name());
        let before = provisional().map(|provisional| self.flight.provide(provisional));
        drop(names);
        drop(before);
    }

    /// Whether no solo reader beside this flight still reads.
    pub(crate) fn is_solo_reader_done(&self) -> bool {
        self.flight.is_solo_reader_done()
    }

    /// Waits until the solo reader beside this flight has given its callers something. For ever, if it does not.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up nothing.
    pub(crate) async fn solo_reader_has_found(&self) {
        self.flight.solo_reader_has_found().await;
    }

    /// What callers that board now are answered, if it is an answer for everybody.
    pub(crate) fn provisional(&self, now: impl Fn() -> Moment) -> Option<T>
    where
        T: Clone,
    {
        self.flight.provisional_for(self.flight.epoch(), false, now)
    }

    /// How deep within other loads the callers aboard wait.
    pub(crate) fn depth(&self) -> &Arc<Depth> {
        &self.flight.depth
    }

    /// Completes the flight. `fill` runs if it is still open, with the newest version heard of, under
    /// the name's lock, before any caller wakes: the next one finds the near entry or starts a new flight.
    pub(crate) fn complete<R>(self, completion: Completion<T>, fill: impl FnOnce(Version) -> R) {
        let filled = self.flights.remove(&self.flight, fill);
        self.flight.complete(completion);
        // Last, for it drops the user's values.
        drop(filled);
    }
}

impl<T> Drop for Completer<T> {
    fn drop(&mut self) {
        // After `complete` both are without effect. Otherwise the task was dropped, and no caller may wait
        // for it any longer.
        let _nothing = self.flights.remove(&self.flight, |_| ());
        if !self.flight.is_complete() {
            self.flight.complete(Completion::for_all((self.abandoned)()));
        }
    }
}
