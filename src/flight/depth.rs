use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::Notify;

/// How deep within other loads the deepest caller stands who waits for a flight. Zero: in none.
///
/// A flight that waits for room may be waited for by a load that has the room: it must be let through by
/// another door.
#[derive(Default)]
pub(crate) struct Depth {
    deepest: AtomicUsize,
    bell: Notify,
}

impl Depth {
    pub(super) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(super) fn reach(&self, depth: usize) {
        if self.deepest.fetch_max(depth, Ordering::AcqRel) < depth {
            self.bell.notify_waiters();
        }
    }

    /// Waits until somebody stands deeper than this; tells how deep.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up nothing.
    pub(crate) async fn beyond(&self, depth: usize) -> usize {
        loop {
            // Made before the look: it hears what is rung after it.
            let rung = self.bell.notified();
            let deepest = self.deepest.load(Ordering::Acquire);
            if deepest > depth {
                return deepest;
            }
            rung.await;
        }
    }
}
