use std::sync::Arc;

use tokio::time::Instant;

use super::{
    flight::{Epoch, Flight, Overtaken},
    flights::Flights,
};
use crate::Moment;

/// A caller that waits for a flight: its leader, or a follower.
pub(crate) struct Waiter<T> {
    flight: Arc<Flight<T>>,
    boarded: Epoch,
}

impl<T> Waiter<T> {
    /// Whoever was there before the flight may see every answer of it.
    pub(super) fn from_the_beginning(flight: Arc<Flight<T>>) -> Self {
        Self { flight, boarded: Epoch::BEGINNING }
    }

    pub(super) fn board(flight: Arc<Flight<T>>) -> Self {
        let boarded = flight.epoch();
        Self { flight, boarded }
    }

    /// Closes its flight to newcomers. Not another one that took its place.
    pub(crate) fn close(&self, flights: &Flights<T>) {
        let _closed = flights.remove(&self.flight, |_| ());
    }

    /// Whether its flight was opened at this moment or before.
    pub(crate) fn is_of_flight_from(&self, moment: Instant) -> bool {
        self.flight.was_open_at(moment)
    }

    /// Says how deep within other loads this caller waits.
    pub(crate) fn waits_at(&self, depth: usize) {
        self.flight.depth.reach(depth);
    }
}

impl<T> Waiter<T> {
    /// Asked with an answer: what this process has heard of meanwhile, that may make it outdated.
    pub(crate) fn overtaken(&self) -> Option<Overtaken> {
        self.flight.overtaken()
    }
}

impl<T: Clone> Waiter<T> {
    /// Waits for the flight's answer, or for a provisional one. `None`: it completed with an answer that
    /// this caller must not see. The flight is no longer open then, and the caller boards again.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up nothing: it can be asked again.
    pub(crate) async fn answer(&self, now: impl Fn() -> Moment) -> Option<T> {
        loop {
            // Made before the look: it is notified of what comes after it.
            let changed = self.flight.changed();
            if let Some(answer) = self.flight.answer_for(self.boarded) {
                return answer;
            }
            if let Some(answer) = self.flight.provisional_for(self.boarded, false, &now) {
                return Some(answer);
            }
            changed.await;
        }
    }

    /// As [`answer`](Self::answer), without the provisional ones.
    ///
    /// # Cancel safety
    ///
    /// As for [`answer`](Self::answer).
    pub(crate) async fn completion(&self) -> Option<T> {
        loop {
            let changed = self.flight.changed();
            match self.flight.answer_for(self.boarded) {
                Some(answer) => return answer,
                None => changed.await,
            }
        }
    }

    /// What is better than no answer, for a caller whose deadline has passed.
    pub(crate) fn at_deadline(&self, now: impl Fn() -> Moment) -> Option<T> {
        self.flight.provisional_for(self.boarded, true, now)
    }
}
