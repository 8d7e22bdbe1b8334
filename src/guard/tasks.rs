use std::time::Duration;

use tokio::sync::watch;

/// The flights' tasks of a guard, and whether they may go on.
pub(super) struct Tasks {
    count: watch::Sender<usize>,
    phase: watch::Sender<Phase>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Phase {
    Open,
    /// Nothing new is begun.
    Closing,
    /// What was begun is given up.
    Closed,
}

/// One flight's task.
pub(super) struct Task(watch::Sender<usize>);

impl Tasks {
    pub(super) fn new() -> Self {
        Self { count: watch::Sender::new(0), phase: watch::Sender::new(Phase::Open) }
    }

    pub(super) fn begin(&self) -> Task {
        self.count.send_modify(|count| *count += 1);
        Task(self.count.clone())
    }

    pub(super) fn count(&self) -> usize {
        *self.count.borrow()
    }

    /// From now on nothing new is begun.
    pub(super) fn close_door(&self) {
        self.phase.send_modify(|phase| *phase = (*phase).max(Phase::Closing));
    }

    /// What was begun is given up.
    pub(super) fn close(&self) {
        self.phase.send_replace(Phase::Closed);
    }

    /// Whether nothing new may be begun.
    pub(super) fn closing(&self) -> bool {
        *self.phase.borrow() != Phase::Open
    }

    /// Waits until what was begun must be given up.
    pub(super) async fn closed(&self) {
        let mut phase = self.phase.subscribe();
        // The sender lives as long as `self`.
        let _ = phase.wait_for(|phase| *phase == Phase::Closed).await;
    }

    pub(super) async fn none_left(&self, timeout: Duration) -> bool {
        let mut count = self.count.subscribe();
        tokio::time::timeout(timeout, count.wait_for(|count| *count == 0)).await.is_ok()
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}
