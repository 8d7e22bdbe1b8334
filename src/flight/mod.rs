//! Flights: one load in progress in this process, and those who share it.
//!
//! - The first caller of a name goes [`Alone`]: it looks into the far tier by itself, which is all that
//!   most misses of the near tier need. The second caller who comes while it looks, or the first when it
//!   found nothing, starts a flight.
//! - A flight is a spawned task that holds a [`Ticket`]; callers hold a [`Seat`] and come and go
//!   freely. A dropped, aborted or never polled caller changes nothing for the others; one who is
//!   alone has no others.
//! - At most one caller alone or one flight of a name is *open*: in the map, where callers find it. It
//!   leaves the map when it lands, when an invalidation closes it, and when its holder is dropped.
//! - An answer may be bounded to those who boarded before a mark, because what was read from far or
//!   origin before a caller came may be older than an invalidation that the caller knows of. The
//!   others go round again.
//! - Only who is open fills the near tier, under the name's lock, where invalidations also run: either
//!   the invalidation finds it open, and closes it unfilled, or it comes after the near entry, and
//!   drops it.
//!
//! Not `futures::future::Shared`: it can miss a wake-up when the clone that polls is dropped
//! (rust-lang/futures-rs#2706), which is our callers' daily life.

use std::{
    collections::HashMap,
    hash::BuildHasher,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use foldhash::quality::RandomState;
use parking_lot::Mutex;
use tokio::sync::SetOnce;

use crate::Version;

const SHARDS: usize = 64;

/// The open flights of a guard. `T` is what callers get.
pub(crate) struct Flights<T> {
    shards: Box<[Shard<T>]>,
    hasher: RandomState,
    next_alone: AtomicU64,
}

type Shard<T> = Mutex<HashMap<Arc<str>, Open<T>, RandomState>>;

struct Open<T> {
    who: Who<T>,
    /// The newest version that a message told of while this was open: an older one may have been
    /// read, which must not be kept.
    floor: Version,
}

enum Who<T> {
    Alone(u64),
    Flight(Arc<Flight<T>>),
}

struct Flight<T> {
    name: Arc<str>,
    /// The caller alone who was looking when this flight began; it may find something stale for it.
    beside: Option<u64>,
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
    /// Nobody else is there: look into the far tier first.
    Alone(Alone<T>),
    /// The caller's miss started the flight; the ticket belongs to the task that flies it.
    Leader(Ticket<T>, Seat<T>),
    Follower(Seat<T>),
}

/// The only caller of a name, looking into the far tier.
pub(crate) struct Alone<T> {
    flights: Arc<Flights<T>>,
    name: Arc<str>,
    id: u64,
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
        Arc::new(Self { shards, hasher: RandomState::default(), next_alone: AtomicU64::new(0) })
    }

    /// Boards the open flight of `name`, opens one beside a caller alone, or goes alone.
    /// `abandoned` is the answer should the flight's task be dropped.
    pub(crate) fn board(self: &Arc<Self>, name: &Arc<str>, abandoned: fn() -> T) -> Boarding<T> {
        let mut shard = self.shard(name).lock();
        match shard.get_mut(&**name) {
            Some(open) => self.join(open, name, abandoned),
            None => {
                let id = self.next_alone.fetch_add(1, Ordering::Relaxed);
                let open = Open { who: Who::Alone(id), floor: Version::ZERO };
                shard.insert(name.clone(), open);
                Boarding::Alone(Alone { flights: self.clone(), name: name.clone(), id })
            }
        }
    }

    /// Boards the open flight of `name`, or opens one. Never goes alone.
    pub(crate) fn fly(self: &Arc<Self>, name: &Arc<str>, abandoned: fn() -> T) -> Boarding<T> {
        let mut shard = self.shard(name).lock();
        if let Some(open) = shard.get_mut(&**name) {
            return self.join(open, name, abandoned);
        }
        let flight = Flight::new(name, None);
        let open = Open { who: Who::Flight(flight.clone()), floor: Version::ZERO };
        shard.insert(name.clone(), open);
        self.lead(flight, abandoned)
    }

    /// Opens a flight that nobody waits for, and answers all who board it with something stale. Not if
    /// somebody is there already; nor if `valid`, asked under the name's lock, denies: an
    /// invalidation that came since the stale answer was found has closed the name and dropped it, and
    /// must not be undone.
    pub(crate) fn refresh(
        self: &Arc<Self>,
        name: &Arc<str>,
        stale: T,
        abandoned: fn() -> T,
        valid: impl FnOnce() -> bool,
    ) -> Option<Ticket<T>> {
        let mut shard = self.shard(name).lock();
        if shard.contains_key(&**name) || !valid() {
            return None;
        }
        let flight = Flight::new(name, None);
        let _ = flight.landing.set(Landing::for_all(stale));
        let open = Open { who: Who::Flight(flight.clone()), floor: Version::ZERO };
        shard.insert(name.clone(), open);
        Some(Ticket { flights: self.clone(), flight, abandoned })
    }

    fn join(
        self: &Arc<Self>,
        open: &mut Open<T>,
        name: &Arc<str>,
        abandoned: fn() -> T,
    ) -> Boarding<T> {
        match &open.who {
            Who::Flight(flight) => {
                let flight = flight.clone();
                // The lock only keeps the flight open meanwhile. A mark may be set at the same time,
                // and then either order is right: the caller came as the read began.
                let boarded_at = flight.marks.load(Ordering::Acquire);
                Boarding::Follower(Seat { flight, boarded_at })
            }
            Who::Alone(id) => {
                let flight = Flight::new(name, Some(*id));
                open.who = Who::Flight(flight.clone());
                self.lead(flight, abandoned)
            }
        }
    }

    fn lead(self: &Arc<Self>, flight: Arc<Flight<T>>, abandoned: fn() -> T) -> Boarding<T> {
        let seat = Seat { flight: flight.clone(), boarded_at: 0 };
        Boarding::Leader(Ticket { flights: self.clone(), flight, abandoned }, seat)
    }

    /// Closes the flight of `name` to newcomers and runs `also` under the name's lock. Those aboard
    /// still get its answer, but it will not fill the near tier.
    pub(crate) fn close<R>(&self, name: &str, also: impl FnOnce() -> R) {
        let mut shard = self.shard(name).lock();
        let closed = (shard.remove(name), also());
        // The user's values are dropped without the lock.
        drop(shard);
        drop(closed);
    }

    /// Closes every flight.
    pub(crate) fn close_all(&self) {
        for shard in &self.shards {
            shard.lock().clear();
        }
    }

    /// Returns when every fill that has begun before has ended.
    pub(crate) fn wait_for_fills(&self) {
        for shard in &self.shards {
            drop(shard.lock());
        }
    }

    /// Notes that `version` exists and runs `also` under the name's lock.
    pub(crate) fn raise<R>(&self, name: &str, version: Version, also: impl FnOnce() -> R) {
        let mut shard = self.shard(name).lock();
        if let Some(open) = shard.get_mut(name) {
            open.floor = open.floor.max(version);
        }
        let dropped = also();
        drop(shard);
        drop(dropped);
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
        let is_open =
            |open: &Open<T>| matches!(&open.who, Who::Flight(open) if Arc::ptr_eq(open, flight));
        if shard.get(&flight.name).is_some_and(is_open)
            && let Some(open) = shard.remove(&flight.name)
        {
            fill(open.floor);
        }
    }
}

impl<T> Flight<T> {
    fn new(name: &Arc<str>, beside: Option<u64>) -> Arc<Self> {
        let (marks, landing) = (AtomicU32::new(0), SetOnce::new());
        Arc::new(Self { name: name.clone(), beside, marks, landing })
    }
}

impl<T> Alone<T> {
    /// Found: `fill` runs iff this is still open, with the newest version heard of, under the
    /// name's lock. A flight that began meanwhile goes on.
    pub(crate) fn landed(self, fill: impl FnOnce(Version)) {
        self.leave(fill);
    }

    /// Found something stale: opens a flight that refreshes it, or finds the one that began beside
    /// this caller, and answers all who board it with what is stale. Neither, if an invalidation has
    /// closed the name meanwhile.
    pub(crate) fn refresh(self, stale: T, abandoned: fn() -> T) -> Option<Ticket<T>> {
        let mut shard = self.flights.shard(&self.name).lock();
        let open = shard.get_mut(&*self.name)?;
        match &open.who {
            Who::Alone(id) if *id == self.id => {
                let flight = Flight::new(&self.name, None);
                let _ = flight.landing.set(Landing::for_all(stale));
                open.who = Who::Flight(flight.clone());
                Some(Ticket { flights: self.flights.clone(), flight, abandoned })
            }
            Who::Flight(flight) if flight.beside == Some(self.id) => {
                let _ = flight.landing.set(Landing::for_all(stale));
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
        self.leave(|_| ());
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

    fn name() -> Arc<str> {
        "k".into()
    }

    fn lead(flights: &Arc<Flights<u32>>) -> (Ticket<u32>, Seat<u32>) {
        match flights.fly(&name(), || 0) {
            Boarding::Leader(ticket, seat) => (ticket, seat),
            _ => panic!("a flight is already open"),
        }
    }

    fn follow(flights: &Arc<Flights<u32>>) -> Seat<u32> {
        match flights.board(&name(), || 0) {
            Boarding::Follower(seat) => seat,
            _ => panic!("no flight is open"),
        }
    }

    fn alone(flights: &Arc<Flights<u32>>) -> Alone<u32> {
        match flights.board(&name(), || 0) {
            Boarding::Alone(alone) => alone,
            _ => panic!("somebody is there"),
        }
    }

    #[test]
    fn one_alone_leaves_nothing_and_fills_if_open() {
        let flights = Flights::new();
        let mut filled = None;
        alone(&flights).landed(|floor| filled = Some(floor));
        assert_eq!(filled, Some(Version::ZERO));
        drop(alone(&flights));
        assert_eq!(flights.open_count(), 0);

        let closed = alone(&flights);
        flights.close("k", || ());
        let next = alone(&flights);
        closed.landed(|_| panic!("filled although closed"));
        assert_eq!(flights.open_count(), 1, "the next one is still there");
        drop(next);
    }

    #[test]
    fn the_second_caller_starts_a_flight_and_waits_for_nobody() {
        let flights = Flights::new();
        let first = alone(&flights);
        let (ticket, seat) = lead(&flights);
        first.landed(|_| panic!("filled although a flight has begun"));
        assert!(seat.landed().now_or_never().is_none());
        ticket.land(Landing::for_all(7), |_| ());
        assert_eq!(seat.landed().now_or_never(), Some(Some(7)));
        assert_eq!(flights.open_count(), 0);
    }

    #[test]
    fn something_stale_is_shared_only_with_the_flight_beside() {
        let flights = Flights::new();
        let first = alone(&flights);
        let (_ticket, seat) = lead(&flights);
        assert!(first.refresh(3, || 0).is_none(), "a flight is in the air");
        assert_eq!(seat.landed().now_or_never(), Some(Some(3)));

        let flights = Flights::new();
        let first = alone(&flights);
        flights.close("k", || ());
        let (_ticket, seat) = lead(&flights);
        assert!(first.refresh(3, || 0).is_none());
        assert_eq!(seat.landed().now_or_never(), None, "it is older than the invalidation");

        let flights = Flights::new();
        let first = alone(&flights);
        flights.close("k", || ());
        assert!(first.refresh(3, || 0).is_none(), "closed and nobody there");
        assert_eq!(flights.open_count(), 0);
    }

    #[test]
    fn who_boards_a_refresh_gets_what_is_stale() {
        let flights = Flights::new();
        let ticket = alone(&flights).refresh(3, || 0).expect("nobody else is there");
        assert_eq!(follow(&flights).landed().now_or_never(), Some(Some(3)));
        ticket.land(Landing::for_all(4), |_| ());
        assert_eq!(flights.open_count(), 0);

        let ticket = flights.refresh(&name(), 3, || 0, || true).expect("nobody is there");
        assert_eq!(follow(&flights).landed().now_or_never(), Some(Some(3)));
        assert!(flights.refresh(&name(), 3, || 0, || true).is_none(), "one at a time");
        drop(ticket);
        assert!(flights.refresh(&name(), 3, || 0, || false).is_none(), "no longer valid");
        assert_eq!(flights.open_count(), 0);
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
