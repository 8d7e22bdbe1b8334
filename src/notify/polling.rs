use std::sync::{Arc, Weak};

use super::{Notifier, Reach, Watchers};
use crate::far::{Error, Event, Watcher};

/// No messages between processes: waiters look again, ever more slowly, and near entries live
/// shortly ([`Policy::near_outage_ttl`](crate::Policy)). Inside the process messages arrive.
#[derive(Clone, Default)]
pub struct Polling {
    watchers: Arc<Watchers>,
}

impl Polling {
    /// A notifier for systems without messages.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Notifier for Polling {
    fn watch(&self, watcher: Weak<dyn Watcher>) {
        self.watchers.add(watcher);
    }

    async fn ready(&self) -> bool {
        false
    }

    async fn publish(&self, event: Event<'_>) -> Result<Reach, Error> {
        self.watchers.tell(event);
        Ok(Reach::Unconfirmed)
    }
}
