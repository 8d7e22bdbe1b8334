use std::sync::Arc;

use tokio::sync::Notify;

use crate::sync::atomic::{AtomicUsize, Ordering};

/// How deep within other loads the deepest caller of a flight waits. Zero: in none.
///
/// A flight that queues for room may be waited for by a load that has the room: it must be let through at
/// that load's level. See the levels of the bulkhead (`guard/bulkhead.rs`).
#[derive(Default)]
pub(crate) struct Depth {
    deepest: AtomicUsize,
    deeper: Notify,
}

impl Depth {
    pub(super) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(super) fn reach(&self, depth: usize) {
        if self.deepest.fetch_max(depth, Ordering::AcqRel) < depth {
            self.deeper.notify_waiters();
        }
    }

    pub(crate) fn deepest(&self) -> usize {
        self.deepest.load(Ordering::Acquire)
    }

    /// Waits until a caller waits deeper than this; tells how deep.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up nothing.
    pub(crate) async fn beyond(&self, depth: usize) -> usize {
        loop {
            // Made before the look: it is notified of what comes after it.
            let deeper = self.deeper.notified();
            let deepest = self.deepest();
            if deepest > depth {
                return deepest;
            }
            deeper.await;
        }
    }
}
