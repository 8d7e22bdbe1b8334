use std::time::Duration;

use tokio::sync::watch;

use super::Guard;

/// What a [`shutdown`](Guard::shutdown) found to do.
#[must_use = "aborted loads have left their callers without an answer"]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shutdown {
    /// Every load was finished in time.
    Finished,
    /// So many flights were ended before they had an answer, and their leases released.
    Aborted {
        /// How many.
        flights: usize,
    },
}

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

    async fn none_left(&self, timeout: Duration) -> bool {
        let mut count = self.count.subscribe();
        tokio::time::timeout(timeout, count.wait_for(|count| *count == 0)).await.is_ok()
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl<K: ?Sized, V: Send + Sync + 'static> Guard<K, V> {
    /// Begins no more loads, waits for those in progress up to `timeout`, then ends the rest and releases
    /// their leases, so that other processes need not wait for a lease to run out. For a service that
    /// stops: call it when no more requests are accepted.
    ///
    /// Fresh and stale entries are still served; a fetch that would need a load is answered with
    /// [`Error::ShutDown`](crate::Error::ShutDown). Holds for all clones, and cannot be taken back.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, no more loads are begun; those in progress go on to their end.
    ///
    /// # Examples
    ///
    /// ```
    /// # async fn stop(guard: cattleguard::Guard<u64, String>) {
    /// use std::time::Duration;
    /// use cattleguard::Shutdown;
    ///
    /// if let Shutdown::Aborted { flights } = guard.shutdown(Duration::from_secs(5)).await {
    ///     eprintln!("{flights} loads took too long");
    /// }
    /// # }
    /// ```
    pub async fn shutdown(&self, timeout: Duration) -> Shutdown {
        let tasks = &self.core.tasks;
        tasks.phase.send_modify(|phase| *phase = (*phase).max(Phase::Closing));
        if tasks.none_left(timeout).await {
            return Shutdown::Finished;
        }
        let flights = *tasks.count.borrow();
        tasks.phase.send_replace(Phase::Closed);
        // Each has a lease to release, which the far timeout bounds.
        tasks.none_left(RELEASE).await;
        Shutdown::Aborted { flights }
    }
}

/// How long the release of leases may take.
const RELEASE: Duration = Duration::from_secs(1);
