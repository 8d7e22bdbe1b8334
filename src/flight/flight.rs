use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU32, Ordering},
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{Depth, Flights};
use crate::{Moment, Version};

/// What a flight's leader, its followers and its task share.
pub(super) struct Flight<T> {
    pub(super) name: Arc<str>,
    /// The caller alone who was looking when this flight began; it may find something stale for it.
    pub(super) beside: Option<u64>,
    /// How many marks were set. A caller notes it when boarding.
    pub(super) marks: AtomicU32,
    landing: OnceLock<Landing<T>>,
    /// The answer to give until it has landed.
    meanwhile: Mutex<Option<Given<T>>>,
    /// What somebody aboard has found that is better than no answer at all.
    spare: Mutex<Option<Given<T>>>,
    /// Rung when `landing` or `meanwhile` is set.
    bell: Notify,
    depth: Arc<Depth>,
}

/// A provisional answer, and the mark of those who were aboard when it was given.
struct Given<T> {
    meanwhile: Meanwhile<T>,
    before: Mark,
}

/// The answer to give until the flight has landed: to all who are aboard when it is given, and for how
/// long to those who come later.
///
/// Right for both: an invalidation that makes it wrong closes the flight, and nobody boards it any more.
pub(crate) struct Meanwhile<T> {
    pub(crate) answer: T,
    pub(crate) until: Moment,
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

/// A caller's place in a flight.
pub(crate) struct Seat<T> {
    pub(super) flight: Arc<Flight<T>>,
    pub(super) boarded_at: u32,
}

/// The duty to land a flight. Dropped without landing, it answers with `abandoned`.
pub(crate) struct Ticket<T> {
    pub(super) flights: Arc<Flights<T>>,
    pub(super) flight: Arc<Flight<T>>,
    pub(super) abandoned: fn() -> T,
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

impl<T> Flight<T> {
    pub(super) fn new(name: &Arc<str>, beside: Option<u64>) -> Arc<Self> {
        Arc::new(Self {
            name: name.clone(),
            beside,
            marks: AtomicU32::new(0),
            landing: OnceLock::new(),
            meanwhile: Mutex::default(),
            spare: Mutex::default(),
            bell: Notify::new(),
            depth: Depth::new(),
        })
    }

    /// Answers those aboard, and those to come; returns what was the answer before. Called under the
    /// name's lock, as is `offer`: what closes the flight because it may be wrong comes before or after.
    #[must_use = "dropped by the caller, without the name's lock"]
    pub(super) fn answer(&self, meanwhile: Meanwhile<T>) -> Option<Meanwhile<T>> {
        let given = Given { meanwhile, before: self.mark() };
        let before = self.meanwhile.lock().replace(given);
        self.bell.notify_waiters();
        before.map(|given| given.meanwhile)
    }

    #[must_use = "dropped by the caller, without the name's lock"]
    pub(super) fn offer(&self, spare: Meanwhile<T>) -> Option<Meanwhile<T>> {
        let given = Given { meanwhile: spare, before: self.mark() };
        self.spare.lock().replace(given).map(|given| given.meanwhile)
    }

    /// Whether somebody may get an answer from before the flight's own reading.
    pub(super) fn is_answered(&self) -> bool {
        self.meanwhile.lock().is_some() || self.spare.lock().is_some()
    }

    fn mark(&self) -> Mark {
        Mark(self.marks.fetch_add(1, Ordering::AcqRel) + 1)
    }

    fn land(&self, landing: Landing<T>) {
        let _ = self.landing.set(landing);
        self.bell.notify_waiters();
    }
}

impl<T: Clone> Seat<T> {
    /// Waits for the flight, or for the answer to give meanwhile. `None`: it landed with an answer that
    /// is not for this caller, who must go round again. The flight is no longer open then.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up nothing: the seat can be asked again.
    pub(crate) async fn landed(&self, now: impl Fn() -> Moment) -> Option<T> {
        loop {
            // Made before the look: it hears what is rung after it.
            let rung = self.flight.bell.notified();
            if let Some(landing) = self.flight.landing.get() {
                let for_this = landing.boarded_before.is_none_or(|mark| self.was_aboard(mark));
                return for_this.then(|| landing.answer.clone());
            }
            if let Some(answer) = self.given(&self.flight.meanwhile, &now) {
                return Some(answer);
            }
            rung.await;
        }
    }

    fn given(&self, given: &Mutex<Option<Given<T>>>, now: impl Fn() -> Moment) -> Option<T> {
        let given = given.lock();
        let Given { meanwhile, before } = given.as_ref()?;
        let for_this = self.was_aboard(*before) || now() < meanwhile.until;
        for_this.then(|| meanwhile.answer.clone())
    }

    fn was_aboard(&self, Mark(mark): Mark) -> bool {
        self.boarded_at < mark
    }

    /// What is better than no answer at all, for a caller who cannot wait for the landing.
    pub(crate) fn spare(&self, now: impl Fn() -> Moment) -> Option<T> {
        self.given(&self.flight.spare, now)
    }

    /// Says how deep within other loads this caller waits.
    pub(crate) fn waits_at(&self, depth: usize) {
        self.flight.depth.reach(depth);
    }
}

impl<T> Ticket<T> {
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.flight.name
    }

    /// Sets a mark between those aboard and those to come. Set one before each read whose answer
    /// only those aboard may have.
    pub(crate) fn mark(&self) -> Mark {
        self.flight.mark()
    }

    /// Answers those aboard and those to come, before the flight ends. `meanwhile` is made under the
    /// name's lock.
    pub(crate) fn answer(&self, meanwhile: impl FnOnce() -> Meanwhile<T>) {
        let shard = self.flights.shard(self.name()).lock();
        let before = self.flight.answer(meanwhile());
        // The user's values are dropped without the lock.
        drop(shard);
        drop(before);
    }

    /// Has something for those who cannot wait for the landing.
    pub(crate) fn offer(&self, spare: impl FnOnce() -> Meanwhile<T>) {
        let shard = self.flights.shard(self.name()).lock();
        let before = self.flight.offer(spare());
        drop(shard);
        drop(before);
    }

    /// How deep within other loads those aboard wait.
    pub(crate) fn depth(&self) -> &Arc<Depth> {
        &self.flight.depth
    }

    /// Ends the flight. `fill` runs iff it is still open, with the newest version heard of, under
    /// the name's lock, before anyone wakes: who comes next finds the near entry or a new flight. What
    /// it returns is dropped without the lock.
    pub(crate) fn land<R>(self, landing: Landing<T>, fill: impl FnOnce(Version) -> R) {
        drop(self.flights.remove(&self.flight, fill));
        self.flight.land(landing);
    }
}

impl<T> Drop for Ticket<T> {
    fn drop(&mut self) {
        // After `land` both are without effect. Otherwise the task was dropped: no one may wait
        // for it any longer.
        let _nothing = self.flights.remove(&self.flight, |_| ());
        if self.flight.landing.get().is_none() {
            self.flight.land(Landing::for_all((self.abandoned)()));
        }
    }
}
