//! A clock of its own for each execution. It moves only when its [keeper](keep) runs, from one end of a sleep to the
//! next: what decides when the keeper runs is the scheduler.

mod instant;
mod sleep;

pub use std::time::Duration;
use std::{
    cell::RefCell,
    collections::BTreeMap,
    future::poll_fn,
    task::{Poll, Waker},
};

pub use self::{
    instant::Instant,
    sleep::{Sleep, Timeout, sleep, sleep_until, timeout, timeout_at},
};

pub mod error {
    /// It took beyond the deadline.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Elapsed;
}

// All tasks of an execution run on one thread.
thread_local! {
    static TIMERS: RefCell<Timers> = RefCell::default();
}

struct Timers {
    now: Instant,
    /// By their ends, and in their order.
    sleeping: BTreeMap<(Instant, u64), Option<Waker>>,
    begun: u64,
    keeper: Option<Waker>,
}

impl Default for Timers {
    fn default() -> Self {
        Self { now: Instant::BEGINNING, sleeping: BTreeMap::new(), begun: 0, keeper: None }
    }
}

impl Timers {
    fn with<T>(work: impl FnOnce(&mut Self) -> T) -> T {
        TIMERS.with_borrow_mut(work)
    }

    /// Moves the clock to the next end of a sleep. `None` without one.
    fn pass(&mut self) -> Option<Option<Waker>> {
        let ((until, _), waker) = self.sleeping.pop_first()?;
        self.now = self.now.max(until);
        Some(waker)
    }
}

/// When the next sleep ends.
pub fn next_end() -> Option<Instant> {
    Timers::with(|timers| Some(timers.sleeping.first_key_value()?.0.0))
}

/// Sets the clock back, and spawns the task that moves it. To be called first in each execution: the keeper is its
/// second task.
pub fn keep() {
    let before = Timers::with(std::mem::take);
    drop(before);
    crate::task::forget_all();
    drop(shuttle::future::spawn(async {
        loop {
            let sleeper = poll_fn(|context| {
                Timers::with(|timers| match timers.pass() {
                    Some(sleeper) => Poll::Ready(sleeper),
                    None => {
                        timers.keeper = Some(context.waker().clone());
                        Poll::Pending
                    }
                })
            });
            sleeper.await.into_iter().for_each(Waker::wake);
            shuttle::future::yield_now().await;
        }
    }));
}
