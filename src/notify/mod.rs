//! Messages about a far tier, for [`far::Paired`](crate::far::Paired): who waits for another process'
//! load is woken by them, and near tiers drop what is no longer true.
//!
//! # The contract
//!
//! Every implementer MUST:
//!
//! 1. *(all hear)* tell every watcher, in every process, of each event published after
//!    [`ready`](Notifier::ready) said so, in the order in which one process published them.
//! 2. *(connection)* tell watchers [`Event::Disconnected`] as soon as messages may be lost and
//!    [`Event::Connected`] when they flow again.
//! 3. *(bounded)* end every call within the implementer's own timeout.
//! 4. *(quiet)* show no name in an error or log.
//!
//! Messages are hints: a lost one costs time, never a wrong value.

use std::{
    future::Future,
    sync::{Arc, Weak},
};

use parking_lot::RwLock;

use crate::far::{Error, Event, Invalidated, Watcher};

mod memory;
#[cfg(any(feature = "redis", feature = "postgres", feature = "zookeeper"))]
pub(crate) mod message;
mod polling;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "redis")]
pub(crate) mod redis;
#[cfg(feature = "zookeeper")]
mod zookeeper;

#[cfg(feature = "postgres")]
pub use self::postgres::Postgres;
#[cfg(feature = "redis")]
pub use self::redis::Redis;
#[cfg(feature = "zookeeper")]
pub use self::zookeeper::Zookeeper;
pub use self::{memory::Memory, polling::Polling};

/// Carries events between processes. See the [module](self) for the contract.
pub trait Notifier: Send + Sync + 'static {
    /// Tells `watcher` of every event from now on, until it is dropped. Messages count as disconnected
    /// until the first [`Event::Connected`].
    fn watch(&self, watcher: Weak<dyn Watcher>);

    /// Begins to listen, if it does not yet. Called with every read, inside a tokio runtime.
    fn start(&self) {}

    /// Whether an event that is published after this answer will be heard here. Waits a little while
    /// the first connection is under way.
    fn ready(&self) -> impl Future<Output = bool> + Send;

    /// Tells everyone, this process too.
    fn publish(&self, event: Event<'_>) -> impl Future<Output = Result<Reach, Error>> + Send;
}

/// How far a message got.
pub type Reach = Invalidated;

/// Those in this process who hear events.
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
        // Strong pointers are taken first: dropping a guard's last one under the lock could run
        // its destructor here.
        let watchers: Vec<Arc<dyn Watcher>> =
            self.list.read().iter().filter_map(Weak::upgrade).collect();
        for watcher in watchers {
            watcher.on_event(event);
        }
    }
}
