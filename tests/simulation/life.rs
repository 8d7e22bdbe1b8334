//! Whether a process runs.

use std::{future::pending, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

/// What a process does to others goes through [`awake`](Life::awake): the tasks of a frozen or killed one go on within
/// one runtime, but nothing comes of it.
#[derive(Default)]
pub(crate) struct Life(Mutex<State>);

#[derive(Clone, Copy, Default)]
enum State {
    #[default]
    Awake,
    FrozenUntil(Instant),
    Dead,
}

impl Life {
    /// Returns while the process runs; never, once it is dead.
    pub(crate) async fn awake(&self) {
        if !self.is_awake().await {
            pending().await
        }
    }

    /// Waits while it is frozen. Whether it runs; otherwise it is dead.
    pub(crate) async fn is_awake(&self) -> bool {
        loop {
            let state = *self.0.lock();
            match state {
                State::FrozenUntil(until) if Instant::now() < until => {
                    tokio::time::sleep_until(until).await;
                }
                State::Awake | State::FrozenUntil(_) => return true,
                State::Dead => return false,
            }
        }
    }

    pub(crate) fn freeze(&self, until: Instant) {
        let mut state = self.0.lock();
        if !matches!(*state, State::Dead) {
            *state = State::FrozenUntil(until);
        }
    }

    pub(crate) fn end(&self) {
        *self.0.lock() = State::Dead;
    }

    pub(crate) fn has_ended(&self) -> bool {
        matches!(*self.0.lock(), State::Dead)
    }
}

/// Others run meanwhile, mostly within the same millisecond.
pub(crate) async fn pass(longest_ms: u64) {
    let time = fastrand::u64(0..=longest_ms);
    if time > 0 {
        tokio::time::sleep(Duration::from_millis(time)).await;
    }
    for _ in 0..fastrand::u8(0..3) {
        tokio::task::yield_now().await;
    }
}
