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
        atomic::{AtomicU64, Ordering},
    },
};

use foldhash::quality::RandomState;
use parking_lot::Mutex;

use self::flight::Flight;
pub(crate) use self::{
    alone::Alone,
    depth::Depth,
    flight::{Landing, Mark, Meanwhile, Seat, Ticket},
};
use crate::Version;

mod alone;
mod depth;
#[expect(clippy::module_inception, reason = "the noun that the others are about")]
mod flight;
#[cfg(test)]
mod tests;

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

/// What became of the wish to fly.
pub(crate) enum Boarding<T> {
    /// Nobody else is there: look into the far tier first.
    Alone(Alone<T>),
    /// The caller's miss started the flight; the ticket belongs to the task that flies it.
    Leader(Ticket<T>, Seat<T>),
    Follower(Seat<T>),
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
                Boarding::Alone(Alone {
                    flights: self.clone(),
                    name: name.clone(),
                    id,
                    left: false,
                })
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

    /// Opens a flight that nobody waits for, and answers who boards it with something stale. Not if
    /// somebody is there already; nor if `valid`, asked under the name's lock, denies: an
    /// invalidation that came since the stale answer was found has closed the name and dropped it, and
    /// must not be undone.
    pub(crate) fn refresh(
        self: &Arc<Self>,
        name: &Arc<str>,
        stale: impl FnOnce() -> Meanwhile<T>,
        abandoned: fn() -> T,
        valid: impl FnOnce() -> bool,
    ) -> Option<Ticket<T>> {
        let mut shard = self.shard(name).lock();
        if shard.contains_key(&**name) || !valid() {
            return None;
        }
        let flight = Flight::new(name, None);
        let _none = flight.answer(stale());
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

    /// Closes the flights whose callers get something stale meanwhile, and returns when every fill that
    /// has begun before has ended.
    pub(crate) fn close_answered(&self) {
        let is_answered =
            |open: &Open<T>| matches!(&open.who, Who::Flight(flight) if flight.is_answered());
        for shard in &self.shards {
            let mut shard = shard.lock();
            let closed: Vec<_> = shard.extract_if(|_, open| is_answered(open)).collect();
            drop(shard);
            drop(closed);
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
    #[must_use = "dropped by the caller, without the name's lock"]
    fn remove<R>(&self, flight: &Arc<Flight<T>>, fill: impl FnOnce(Version) -> R) -> Option<R> {
        let mut shard = self.shard(&flight.name).lock();
        // An invalidation may have closed this flight and a newer one may be open in its place.
        let is_open =
            |open: &Open<T>| matches!(&open.who, Who::Flight(open) if Arc::ptr_eq(open, flight));
        if shard.get(&flight.name).is_some_and(is_open)
            && let Some(open) = shard.remove(&flight.name)
        {
            return Some(fill(open.floor));
        }
        None
    }
}
