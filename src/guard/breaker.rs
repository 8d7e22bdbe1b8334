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
        AtomicBool, AtomicU8, AtomicU32,
        Ordering::{AcqRel, Acquire, Relaxed, Release},
    },
};

pub(super) struct Breaker {
    state: AtomicU8,
    /// In a row, while closed.
    failures: AtomicU32,
    /// While half-open: whether what is written goes through.
    writes: AtomicBool,
    /// How often it has closed: a call that began before says nothing about now.
    closings: AtomicU32,
    /// Notified when it closes.
    closing: Arc<Notify>,
    gauge: Gauge,
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
        Self {
            state: AtomicU8::new(State::Closed as u8),
            failures: AtomicU32::new(0),
            writes: AtomicBool::new(false),
            closings: AtomicU32::new(0),
            closing: Arc::default(),
            gauge,
        }
    }

    /// Waits for the next time that it closes. What is asked of it afterwards is not missed.
    pub(super) fn closes(&self) -> OwnedNotified {
        self.closing.clone().notified_owned()
    }

    pub(super) fn state(&self) -> State {
        State::of(self.state.load(Acquire))
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state() == State::Closed
    }

    /// `None` while it is not closed.
    pub(super) fn call(&self) -> Option<Call> {
        let closings = self.closings.load(Acquire);
        self.is_closed().then_some(Call { closings })
    }

    /// For an invalidation or a put, which goes through a little earlier: see
    /// [`let_writes`](Self::let_writes).
    pub(super) fn call_to_write(&self) -> Option<Call> {
        let closings = self.closings.load(Acquire);
        let goes = match self.state() {
            State::Closed => true,
            State::HalfOpen => self.writes.load(Acquire),
            State::Open => false,
        };
        goes.then_some(Call { closings })
    }

    pub(super) fn succeeded(&self) {
        // Read first: a shared line that every hit wrote to would be fought for.
        if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
        }
    }

    /// Counts a failed call, and opens with the fifth in a row.
    pub(super) fn failed(&self, call: &Call) -> Failed {
        if call.closings != self.closings.load(Acquire) {
            return Failed::Counted;
        }
        if self.failures.fetch_add(1, Relaxed) + 1 < FAILURES {
            Failed::Counted
        } else {
            self.open()
        }
    }

    /// Opens at once.
    pub(super) fn open(&self) -> Failed {
        let opened =
            self.state.compare_exchange(State::Closed as u8, State::Open as u8, AcqRel, Acquire);
        if opened.is_err() {
            return Failed::Counted;
        }
        self.moved(State::Closed, State::Open);
        Failed::Opened
    }

    /// For the recovery.
    pub(super) fn half_open(&self) {
        self.writes.store(false, Release);
        self.turn(State::HalfOpen);
    }

    /// What was pending has been sent once; what comes now goes through, or there would always be something
    /// to send. For the recovery.
    pub(super) fn let_writes(&self) {
        self.writes.store(true, Release);
    }

    /// The probe failed. For the recovery.
    pub(super) fn reopen(&self) {
        self.turn(State::Open);
    }

    /// For the recovery.
    pub(super) fn close(&self) {
        self.failures.store(0, Relaxed);
        self.closings.fetch_add(1, AcqRel);
        self.turn(State::Closed);
        self.closing.notify_waiters();
    }

    fn turn(&self, to: State) {
        let from = State::of(self.state.swap(to as u8, AcqRel));
        self.moved(from, to);
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

impl State {
    fn of(state: u8) -> Self {
        match state {
            0 => Self::Closed,
            1 => Self::HalfOpen,
            _ => Self::Open,
        }
    }
}

const FAILURES: u32 = 5;

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
