//! A connection that listens, kept up.
//!
//! - A task connects, listens to the listener's channel, and says `connected` only when that is
//!   confirmed.
//! - A silent connection is asked whether it lives. Whatever ends it, the listener hears
//!   `disconnected` before the task tries again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use sqlx::{
    Executor, Postgres,
    postgres::{PgConnectOptions, PgListener, PgPoolOptions},
};
use tokio::{
    sync::watch,
    task::AbortHandle,
    time::{sleep, timeout},
};

use super::pool::Pool;
use crate::sql::Failure;

const PING_EVERY: Duration = Duration::from_millis(500);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Who hears what arrives. Called on the task that reads the messages: must be quick and must not
/// block.
pub(super) trait Listener: Send + Sync + 'static {
    /// At most 63 bytes: the server refuses to send to a longer one.
    fn channel(&self) -> &str;
    fn on_connected(&self);
    fn on_message(&self, payload: &str);
    fn on_disconnected(&self);
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// The first attempt is under way: worth a short wait.
    Starting,
    Connected,
    Broken,
}

pub(super) struct Subscriber<L> {
    shared: Arc<Shared<L>>,
    task: Mutex<Option<AbortHandle>>,
}

struct Shared<L> {
    options: PgConnectOptions,
    /// For connecting, and for the answer of a connection that is asked whether it lives.
    limit: Duration,
    listener: Arc<L>,
    state: watch::Sender<State>,
    /// Asked with every read: cheaper than the lock.
    running: AtomicBool,
}

impl<L: Listener> Subscriber<L> {
    /// Takes one connection to the same server, besides those of the set.
    pub(super) fn new(pool: &Pool, listener: Arc<L>) -> Self {
        let shared = Shared {
            options: pool.0.options().clone(),
            limit: pool.0.timeout(),
            listener,
            state: watch::Sender::new(State::Starting),
            running: AtomicBool::new(false),
        };
        Self { shared: Arc::new(shared), task: Mutex::default() }
    }

    pub(super) fn states(&self) -> watch::Receiver<State> {
        self.shared.state.subscribe()
    }

    /// Starts the task with the first use, which is inside a runtime; waits while the first attempt
    /// to connect is under way, up to `patience`.
    pub(super) async fn ready(&self, patience: Duration) -> State {
        self.start();
        let mut states = self.states();
        let decided = states.wait_for(|state| *state != State::Starting);
        match timeout(patience, decided).await {
            Ok(Ok(state)) => *state,
            _ => State::Broken,
        }
    }

    /// A task whose runtime is gone is started anew.
    pub(super) fn start(&self) {
        if self.shared.running.load(Ordering::Relaxed) {
            return;
        }
        let mut task = self.task.lock();
        if !self.shared.running.swap(true, Ordering::Relaxed) {
            let running = Running(self.shared.clone());
            self.shared.state.send_replace(State::Starting);
            *task = Some(tokio::spawn(run(running)).abort_handle());
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

/// Until the task is dropped, if only with its runtime.
struct Running<L>(Arc<Shared<L>>);

impl<L> Drop for Running<L> {
    fn drop(&mut self) {
        self.0.running.store(false, Ordering::Relaxed);
    }
}

async fn run<L: Listener>(running: Running<L>) {
    let shared = &*running.0;
    let mut pause = FIRST_PAUSE;
    loop {
        let listening = Listening(shared);
        let ended = listen(shared).await;
        if *shared.state.borrow() == State::Connected {
            pause = FIRST_PAUSE;
        }
        drop(listening);
        if let Err(failure) = ended {
            tracing::debug!(%failure, "listening ended");
        }
        sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
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
async fn listen<L: Listener>(shared: &Shared<L>) -> Result<(), Failure> {
    let mut connection = bounded(shared.limit, connect(shared)).await?;
    shared.state.send_replace(State::Connected);
    shared.listener.on_connected();
    loop {
        match timeout(PING_EVERY, connection.try_recv()).await {
            Ok(Ok(Some(notification))) => shared.listener.on_message(notification.payload()),
            Ok(Ok(None)) => return Ok(()),
            Ok(Err(error)) => return Err(Failure::of::<Postgres>(error)),
            // The driver keeps what arrives meanwhile.
            Err(_) => bounded(shared.limit, connection.execute("")).await.map(drop)?,
        }
    }
}

async fn connect<L: Listener>(shared: &Shared<L>) -> Result<PgListener, sqlx::Error> {
    // The driver's listener takes its connection from a pool: one for this connection only.
    let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(shared.limit);
    let pool = pool.idle_timeout(None).max_lifetime(None);
    let pool = pool.connect_lazy_with(shared.options.clone());
    let mut connection = PgListener::connect_with(&pool).await?;
    // It would connect again without a word about what was lost.
    connection.eager_reconnect(false);
    connection.ignore_pool_close_event(true);
    connection.listen(shared.listener.channel()).await?;
    Ok(connection)
}

async fn bounded<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, Failure> {
    match timeout(limit, work).await {
        Ok(done) => done.map_err(Failure::of::<Postgres>),
        Err(_) => Err(Failure::Timeout),
    }
}
