//! Flights: one load in progress in this process, and those who share it.
//!
//! - A flight is a spawned task that holds a [`Ticket`]; callers hold a [`Seat`] and come and go
//!   freely. A dropped, aborted or never polled caller changes nothing for the others.
//! - At most one flight of a name is *open*: in the map, where callers board it. It leaves the map
//!   when it lands, when an invalidation closes it, and when its ticket is dropped.
//! - An answer may be bounded to those who boarded before a mark, because what was read from far or
//!   origin before a caller came may be older than an invalidation that the caller knows of. The
//!   others go round again.
//! - Only an open flight fills the near tier, under the name's lock, where invalidations also run:
//!   either the invalidation finds the flight open, and closes it unfilled, or it comes after the
//!   near entry, and drops it.
//!
//! Not `futures::future::Shared`: it can miss a wake-up when the clone that polls is dropped
//! (rust-lang/futures-rs#2706), which is our callers' daily life.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::sync::SetOnce;

use crate::Version;

const SHARDS: usize = 64;

/// The open flights of a guard. `T` is what callers get.
pub(crate) struct Flights<T> {
    shards: Box<[Shard<T>]>,
    hasher: RandomState,
}

type Shard<T> = Mutex<HashMap<Arc<str>, Open<T>>>;

struct Open<T> {
    flight: Arc<Flight<T>>,
    /// The newest version that a message told of while the flight was open: it may have read an
    /// older one, which must not be kept.
    floor: Version,
}

struct Flight<T> {
    name: Arc<str>,
    /// How many marks were set. A caller notes it when boarding.
    marks: AtomicU32,
    landing: SetOnce<Landing<T>>,
}

/// The answer of a flight.
#[derive(Clone)]
pub(crate) struct Landing<T> {
    answer: T,
    boarded_before: Option<Mark>,
}

/// A moment between boardings.
#[derive(Clone, Copy)]
pub(crate) struct Mark(u32);

/// What became of the wish to fly.
pub(crate) enum Boarding<T> {
    /// The caller's miss started the flight; the ticket belongs to the task that flies it.
    Leader(Ticket<T>, Seat<T>),
    Follower(Seat<T>),
}

/// A caller's place in a flight.
pub(crate) struct Seat<T> {
    flight: Arc<Flight<T>>,
    boarded_at: u32,
}

/// The duty to land a flight. Dropped without landing, it answers with `abandoned`.
pub(crate) struct Ticket<T> {
    flights: Arc<Flights<T>>,
    flight: Arc<Flight<T>>,
    abandoned: fn() -> T,
}

impl<T> Landing<T> {
    /// An answer for everyone aboard.
    pub(crate) fn for_all(answer: T) -> Self {
        Self { answer, boarded_before: None }
    }

    /// An answer for those who boarded before `mark`.
    pub(crate) fn for_those_before(mark: Mark, answer: T) -> Self {
        Self { answer, boarded_before: Some(mark) }
    }

    pub(crate) fn answer(&self) -> &T {
        &self.answer
    }
}

impl<T: Clone> Flights<T> {
    pub(crate) fn new() -> Arc<Self> {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Arc::new(Self { shards, hasher: RandomState::new() })
    }

    /// Boards the open flight of `name`, or opens one. `abandoned` is the answer should the
    /// flight's task be dropped.
    pub(crate) fn board(self: &Arc<Self>, name: &str, abandoned: fn() -> T) -> Boarding<T> {
        let mut shard = self.shard(name).lock();
        if let Some(open) = shard.get(name) {
            let flight = open.flight.clone();
            // Under the lock only so that the flight is still open; a mark may be set at the same
            // time, and then either order is right: the caller came at the moment of the read.
            let boarded_at = flight.marks.load(Ordering::Acquire);
            return Boarding::Follower(Seat { flight, boarded_at });
        }
        let name: Arc<str> = name.into();
        let flight = Arc::new(Flight {
            name: name.clone(),
            marks: AtomicU32::new(0),
            landing: SetOnce::new(),
        });
        shard.insert(name, Open { flight: flight.clone(), floor: Version::ZERO });
        drop(shard);
        let seat = Seat { flight: flight.clone(), boarded_at: 0 };
        Boarding::Leader(Ticket { flights: self.clone(), flight, abandoned }, seat)
    }

    /// Closes the flight of `name` to newcomers and runs `also` under the name's lock. Those aboard
    /// still get its answer, but it will not fill the near tier.
    pub(crate) fn close(&self, name: &str, also: impl FnOnce()) {
        let mut shard = self.shard(name).lock();
        shard.remove(name);
        also();
    }

    /// Closes every flight.
    pub(crate) fn close_all(&self) {
        for shard in &self.shards {
            shard.lock().clear();
        }
    }

    /// Notes that `version` exists and runs `also` under the name's lock.
    pub(crate) fn raise(&self, name: &str, version: Version, also: impl FnOnce()) {
        let mut shard = self.shard(name).lock();
        if let Some(open) = shard.get_mut(name) {
            open.floor = open.floor.max(version);
        }
        also();
    }

    /// How many flights are open.
    pub(crate) fn open_count(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }
}

impl<T> Flights<T> {
    fn shard(&self, name: &str) -> &Shard<T> {
        &self.shards[self.hasher.hash_one(name) as usize % SHARDS]
    }

    /// Removes `flight` if it is still open, running `fill` with its floor under the lock.
    fn remove(&self, flight: &Arc<Flight<T>>, fill: impl FnOnce(Version)) {
        let mut shard = self.shard(&flight.name).lock();
        // An invalidation may have closed this flight and a newer one may be open in its place.
        if shard.get(&flight.name).is_some_and(|open| Arc::ptr_eq(&open.flight, flight))
            && let Some(open) = shard.remove(&flight.name)
        {
            fill(open.floor);
        }
    }
}

impl<T: Clone> Seat<T> {
    /// Waits for the flight. `None`: it landed with an answer that is not for this caller, who
    /// must go round again. The flight is no longer open then.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the seat and nothing else.
    pub(crate) async fn landed(&self) -> Option<T> {
        let landing = self.flight.landing.wait().await;
        let aboard_in_time = landing.boarded_before.is_none_or(|Mark(mark)| self.boarded_at < mark);
        aboard_in_time.then(|| landing.answer.clone())
    }
}

impl<T> Ticket<T> {
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.flight.name
    }

    /// Sets a mark between those aboard and those to come. Set one before each read whose answer
    /// only those aboard may have.
    pub(crate) fn mark(&self) -> Mark {
        Mark(self.flight.marks.fetch_add(1, Ordering::AcqRel) + 1)
    }

    /// Answers all who are aboard or still board, while the flight goes on.
    pub(crate) fn answer_early(&self, answer: T) {
        let _ = self.flight.landing.set(Landing::for_all(answer));
    }

    /// Ends the flight. `fill` runs iff it is still open, with the newest version heard of, under
    /// the name's lock, before anyone wakes: who comes next finds the near entry or a new flight.
    pub(crate) fn land(self, landing: Landing<T>, fill: impl FnOnce(Version)) {
        self.flights.remove(&self.flight, fill);
        let _ = self.flight.landing.set(landing);
    }
}

impl<T> Drop for Ticket<T> {
    fn drop(&mut self) {
        // After `land` both are without effect. Otherwise the task was dropped: no one may wait
        // for it any longer.
        self.flights.remove(&self.flight, |_| ());
        if !self.flight.landing.initialized() {
            let _ = self.flight.landing.set(Landing::for_all((self.abandoned)()));
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn board(flights: &Arc<Flights<u32>>) -> Boarding<u32> {
        flights.board("k", || 0)
    }

    fn lead(flights: &Arc<Flights<u32>>) -> (Ticket<u32>, Seat<u32>) {
        match board(flights) {
            Boarding::Leader(ticket, seat) => (ticket, seat),
            Boarding::Follower(_) => panic!("a flight is already open"),
        }
    }

    fn follow(flights: &Arc<Flights<u32>>) -> Seat<u32> {
        match board(flights) {
            Boarding::Follower(seat) => seat,
            Boarding::Leader(..) => panic!("no flight is open"),
        }
    }

    #[test]
    fn everyone_aboard_gets_the_answer_and_nothing_is_left() {
        let flights = Flights::new();
        let (ticket, leader) = lead(&flights);
        let follower = follow(&flights);
        assert!(follower.landed().now_or_never().is_none(), "still in the air");
        ticket.land(Landing::for_all(7), |_| ());
        assert_eq!(leader.landed().now_or_never(), Some(Some(7)));
        assert_eq!(follower.landed().now_or_never(), Some(Some(7)));
        assert_eq!(flights.open_count(), 0);
    }

    #[test]
    fn who_boards_after_the_mark_goes_round_again() {
        let flights = Flights::new();
        let (ticket, leader) = lead(&flights);
        let early = follow(&flights);
        let mark = ticket.mark();
        let late = follow(&flights);
        ticket.land(Landing::for_those_before(mark, 7), |_| ());
        assert_eq!(leader.landed().now_or_never(), Some(Some(7)));
        assert_eq!(early.landed().now_or_never(), Some(Some(7)));
        assert_eq!(late.landed().now_or_never(), Some(None));
    }

    #[test]
    fn a_closed_flight_takes_no_newcomers_and_fills_nothing() {
        let flights = Flights::new();
        let (old, seat) = lead(&flights);
        flights.close("k", || ());
        let (new, _) = lead(&flights);
        old.land(Landing::for_all(1), |_| panic!("filled by a closed flight"));
        assert_eq!(seat.landed().now_or_never(), Some(Some(1)));
        let aboard_new = follow(&flights);
        new.land(Landing::for_all(2), |_| ());
        assert_eq!(aboard_new.landed().now_or_never(), Some(Some(2)));
    }

    #[test]
    fn a_dropped_ticket_hangs_no_one() {
        let flights = Flights::new();
        let (ticket, seat) = lead(&flights);
        drop(ticket);
        assert_eq!(seat.landed().now_or_never(), Some(Some(0)));
        assert_eq!(flights.open_count(), 0);
    }

    #[test]
    fn the_floor_rises_while_open() {
        let flights = Flights::new();
        let (ticket, _seat) = lead(&flights);
        flights.raise("k", Version::new(5), || ());
        flights.raise("k", Version::new(3), || ());
        let mut floor = None;
        ticket.land(Landing::for_all(1), |f| floor = Some(f));
        assert_eq!(floor, Some(Version::new(5)));
    }
}
