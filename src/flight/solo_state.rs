use tokio::sync::Notify;

use crate::sync::atomic::{AtomicBool, Ordering};

/// Tells a solo reader from others, and whether it still reads: a flight that began beside it waits for what it
/// finds before it asks for a lease.
#[derive(Default)]
pub(super) struct SoloState {
    done: AtomicBool,
    changed: Notify,
}

impl SoloState {
    /// Waits until the reader has decided, or was dropped.
    pub(super) async fn done(&self) {
        loop {
            // Made before the look: it is notified of what comes after it.
            let changed = self.changed.notified();
            if self.is_done() {
                return;
            }
            changed.await;
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }

    pub(super) fn set_done(&self) {
        self.done.store(true, Ordering::Release);
        self.changed.notify_waiters();
    }
}
