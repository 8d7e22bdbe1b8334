use std::sync::Arc;

use tokio::time::Instant;

pub(crate) use super::solo::Boarded;
use super::{
    completer::Completer,
    flight::{Flight, Provisional},
    flights::{Flights, Open, OpenBy},
    solo::SoloReader,
    solo_state::SoloState,
    waiter::Waiter,
};

/// How a caller takes part.
pub(crate) enum Boarding<T> {
    /// No other caller is there: look into the far tier first.
    Solo(SoloReader<T>),
    Aboard(Boarded<T>),
}

impl<T> Flights<T> {
    /// Boards the open flight of `name`, opens one beside a solo reader, or becomes the solo reader.
    /// `abandoned` is the answer should the flight's task be dropped. A flight from before `oldest` takes no
    /// newcomers: another one takes its place.
    pub(crate) fn board(
        self: &Arc<Self>,
        name: &Arc<str>,
        oldest: Option<Instant>,
        abandoned: fn() -> T,
    ) -> Boarding<T> {
        let mut names = self.lock(name);
        if let Some(open) = names.get_mut(&**name) {
            return Boarding::Aboard(self.join(open, name, oldest, abandoned));
        }
        let state = Arc::<SoloState>::default();
        names.insert(name.clone(), Open::by(OpenBy::Solo(state.clone())));
        Boarding::Solo(SoloReader::new(self, name, state))
    }

    /// Boards the open flight of `name`, or opens one. `oldest` as for [`board`](Self::board).
    pub(crate) fn fly(
        self: &Arc<Self>,
        name: &Arc<str>,
        oldest: Option<Instant>,
        abandoned: fn() -> T,
    ) -> Boarded<T> {
        let mut names = self.lock(name);
        if let Some(open) = names.get_mut(&**name) {
            return self.join(open, name, oldest, abandoned);
        }
        let flight = Flight::new(name, None);
        names.insert(name.clone(), Open::by(OpenBy::Flight(flight.clone())));
        self.lead(flight, abandoned)
    }

    /// Opens a flight that no caller waits for, and answers callers that board it with something stale. Not
    /// if a caller is there already; nor if `valid`, asked under the name's lock, denies: an invalidation
    /// that came since the stale answer was found has closed the name and dropped it, and must not be
    /// undone.
    pub(crate) fn refresh(
        self: &Arc<Self>,
        name: &Arc<str>,
        stale: impl FnOnce() -> Option<Provisional<T>>,
        abandoned: fn() -> T,
        valid: impl FnOnce() -> bool,
    ) -> Option<Completer<T>> {
        let mut names = self.lock(name);
        if names.contains_key(&**name) || !valid() {
            return None;
        }
        let flight = Flight::new(name, None);
        let _none = stale().map(|stale| flight.provide(stale));
        names.insert(name.clone(), Open::by(OpenBy::Flight(flight.clone())));
        Some(Completer::new(self, flight, abandoned))
    }

    fn join(
        self: &Arc<Self>,
        open: &mut Open<T>,
        name: &Arc<str>,
        oldest: Option<Instant>,
        abandoned: fn() -> T,
    ) -> Boarded<T> {
        match &open.by {
            OpenBy::Flight(flight) if flight.is_older_than(oldest) => {
                let flight = Flight::new(name, None);
                open.by = OpenBy::Flight(flight.clone());
                self.lead(flight, abandoned)
            }
            // The name's lock keeps the flight open meanwhile.
            OpenBy::Flight(flight) => Boarded::Follower(Waiter::board(flight.clone())),
            OpenBy::Solo(state) => {
                let flight = Flight::new(name, Some(state.clone()));
                open.by = OpenBy::Flight(flight.clone());
                self.lead(flight, abandoned)
            }
        }
    }

    fn lead(self: &Arc<Self>, flight: Arc<Flight<T>>, abandoned: fn() -> T) -> Boarded<T> {
        let waiter = Waiter::from_the_beginning(flight.clone());
        Boarded::Leader(Completer::new(self, flight, abandoned), waiter)
    }
}
