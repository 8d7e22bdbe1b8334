//! The breaker before the far tier, so that a dead one costs a timeout for a few callers and not for all.
//!
//! ```text
//! Closed ── five failures in a row, or an invalidation that could not be sent ──▶ Open
//! Open ── after a pause, one probe (see `recovery`) ──▶ HalfOpen
//! HalfOpen ── the probe and all pending invalidations went through ──▶ Closed
//! HalfOpen ── anything failed ──▶ Open
//! ```
//!
//! Callers are let through only while it is closed: the probe is a task's, so that no caller pays for it.

use std::sync::Arc;

use tokio::sync::{Notify, futures::OwnedNotified};

use crate::{
    observe::Gauge,
    sync::atomic::{
        AtomicBool, AtomicU64,
        Ordering::{AcqRel, Acquire, Release},
    },
};

pub(super) struct Breaker {
    /// A [`Count`], in one word: a failure counts for the time in which its call began, or not at all.
    count: AtomicU64,
    /// While half-open: whether what is written goes through.
    writes: AtomicBool,
    /// Notified when it closes.
    closing: Arc<Notify>,
    gauge: Gauge,
}

#[derive(Clone, Copy)]
struct Count {
    state: State,
    /// In a row, while closed.
    failures: u8,
    /// How often it has closed: a call that began before says nothing about now.
    closings: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum State {
    Closed,
    HalfOpen,
    Open,
}

/// The permission to call, and when it was given.
pub(super) struct Call {
    closings: u32,
}

/// What a failure did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Failed {
    /// This one has opened the breaker: its caller starts the recovery.
    Opened,
    Counted,
}

impl Breaker {
    pub(super) fn new(gauge: Gauge) -> Self {
        let count = Count { state: State::Closed, failures: 0, closings: 0 };
        Self {
            count: AtomicU64::new(count.word()),
            writes: AtomicBool::new(false),
            closing: Arc::default(),
            gauge,
        }
    }

    /// Waits for the next time that it closes. What is asked of it afterwards is not missed.
    pub(super) fn closes(&self) -> OwnedNotified {
        self.closing.clone().notified_owned()
    }

    fn count(&self) -> Count {
        Count::of(self.count.load(Acquire))
    }

    pub(super) fn state(&self) -> State {
        self.count().state
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state() == State::Closed
    }

    /// `None` while it is not closed.
    pub(super) fn call(&self) -> Option<Call> {
        let Count { state, closings, .. } = self.count();
        (state == State::Closed).then_some(Call { closings })
    }

    /// For an invalidation or a put, which goes through a little earlier: see
    /// [`let_writes`](Self::let_writes).
    pub(super) fn call_to_write(&self) -> Option<Call> {
        let Count { state, closings, .. } = self.count();
        let goes = match state {
            State::Closed => true,
            State::HalfOpen => self.writes.load(Acquire),
            State::Open => false,
        };
        goes.then_some(Call { closings })
    }

    pub(super) fn succeeded(&self) {
        // Read first: a shared line that every hit wrote to would be fought for.
        if self.count().failures != 0 {
            self.turn(|count| Some(Count { failures: 0, ..count }));
        }
    }

    /// Counts a failed call, and opens with the fifth in a row.
    pub(super) fn failed(&self, call: &Call) -> Failed {
        self.turn_from_closed(|count| {
            let failures = count.failures + 1;
            let state = if failures < FAILURES { State::Closed } else { State::Open };
            (count.closings == call.closings).then_some(Count { state, failures, ..count })
        })
    }

    /// Opens at once.
    pub(super) fn open(&self) -> Failed {
        self.turn_from_closed(|count| Some(Count { state: State::Open, ..count }))
    }

    fn turn_from_closed(&self, next: impl Fn(Count) -> Option<Count>) -> Failed {
        let turned = self.turn(|count| match count.state {
            State::Closed => next(count),
            _ => None,
        });
        match turned {
            Some(State::Open) => Failed::Opened,
            _ => Failed::Counted,
        }
    }

    /// For the recovery.
    pub(super) fn half_open(&self) {
        self.writes.store(false, Release);
        self.turn(|count| Some(Count { state: State::HalfOpen, ..count }));
    }

    /// What was pending has been sent once; what comes now goes through, or there would always be something
    /// to send. For the recovery.
    pub(super) fn let_writes(&self) {
        self.writes.store(true, Release);
    }

    /// The probe failed. For the recovery.
    pub(super) fn reopen(&self) {
        self.turn(|count| Some(Count { state: State::Open, ..count }));
    }

    /// For the recovery.
    pub(super) fn close(&self) {
        self.turn(|Count { closings, .. }| {
            let closings = closings.wrapping_add(1);
            Some(Count { state: State::Closed, failures: 0, closings })
        });
        self.closing.notify_waiters();
    }

    /// Says in which state it is then, if `next` says that something changes.
    fn turn(&self, next: impl Fn(Count) -> Option<Count>) -> Option<State> {
        let next = |word| next(Count::of(word));
        let words = |word| next(word).map(Count::word);
        let before = self.count.fetch_update(AcqRel, Acquire, words).ok()?;
        let (from, to) = (Count::of(before).state, next(before)?.state);
        self.moved(from, to);
        Some(to)
    }

    /// By how much, and not to what: two turns at one moment may come here in either order.
    fn moved(&self, from: State, to: State) {
        self.gauge.add(f64::from(to as u8) - f64::from(from as u8));
    }
}

/// A guard that is gone says nothing about the far tier.
impl Drop for Breaker {
    fn drop(&mut self) {
        self.moved(self.state(), State::Closed);
        // Nothing will close it any more.
        self.closing.notify_waiters();
    }
}

impl Count {
    fn of(word: u64) -> Self {
        let [state, failures, .., a, b, c, d] = word.to_be_bytes();
        Self { state: State::of(state), failures, closings: u32::from_be_bytes([a, b, c, d]) }
    }

    fn word(self) -> u64 {
        let [a, b, c, d] = self.closings.to_be_bytes();
        u64::from_be_bytes([self.state as u8, self.failures, 0, 0, a, b, c, d])
    }
}

impl State {
    fn of(state: u8) -> Self {
        match state {
            0 => Self::Closed,
            1 => Self::HalfOpen,
            _ => Self::Open,
        }
    }
}

const FAILURES: u8 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_failures_in_a_row_open_it_and_one_of_them_is_told() {
        let breaker = Breaker::new(Gauge::default());
        let call = || breaker.call().expect("closed");
        for _ in 0..4 {
            assert_eq!(breaker.failed(&call()), Failed::Counted);
        }
        breaker.succeeded();
        let calls: Vec<_> = (0..7).map(|_| call()).collect();
        let told: Vec<_> = calls.iter().map(|call| breaker.failed(call)).collect();
        assert_eq!(told.iter().filter(|told| **told == Failed::Opened).count(), 1);
        assert_eq!(told[4], Failed::Opened);
        assert!(breaker.call().is_none());
    }

    #[test]
    fn only_closing_lets_callers_through_again() {
        let breaker = Breaker::new(Gauge::default());
        assert_eq!(breaker.open(), Failed::Opened);
        assert_eq!(breaker.open(), Failed::Counted);
        breaker.half_open();
        assert!(breaker.call().is_none());
        breaker.reopen();
        assert_eq!(breaker.state(), State::Open);
        breaker.half_open();
        breaker.close();
        assert!(breaker.call().is_some());
    }

    #[test]
    fn what_began_before_it_closed_does_not_count() {
        let breaker = Breaker::new(Gauge::default());
        let late = breaker.call().expect("closed");
        breaker.open();
        breaker.close();
        for _ in 0..10 {
            breaker.failed(&late);
        }
        assert!(breaker.is_closed());
    }
}
