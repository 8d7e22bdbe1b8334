use std::sync::Arc;

use super::{Flight, Flights, Meanwhile, Open, Ticket, Who};
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
    /// name's lock. A flight that began meanwhile goes on.
    pub(crate) fn landed(mut self, fill: impl FnOnce(Version)) {
        self.leave(fill);
        self.left = true;
    }

    /// Found something stale: opens a flight that refreshes it, or finds the one that began beside
    /// this caller, and answers who boards it with what is stale. Neither, if an invalidation has
    /// closed the name meanwhile.
    pub(crate) fn refresh(self, stale: Meanwhile<T>, abandoned: fn() -> T) -> Option<Ticket<T>> {
        let mut shard = self.flights.shard(&self.name).lock();
        let open = shard.get_mut(&*self.name)?;
        match &open.who {
            Who::Alone(id) if *id == self.id => {
                let flight = Flight::new(&self.name, None);
                flight.answer(stale);
                open.who = Who::Flight(flight.clone());
                Some(Ticket { flights: self.flights.clone(), flight, abandoned })
            }
            Who::Flight(flight) if flight.beside == Some(self.id) => {
                flight.answer(stale);
                None
            }
            _ => None,
        }
    }

    fn leave(&self, fill: impl FnOnce(Version)) {
        let mut shard = self.flights.shard(&self.name).lock();
        if matches!(shard.get(&*self.name), Some(Open { who: Who::Alone(id), .. }) if *id == self.id)
            && let Some(open) = shard.remove(&*self.name)
        {
            fill(open.floor);
        }
    }
}

impl<T> Drop for Alone<T> {
    fn drop(&mut self) {
        if !self.left {
            self.leave(|_| ());
        }
    }
}
