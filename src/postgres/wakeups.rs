//! Messages about released names: one connection that listens for all waiters of a process.
//!
//! [1] A waiter registers, is told that the connection listens, and asks for the lock again: a release
//! before that is found, a release after that is heard.
//! [2] A name's message is the hash of the name. A stranger of the same hash is woken for nothing.
//! [3] A connection that broke may have lost messages: all look once, and poll until there is another.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use super::{
    pool::Pool,
    subscriber::{Listener, State, Subscriber},
};
use crate::sql::row::{Polling, Wait, jittered};

pub(super) const CHANNEL: &str = "cattleguard_lock";

/// The message about a name.
pub(super) fn message(name: &str) -> i64 {
    hash(name).cast_signed()
}

pub(super) struct Wakeups {
    subscriber: Subscriber<Names>,
    names: Arc<Names>,
    timeout: Duration,
}

/// Those that are waited for.
#[derive(Default)]
struct Names {
    by_message: Mutex<HashMap<i64, watch::Sender<()>>>,
}

/// How long a lost message, which nobody knows of, can delay a waiter.
const LOOK_ANYWAY: Duration = Duration::from_secs(1);

impl Wakeups {
    pub(super) fn new(pool: &Pool) -> Self {
        let names = Arc::new(Names::default());
        let subscriber = Subscriber::new(pool, names.clone());
        Self { subscriber, names, timeout: pool.0.timeout() }
    }

    /// Registers a waiter, and gives the first connection time to listen.
    pub(super) async fn wait(&self, name: &str, deadline: Instant) -> Waiter {
        let message = message(name);
        let waiter = Waiter {
            messages: self.names.by_message.lock().entry(message).or_default().subscribe(),
            states: self.subscriber.states(),
            polling: Polling::new(),
            _place: Place { names: self.names.clone(), message },
        };
        let rest = deadline.saturating_duration_since(Instant::now());
        // Without it the waiter polls.
        self.subscriber.ready(rest.min(self.timeout)).await;
        waiter
    }
}

impl Listener for Names {
    fn channel(&self) -> &str {
        CHANNEL
    }

    fn on_connected(&self) {
        self.wake_all();
    }

    fn on_message(&self, payload: &str) {
        if let Ok(message) = payload.parse() {
            self.wake(message);
        }
    }

    fn on_disconnected(&self) {
        self.wake_all();
    }
}

impl Names {
    fn wake(&self, message: i64) {
        if let Some(name) = self.by_message.lock().get(&message) {
            name.send_replace(());
        }
    }

    fn wake_all(&self) {
        for name in self.by_message.lock().values() {
            name.send_replace(());
        }
    }
}

/// Somebody who waits for a name.
pub(super) struct Waiter {
    messages: watch::Receiver<()>,
    states: watch::Receiver<State>,
    polling: Polling,
    /// Given up last, by the order of these fields.
    _place: Place,
}

struct Place {
    names: Arc<Names>,
    message: i64,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut names = self.names.by_message.lock();
        if names.get(&self.message).is_some_and(watch::Sender::is_closed) {
            names.remove(&self.message);
        }
    }
}

impl Wait for Waiter {
    fn mark(&mut self) {
        self.messages.mark_unchanged();
    }

    async fn pause(&mut self, rest: Duration) {
        let listening = *self.states.borrow() == State::Connected;
        let pause = if listening { jittered(LOOK_ANYWAY) } else { self.polling.next() };
        let _ = timeout(pause.min(rest), self.messages.changed()).await;
    }
}

/// What stands for a text where messages are about it. FNV-1a: the same in every process of every
/// version.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}
