use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Weak},
};

use parking_lot::RwLock;

use super::{Event, Watcher};

/// The watchers in this process.
#[derive(Default)]
pub(crate) struct Watchers {
    list: RwLock<Vec<Weak<dyn Watcher>>>,
}

impl Watchers {
    pub(crate) fn add(&self, watcher: Weak<dyn Watcher>) {
        let mut list = self.list.write();
        list.retain(|watcher| watcher.strong_count() > 0);
        list.push(watcher);
    }

    pub(crate) fn tell(&self, event: Event<'_>) {
        // Upgraded first, and dropped after the lock is released: the last pointer to a guard may be dropped
        // here, and its destructor must not run under the lock.
        let watchers: Vec<Arc<dyn Watcher>> =
            self.list.read().iter().filter_map(Weak::upgrade).collect();
        for watcher in watchers {
            // A panic is the user's: a value whose drop panics, say. It must not end the task that reads the
            // messages, nor keep the other watchers from hearing.
            let hear = AssertUnwindSafe(move || watcher.on_event(event));
            let heard = catch_unwind(hear);
            if heard.is_err() {
                tracing::error!("a watcher of the far tier panicked");
            }
        }
    }
}
