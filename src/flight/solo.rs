use std::sync::Arc;

use super::{
    completer::Completer,
    flight::{Flight, Provisional},
    flights::{Flights, Open, OpenBy},
    solo_state::SoloState,
    waiter::Waiter,
};
use crate::Version;

/// The only caller of a name, looking into the far tier.
pub(crate) struct SoloReader<T> {
    flights: Arc<Flights<T>>,
    name: Arc<str>,
    state: Arc<SoloState>,
}

/// A place in a flight.
pub(crate) enum Boarded<T> {
    /// The caller's miss started the flight; the completer belongs to the task that resolves it.
    Leader(Completer<T>, Waiter<T>),
    Follower(Waiter<T>),
}

impl<T> SoloReader<T> {
    pub(super) fn new(flights: &Arc<Flights<T>>, name: &Arc<str>, state: Arc<SoloState>) -> Self {
        Self { flights: flights.clone(), name: name.clone(), state }
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Found: `fill` runs if this is still open, with the newest version heard of, under the name's lock. A
    /// flight that began meanwhile goes on.
    pub(crate) fn complete<R>(self, fill: impl FnOnce(Version) -> R) {
        // What `fill` returns is dropped without the lock.
        drop(self.leave(fill));
    }

    /// Found something stale that is not refreshed now: answers callers of the flight that began beside this
    /// reader, if there is one.
    pub(crate) fn share(self, stale: impl FnOnce() -> Option<Provisional<T>>) {
        let names = self.flights.lock(&self.name);
        let Some(OpenBy::Flight(flight)) = names.get(&*self.name).map(|open| &open.by) else {
            return;
        };
        let stale = flight.is_beside(&self.state).then(stale).flatten();
        let before = stale.map(|stale| flight.provide(stale));
        drop(names);
        drop(before);
    }

    /// Found something stale: opens a flight that refreshes it, or finds the one that began beside this
    /// reader, and answers its callers with what is stale. `None` also if an invalidation has closed the
    /// name meanwhile.
    pub(crate) fn refresh(
        self,
        stale: impl FnOnce() -> Option<Provisional<T>>,
        abandoned: fn() -> T,
    ) -> Option<Completer<T>> {
        let (flight, is_new) = self.provide(stale)?;
        is_new.then(|| Completer::new(&self.flights, flight, abandoned))
    }

    /// Found something that is better than no answer: boards a flight, whose callers get that at their
    /// deadlines. `None` if an invalidation has closed the name meanwhile: what was found is for this caller
    /// alone then.
    pub(crate) fn fly(
        self,
        expired: impl FnOnce() -> Option<Provisional<T>>,
        abandoned: fn() -> T,
    ) -> Option<Boarded<T>> {
        let (flight, is_new) = self.provide(expired)?;
        // It came before the flight did.
        let waiter = Waiter::from_the_beginning(flight.clone());
        Some(match is_new {
            true => Boarded::Leader(Completer::new(&self.flights, flight, abandoned), waiter),
            false => Boarded::Follower(waiter),
        })
    }

    /// The flight in this reader's place, or the one that began beside it, with a provisional answer; and
    /// whether it is new.
    fn provide(
        &self,
        provisional: impl FnOnce() -> Option<Provisional<T>>,
    ) -> Option<(Arc<Flight<T>>, bool)> {
        let mut names = self.flights.lock(&self.name);
        let (flight, is_new) = self.flight(names.get_mut(&*self.name)?)?;
        let before = provisional().map(|provisional| flight.provide(provisional));
        drop(names);
        drop(before);
        Some((flight, is_new))
    }

    fn flight(&self, open: &mut Open<T>) -> Option<(Arc<Flight<T>>, bool)> {
        match &open.by {
            OpenBy::Solo(state) if Arc::ptr_eq(state, &self.state) => {
                let flight = Flight::new(&self.name, None);
                open.by = OpenBy::Flight(flight.clone());
                Some((flight, true))
            }
            OpenBy::Flight(flight) if flight.is_beside(&self.state) => {
                Some((flight.clone(), false))
            }
            _ => None,
        }
    }

    fn leave<R>(&self, fill: impl FnOnce(Version) -> R) -> Option<R> {
        let mut names = self.flights.lock(&self.name);
        let is_this = |open: &Open<T>| matches!(&open.by, OpenBy::Solo(state) if Arc::ptr_eq(state, &self.state));
        if !names.get(&*self.name).is_some_and(is_this) {
            return None;
        }
        let open = names.remove(&*self.name)?;
        Some(fill(open.floor))
    }
}

impl<T> Drop for SoloReader<T> {
    fn drop(&mut self) {
        self.leave(|_| ());
        self.state.set_done();
    }
}
