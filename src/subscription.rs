//! A subscription on a connection of its own, kept up.
//!
//! - A task connects and subscribes, and says `connected` only once the server has confirmed that.
//! - When the connection ends, however it ends, the feed hears `disconnected` before the task tries
//!   again.
//! - The task starts with the first use, which is inside a runtime. When that runtime ends, the next use
//!   starts it again in another one.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::watch, task::AbortHandle, time::Instant};

use crate::{Fault, backoff::Backoff};

/// What differs between the systems: how to subscribe, and how to hand on what arrives.
pub(crate) trait Feed: Send + Sync + 'static {
    /// A connection with its subscription.
    type Connection: Send;

    /// The pauses between attempts to connect.
    const BACKOFF: Backoff;

    /// Whether there is a server to subscribe at.
    fn is_possible(&self) -> bool {
        true
    }

    /// Connects and subscribes, within the system's own timeout. `attempt` counts up from zero.
    fn connect(
        &self,
        attempt: usize,
    ) -> impl Future<Output = Result<Self::Connection, Fault>> + Send;

    /// Hands on messages until the connection ends, and notices when a silent one has died.
    fn deliver(
        &self,
        connection: Self::Connection,
    ) -> impl Future<Output = Result<(), Fault>> + Send;

    /// The first attempt in a runtime begins.
    fn on_starting(&self) {}

    /// Messages arrive from now on. As [`on_disconnected`](Self::on_disconnected), called on the task that
    /// reads them: must be quick and must not block.
    fn on_connected(&self);

    /// Messages may be lost from now on.
    fn on_disconnected(&self);
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// The first attempt is under way: worth a short wait.
    Starting,
    Connected,
    Broken,
}

/// A subscription to a feed, until it is dropped.
pub(crate) struct Subscription<F> {
    shared: Arc<Shared<F>>,
    task: Mutex<Option<AbortHandle>>,
}

struct Shared<F> {
    feed: F,
    state: watch::Sender<State>,
    /// Whether nothing is to be started. Asked with every read: cheaper than the lock.
    running: AtomicBool,
}

impl<F: Feed> Subscription<F> {
    pub(crate) fn new(feed: F) -> Self {
        let possible = feed.is_possible();
        let state = watch::Sender::new(if possible { State::Starting } else { State::Broken });
        let shared = Shared { feed, state, running: AtomicBool::new(!possible) };
        Self { shared: Arc::new(shared), task: Mutex::default() }
    }

    /// The state now. It cannot change while it is borrowed.
    #[cfg(feature = "redis")]
    pub(crate) fn state(&self) -> watch::Ref<'_, State> {
        self.shared.state.borrow()
    }

    /// The states from now on.
    #[cfg(feature = "postgres")]
    pub(crate) fn states(&self) -> watch::Receiver<State> {
        self.shared.state.subscribe()
    }

    /// Starts the task unless it runs.
    pub(crate) fn start(&self) {
        if self.shared.running.load(Ordering::Relaxed) {
            return;
        }
        let mut task = self.task.lock();
        if !self.shared.running.swap(true, Ordering::Relaxed) {
            let running = Running(self.shared.clone());
            self.shared.state.send_replace(State::Starting);
            self.shared.feed.on_starting();
            *task = Some(tokio::spawn(run(running)).abort_handle());
        }
    }

    /// Starts the task unless it runs, and waits while the first attempt is under way, for no longer
    /// than `limit`.
    #[cfg(any(test, feature = "postgres"))]
    pub(crate) async fn ready(&self, limit: Duration) -> State {
        self.start();
        let mut states = self.shared.state.subscribe();
        let decided = states.wait_for(|state| *state != State::Starting);
        match tokio::time::timeout(limit, decided).await {
            Ok(Ok(state)) => *state,
            _ => State::Broken,
        }
    }
}

impl<F> Drop for Subscription<F> {
    fn drop(&mut self) {
        if let Some(task) = self.task.get_mut().take() {
            task.abort();
        }
    }
}

/// Until the task is dropped, if only with its runtime.
struct Running<F>(Arc<Shared<F>>);

impl<F> Drop for Running<F> {
    fn drop(&mut self) {
        self.0.running.store(false, Ordering::Relaxed);
    }
}

async fn run<F: Feed>(running: Running<F>) {
    let shared = &*running.0;
    let mut backoff = F::BACKOFF;
    for attempt in 0.. {
        let listening = Listening(shared);
        let begun = Instant::now();
        let ended = shared.listen(attempt).await;
        // One that ends at once, again and again, is as good as none.
        if *shared.state.borrow() == State::Connected && begun.elapsed() > STABLE {
            backoff = F::BACKOFF;
        }
        drop(listening);
        if let Err(fault) = ended {
            tracing::debug!(%fault, "subscription ended");
        }
        tokio::time::sleep(backoff.next()).await;
    }
}

/// A connection that lived for so long was a good one.
const STABLE: Duration = Duration::from_secs(1);

impl<F: Feed> Shared<F> {
    /// One connection, from its beginning to its end.
    async fn listen(&self, attempt: usize) -> Result<(), Fault> {
        let connection = self.feed.connect(attempt).await?;
        self.state.send_replace(State::Connected);
        self.feed.on_connected();
        self.feed.deliver(connection).await
    }
}

/// Says that messages have stopped, however that happened: also when the task is dropped with its
/// runtime.
struct Listening<'a, F: Feed>(&'a Shared<F>);

impl<F: Feed> Drop for Listening<'_, F> {
    fn drop(&mut self) {
        if self.0.state.send_replace(State::Broken) == State::Connected {
            self.0.feed.on_disconnected();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use tokio::{runtime, sync::Notify};

    use super::*;

    /// A feed whose connections end when the test says so.
    #[derive(Clone, Default)]
    struct TestFeed {
        connected: Arc<AtomicUsize>,
        disconnected: Arc<AtomicUsize>,
        end: Arc<Notify>,
    }

    impl Feed for TestFeed {
        type Connection = ();

        const BACKOFF: Backoff = Backoff::new(Duration::from_millis(1), Duration::from_millis(1));

        async fn connect(&self, _: usize) -> Result<(), Fault> {
            Ok(())
        }

        async fn deliver(&self, (): ()) -> Result<(), Fault> {
            self.end.notified().await;
            Ok(())
        }

        fn on_connected(&self) {
            self.connected.fetch_add(1, Ordering::SeqCst);
        }

        fn on_disconnected(&self) {
            self.disconnected.fetch_add(1, Ordering::SeqCst);
        }
    }

    impl TestFeed {
        fn counts(&self) -> (usize, usize) {
            (self.connected.load(Ordering::SeqCst), self.disconnected.load(Ordering::SeqCst))
        }
    }

    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_ends_is_told_and_replaced() {
        let feed = TestFeed::default();
        let subscription = Subscription::new(feed.clone());
        assert_eq!(subscription.ready(LIMIT).await, State::Connected);
        feed.end.notify_one();
        while feed.counts() != (2, 1) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        drop(subscription);
        while feed.counts() != (2, 2) {
            tokio::task::yield_now().await;
        }
    }

    #[test]
    fn a_subscription_outlives_the_runtime_that_started_it() {
        let feed = TestFeed::default();
        let subscription = Subscription::new(feed.clone());
        for number in 1..3 {
            let runtime = runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a runtime");
            assert_eq!(runtime.block_on(subscription.ready(LIMIT)), State::Connected);
            assert_eq!(feed.counts(), (number, number - 1));
            drop(runtime);
            assert_eq!(feed.counts(), (number, number));
        }
    }
}
