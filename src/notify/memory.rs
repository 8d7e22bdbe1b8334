use std::sync::{Arc, Weak};

use super::{Notifier, Reach, Watchers};
use crate::far::{Error, Event, Watcher};

/// Messages inside one process, delivered before [`publish`](Notifier::publish) returns. Clones are
/// the same.
#[derive(Clone, Default)]
pub struct Memory {
    watchers: Arc<Watchers>,
}

impl Memory {
    /// A notifier that nobody watches.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Notifier for Memory {
    fn watch(&self, watcher: Weak<dyn Watcher>) {
        self.watchers.add(watcher.clone());
        if let Some(watcher) = watcher.upgrade() {
            watcher.on_event(Event::Connected);
        }
    }

    async fn ready(&self) -> bool {
        true
    }

    async fn publish(&self, event: Event<'_>) -> Result<Reach, Error> {
        self.watchers.tell(event);
        Ok(Reach::Everywhere)
    }
}
