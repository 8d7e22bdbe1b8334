//! Messages about released names: one connection that listens for all waiters of a process.
//!
//! [1] A waiter registers, is told that the connection listens, and asks for the lock again: a release
//! before that is found, a release after that is heard.
//! [2] A name's message is the hash of the name. A stranger of the same hash is woken for nothing.
//! [3] A connection that broke may have lost messages: all look once, and poll until there is another.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use tokio::{
    sync::watch,
    task::AbortHandle,
    time::{Instant, timeout, timeout_at},
};

use crate::lock::row::{Polling, Wait, jittered};

pub(super) const CHANNEL: &str = "cattleguard_lock";

/// The message about a name. FNV-1a: short, and the same in every process of every version.
pub(super) fn message(name: &str) -> i64 {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    hash.cast_signed()
}

pub(super) struct Listener {
    options: PgConnectOptions,
    timeout: Duration,
    shared: Arc<Shared>,
    /// Begun by the first who waits.
    task: Mutex<Option<AbortHandle>>,
}

struct Shared {
    listening: watch::Sender<bool>,
    names: Mutex<HashMap<i64, watch::Sender<()>>>,
}

const RECONNECT: Duration = Duration::from_millis(500);
/// How long a lost message, which nobody knows of, can delay a waiter.
const LOOK_ANYWAY: Duration = Duration::from_secs(1);

impl Listener {
    pub(super) fn new(options: PgConnectOptions, timeout: Duration) -> Self {
        let listening = watch::Sender::new(false);
        let shared = Arc::new(Shared { listening, names: Mutex::default() });
        Self { options, timeout, shared, task: Mutex::default() }
    }

    /// Registers a waiter, and gives the connection time to listen.
    pub(super) async fn wait(&self, name: &str, deadline: Instant) -> Waiter {
        self.begin();
        let waiter = self.shared.register(message(name));
        let until = deadline.min(Instant::now() + self.timeout);
        let mut listening = self.shared.listening.subscribe();
        // Without it the waiter polls.
        let _ = timeout_at(until, listening.wait_for(|listening| *listening)).await;
        waiter
    }

    fn begin(&self) {
        let mut task = self.task.lock();
        // One whose runtime is gone is begun anew.
        if task.as_ref().is_none_or(AbortHandle::is_finished) {
            let (options, shared) = (self.options.clone(), self.shared.clone());
            let listen = listen(options, self.timeout, shared);
            *task = Some(tokio::spawn(listen).abort_handle());
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(task) = &*self.task.lock() {
            task.abort();
        }
    }
}

async fn listen(options: PgConnectOptions, limit: Duration, shared: Arc<Shared>) {
    let deaf = Deaf(shared);
    loop {
        // The driver's listener takes its connection from a pool: one for this connection only.
        let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(limit);
        let pool = pool.idle_timeout(None).max_lifetime(None).connect_lazy_with(options.clone());
        let connected = timeout(limit, async {
            let mut listener = PgListener::connect_with(&pool).await?;
            listener.eager_reconnect(false);
            listener.ignore_pool_close_event(true);
            listener.listen(CHANNEL).await?;
            Ok::<_, sqlx::Error>(listener)
        });
        if let Ok(Ok(mut listener)) = connected.await {
            deaf.0.listening.send_replace(true);
            deaf.0.wake_all();
            while let Ok(Some(notification)) = listener.try_recv().await {
                if let Ok(message) = notification.payload().parse() {
                    deaf.0.wake(message);
                }
            }
            deaf.0.listening.send_replace(false);
            deaf.0.wake_all();
        }
        tokio::time::sleep(jittered(RECONNECT)).await;
    }
}

/// Says so also when the task is dropped with its runtime.
struct Deaf(Arc<Shared>);

impl Drop for Deaf {
    fn drop(&mut self) {
        self.0.listening.send_replace(false);
        self.0.wake_all();
    }
}

impl Shared {
    fn register(self: &Arc<Self>, message: i64) -> Waiter {
        Waiter {
            messages: self.names.lock().entry(message).or_default().subscribe(),
            listening: self.listening.subscribe(),
            polling: Polling::new(),
            _place: Place { shared: self.clone(), message },
        }
    }

    fn wake(&self, message: i64) {
        if let Some(name) = self.names.lock().get(&message) {
            name.send_replace(());
        }
    }

    fn wake_all(&self) {
        for name in self.names.lock().values() {
            name.send_replace(());
        }
    }
}

/// Somebody who waits for a name.
pub(super) struct Waiter {
    messages: watch::Receiver<()>,
    listening: watch::Receiver<bool>,
    polling: Polling,
    /// Given up last, by the order of these fields.
    _place: Place,
}

struct Place {
    shared: Arc<Shared>,
    message: i64,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut names = self.shared.names.lock();
        if names.get(&self.message).is_some_and(watch::Sender::is_closed) {
            names.remove(&self.message);
        }
    }
}

impl Wait for Waiter {
    fn mark(&mut self) {
        self.messages.mark_unchanged();
    }

    async fn pause(&mut self, rest: Duration) {
        let listening = *self.listening.borrow();
        let pause = if listening { jittered(LOOK_ANYWAY) } else { self.polling.next() };
        let _ = timeout(pause.min(rest), self.messages.changed()).await;
    }
}
