//! A subscription on a connection of its own, kept up.
//!
//! - A task connects, subscribes to the listener's channels, and says `connected` only when all are
//!   confirmed.
//! - A silent connection is pinged. Whatever ends it, the listener hears `disconnected` before the
//!   task tries again.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ::redis::Msg;
use futures::{Stream, StreamExt};
use parking_lot::Mutex;
use tokio::{sync::watch, task::AbortHandle};

use super::{connection::Connection, fault::typed};
use crate::{Fault, FaultKind};

const PING_EVERY: Duration = Duration::from_millis(500);
const PING_TIMEOUT: Duration = Duration::from_millis(500);
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Who hears what arrives. Called on the task that reads the messages: must be quick and must not
/// block.
pub(crate) trait Listener: Send + Sync + 'static {
    fn channels(&self) -> Vec<String>;
    fn on_message(&self, channel: &str, payload: &[u8]);
    fn on_connected(&self) {}
    fn on_disconnected(&self) {}
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// The first attempt is under way: worth a short wait.
    Starting,
    Connected,
    Broken,
}

pub(crate) struct Subscriber<L> {
    shared: Arc<Shared<L>>,
    /// Asked with every read: cheaper than the lock.
    started: AtomicBool,
    task: Mutex<Option<AbortHandle>>,
}

struct Shared<L> {
    connection: Connection,
    listener: Arc<L>,
    state: watch::Sender<State>,
}

impl<L: Listener> Subscriber<L> {
    pub(crate) fn new(connection: Connection, listener: Arc<L>) -> Self {
        let can = connection.can_subscribe();
        let state = watch::Sender::new(if can { State::Starting } else { State::Broken });
        Self {
            shared: Arc::new(Shared { connection, listener, state }),
            started: AtomicBool::new(!can),
            task: Mutex::new(None),
        }
    }

    pub(crate) fn state(&self) -> watch::Ref<'_, State> {
        self.shared.state.borrow()
    }

    /// Starts the task with the first use, which is inside a runtime; waits while the first attempt
    /// to subscribe is under way, up to `patience`.
    pub(crate) async fn ready(&self, patience: Duration) -> State {
        self.start();
        let mut state = self.shared.state.subscribe();
        let decided = state.wait_for(|state| *state != State::Starting);
        match tokio::time::timeout(patience, decided).await {
            Ok(Ok(state)) => *state,
            _ => State::Broken,
        }
    }

    pub(crate) fn start(&self) {
        if self.started.load(Ordering::Relaxed) {
            return;
        }
        let mut task = self.task.lock();
        if task.is_none() {
            *task = Some(tokio::spawn(run(self.shared.clone())).abort_handle());
            self.started.store(true, Ordering::Relaxed);
        }
    }
}

impl<L> Drop for Subscriber<L> {
    fn drop(&mut self) {
        if let Some(task) = self.task.get_mut().take() {
            task.abort();
        }
    }
}

async fn run<L: Listener>(shared: Arc<Shared<L>>) {
    let mut pause = FIRST_PAUSE;
    for attempt in 0.. {
        let listening = Listening(&shared);
        let ended = listen(&shared, attempt).await;
        if *shared.state.borrow() == State::Connected {
            pause = FIRST_PAUSE;
        }
        drop(listening);
        if let Err(error) = ended {
            tracing::debug!(%error, "subscription ended");
        }
        tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// However listening ends, also when the task is dropped with its runtime, nobody goes on believing
/// that messages arrive.
struct Listening<'a, L: Listener>(&'a Shared<L>);

impl<L: Listener> Drop for Listening<'_, L> {
    fn drop(&mut self) {
        if self.0.state.send_replace(State::Broken) == State::Connected {
            self.0.listener.on_disconnected();
        }
    }
}

/// One connection, from its beginning to its end.
async fn listen<L: Listener>(shared: &Shared<L>, attempt: usize) -> Result<(), Fault> {
    let (mut sink, mut messages) = shared.connection.subscription(attempt).await?.split();
    let channels = shared.listener.channels();
    bounded(sink.subscribe(&channels)).await?;
    shared.state.send_replace(State::Connected);
    shared.listener.on_connected();

    loop {
        let message = match tokio::time::timeout(PING_EVERY, messages.next()).await {
            Ok(Some(message)) => message,
            Ok(None) => return Ok(()),
            Err(_) => {
                // The messages must be read meanwhile, or a full buffer would hold up the pong.
                bounded(reading(shared, &mut messages, sink.ping::<()>())).await?;
                continue;
            }
        };
        take(shared, &message);
    }
}

/// Waits for `work` and goes on taking messages.
async fn reading<L: Listener, T>(
    shared: &Shared<L>,
    messages: &mut (impl Stream<Item = Msg> + Unpin),
    work: impl Future<Output = T>,
) -> T {
    let mut work = pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            Some(message) = messages.next() => take(shared, &message),
        }
    }
}

fn take<L: Listener>(shared: &Shared<L>, message: &Msg) {
    shared.listener.on_message(message.get_channel_name(), message.get_payload_bytes());
}

async fn bounded<T>(work: impl Future<Output = ::redis::RedisResult<T>>) -> Result<T, Fault> {
    match tokio::time::timeout(PING_TIMEOUT, work).await {
        Ok(done) => done.map_err(typed),
        Err(_) => Err(FaultKind::Timeout.into()),
    }
}
