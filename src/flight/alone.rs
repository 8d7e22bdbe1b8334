use std::sync::Arc;

use super::{Boarding, Flight, Flights, Meanwhile, Open, Seat, Ticket, Who};
use crate::Version;

/// The only caller of a name, looking into the far tier.
pub(crate) struct Alone<T> {
    pub(super) flights: Arc<Flights<T>>,
    pub(super) name: Arc<str>,
    pub(super) id: u64,
    /// Whether it has looked for itself in the map already, which a drop need not do again.
    pub(super) left: bool,
}

impl<T> Alone<T> {
    /// Found: `fill` runs iff this is still open, with the newest version heard of, under the
    /// name's lock. A flight that began meanwhile goes on. What `fill` returns is dropped without the lock.
    pub(crate) fn landed<R>(mut self, fill: impl FnOnce(Version) -> R) {
        drop(self.leave(fill));
        self.left = true;
    }

    /// Found something stale: opens a flight that refreshes it, or finds the one that began beside
    /// this caller, and answers who boards it with what is stale. Neither, if an invalidation has
    /// closed the name meanwhile.
    pub(crate) fn refresh(
        self,
        stale: impl FnOnce() -> Meanwhile<T>,
        abandoned: fn() -> T,
    ) -> Option<Ticket<T>> {
        let mut shard = self.flights.shard(&self.name).lock();
        let (flight, is_new) = self.flight(shard.get_mut(&*self.name)?)?;
        let before = flight.answer(stale());
        drop(shard);
        drop(before);
        is_new.then(|| Ticket { flights: self.flights.clone(), flight, abandoned })
    }

    /// Found something that is better than no answer at all: boards a flight, and offers it to those who
    /// board it. `None`, if an invalidation has closed the name meanwhile: what was found is for this
    /// caller alone then.
    pub(crate) fn fly(
        self,
        spare: impl FnOnce() -> Meanwhile<T>,
        abandoned: fn() -> T,
    ) -> Option<Boarding<T>> {
        let mut shard = self.flights.shard(&self.name).lock();
        let (flight, is_new) = self.flight(shard.get_mut(&*self.name)?)?;
        let before = flight.offer(spare());
        // As the first aboard of its own, or for whom everything it could be told is right: it came
        // before the flight did.
        let seat = Seat { flight: flight.clone(), boarded_at: 0 };
        drop(shard);
        drop(before);
        Some(match is_new {
            true => {
                let ticket = Ticket { flights: self.flights.clone(), flight, abandoned };
                Boarding::Leader(ticket, seat)
            }
            false => Boarding::Follower(seat),
        })
    }

    /// The flight in this caller's place, or the one that began beside it, and whether it is new.
    fn flight(&self, open: &mut Open<T>) -> Option<(Arc<Flight<T>>, bool)> {
        match &open.who {
            Who::Alone(id) if *id == self.id => {
                let flight = Flight::new(&self.name, None);
                open.who = Who::Flight(flight.clone());
                Some((flight, true))
            }
            Who::Flight(flight) if flight.beside == Some(self.id) => Some((flight.clone(), false)),
            _ => None,
        }
    }

    fn leave<R>(&self, fill: impl FnOnce(Version) -> R) -> Option<R> {
        let mut shard = self.flights.shard(&self.name).lock();
        if matches!(shard.get(&*self.name), Some(Open { who: Who::Alone(id), .. }) if *id == self.id)
            && let Some(open) = shard.remove(&*self.name)
        {
            return Some(fill(open.floor));
        }
        None
    }
}

impl<T> Drop for Alone<T> {
    fn drop(&mut self) {
        if !self.left {
            self.leave(|_| ());
        }
    }
}
