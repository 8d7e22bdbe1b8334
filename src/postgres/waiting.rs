//! The names that this process waits for, and its waiters.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{sync::watch, time::timeout};

use super::channel::message;
use crate::{
    backoff::{self, Backoff},
    sql::row::{POLLING, Wait},
    subscription::State,
};

/// The names that are waited for, by the message about them.
#[derive(Default)]
pub(super) struct Names {
    by_message: Mutex<HashMap<i64, watch::Sender<()>>>,
}

impl Names {
    /// Registers a waiter. `states` are those of the subscription that notifies it.
    pub(super) fn register(self: &Arc<Self>, name: &str, states: watch::Receiver<State>) -> Waiter {
        let message = message(name);
        Waiter {
            messages: self.by_message.lock().entry(message).or_default().subscribe(),
            states,
            polling: POLLING,
            _registration: Registration { names: self.clone(), message },
        }
    }

    pub(super) fn notify(&self, message: i64) {
        if let Some(name) = self.by_message.lock().get(&message) {
            name.send_replace(());
        }
    }

    pub(super) fn notify_all(&self) {
        for name in self.by_message.lock().values() {
            name.send_replace(());
        }
    }
}

/// A caller that waits for a name.
pub(super) struct Waiter {
    messages: watch::Receiver<()>,
    states: watch::Receiver<State>,
    polling: Backoff,
    /// Dropped last, by the order of these fields: it looks whether there are other receivers.
    _registration: Registration,
}

struct Registration {
    names: Arc<Names>,
    message: i64,
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut names = self.names.by_message.lock();
        if names.get(&self.message).is_some_and(watch::Sender::is_closed) {
            names.remove(&self.message);
        }
    }
}

/// How long a message that was lost unnoticed can delay a waiter.
const LOOK_ANYWAY: Duration = Duration::from_secs(1);

impl Wait for Waiter {
    fn mark(&mut self) {
        self.messages.mark_unchanged();
    }

    async fn pause(&mut self, remaining: Duration) {
        let listening = *self.states.borrow() == State::Connected;
        let pause = match listening {
            true => backoff::spread(LOOK_ANYWAY, 0.5..1.5),
            false => self.polling.next(),
        };
        let _ = timeout(pause.min(remaining), self.messages.changed()).await;
    }
}
