use std::time::Duration;

use super::core::Guard;

/// What a [`shutdown`](Guard::shutdown) found to do.
#[must_use = "aborted loads have left their callers without an answer"]
#[non_exhaustive]
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
        tasks.close_door();
        if tasks.none_left(timeout).await {
            return Shutdown::Finished;
        }
        let flights = tasks.count();
        tasks.close();
        // Each has a lease to release, which the far timeout bounds.
        tasks.none_left(RELEASE).await;
        Shutdown::Aborted { flights }
    }
}

/// How long the release of leases may take.
const RELEASE: Duration = Duration::from_secs(1);
