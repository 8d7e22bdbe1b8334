use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use tokio::sync::SetOnce;

use super::Flights;
use crate::Version;

/// What a flight's leader, its followers and its task share.
pub(super) struct Flight<T> {
    pub(super) name: Arc<str>,
    /// The caller alone who was looking when this flight began; it may find something stale for it.
    pub(super) beside: Option<u64>,
    /// How many marks were set. A caller notes it when boarding.
    pub(super) marks: AtomicU32,
    pub(super) landing: SetOnce<Landing<T>>,
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
        let (marks, landing) = (AtomicU32::new(0), SetOnce::new());
        Arc::new(Self { name: name.clone(), beside, marks, landing })
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

    /// Answers those aboard and those to come, before the flight ends.
    pub(crate) fn answer(&self, landing: Landing<T>) {
        // Somebody may have answered already; both are right.
        let _ = self.flight.landing.set(landing);
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
