use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{runtime::Handle, sync::Notify, time::Instant};

use super::server::{Answer, Server};
use crate::{
    Fault, FaultKind,
    lock::{Attempt, Lease, Lock, Queue},
    redis::{
        connection::Connection,
        namespace::Namespace,
        subscriber::{Listener, State, Subscriber},
    },
    token::Token,
};

/// How long a waiter waits for a message before it looks for itself.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// The same while no messages arrive.
const POLL: Duration = Duration::from_millis(25);

/// A lock on one Redis 6.2 or later, a Sentinel group, or a Cluster.
///
/// Promises exclusion as long as Redis keeps the lease: a holder that dies costs the others the ttl,
/// and a growing fencing token from the server's clock. Processes are served in the order of asking; a
/// release wakes one of them, by message. Does not promise exclusion over a failover that lost the
/// lease (replication is asynchronous), nor on a Redis that evicts keys: where two holders would do
/// harm, let the store check the fence.
///
/// Any number of locks shares the connection. Acquiring and releasing are one round trip each. Clones
/// share connection and subscription.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use cattleguard::{lock::{self, Lock}, redis::Connection};
/// use tokio::time::Instant;
///
/// let lock = redis::RedisLock::new(Connection::open("redis://127.0.0.1/").await?);
/// let deadline = Instant::now() + Duration::from_secs(5);
/// let lease = lock.acquire("nightly report", Duration::from_secs(2), deadline).await?;
/// lease.run(async { /* … */ }).await?;
/// lease.release().await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct RedisLock {
    inner: Arc<Inner>,
}

struct Inner {
    server: Server,
    ear: Arc<Ear>,
    subscriber: Subscriber<Ear>,
    queue: Queue,
}

impl RedisLock {
    /// A lock over this connection, in the empty namespace.
    pub fn new(connection: Connection) -> Self {
        Self::with(connection, "")
    }

    /// Keeps the names apart from those of other uses. Default: the empty one.
    pub fn namespace(self, namespace: &str) -> Self {
        Self::with(self.inner.server.connection.clone(), namespace)
    }

    fn with(connection: Connection, namespace: &str) -> Self {
        let ear = Arc::new(Ear { process: *Token::random().as_bytes(), waiting: Mutex::default() });
        let subscriber = Subscriber::new(connection.clone(), ear.clone());
        let server = Server { connection, keys: Arc::new(Namespace::new("cgk", namespace)) };
        let queue = Queue::default();
        Self { inner: Arc::new(Inner { server, ear, subscriber, queue }) }
    }
}

impl Lock for RedisLock {
    async fn try_acquire(&self, name: &str, ttl: Duration) -> Result<Attempt, Fault> {
        let (server, token, begun) = (&self.inner.server, Token::random(), Instant::now());
        Ok(match server.acquire(name, token, ttl, &[]).await? {
            Answer::Granted(fence) => {
                Attempt::Granted(server.lease(name, token, fence, ttl, begun))
            }
            Answer::Held(left) => Attempt::Held { remaining: left.unwrap_or(POLL) },
        })
    }

    async fn acquire(&self, name: &str, ttl: Duration, deadline: Instant) -> Result<Lease, Fault> {
        let inner = &*self.inner;
        // First the message, then the look: one that is sent after the look will be heard.
        let rest = deadline.saturating_duration_since(Instant::now());
        let patience = rest.min(inner.server.connection.far_timeout() / 2);
        let connected = inner.subscriber.ready(patience).await;
        let _turn = inner.queue.turn(name, deadline).await?;
        let mut waiting = Waiting::enter(inner, name);
        let mut unheard = POLL;
        loop {
            let begun = Instant::now();
            let (token, waiter) = (waiting.undo.token, &waiting.undo.waiter);
            let asking = inner.server.acquire(name, token, ttl, waiter);
            let left = match tokio::time::timeout_at(deadline, asking).await {
                Ok(Ok(Answer::Granted(fence))) => {
                    waiting.undo.needed = false;
                    return Ok(inner.server.lease(name, token, fence, ttl, begun));
                }
                Ok(Ok(Answer::Held(left))) => left,
                Ok(Err(error)) => return Err(error),
                Err(_) => return Err(FaultKind::Held.into()),
            };
            let pause = if connected == State::Connected && inner.is_connected() {
                LOOK_AGAIN
            } else {
                unheard = (unheard * 2).min(LOOK_AGAIN);
                unheard / 2
            };
            // A little later than the lease's end, which then has come.
            let ends = left.map_or(pause, |left| left + Duration::from_millis(1));
            let pause = ends.min(pause).mul_f64(1.0 + fastrand::f64() / 10.0);
            tokio::select! {
                // A message that came since the look is kept for this.
                () = waiting.bell.notified() => {}
                () = tokio::time::sleep(pause) => {}
                () = tokio::time::sleep_until(deadline) => return Err(FaultKind::Held.into()),
            }
        }
    }
}

impl Inner {
    fn is_connected(&self) -> bool {
        *self.subscriber.state() == State::Connected
    }
}

/// A place in the queue, which hears when it is the first.
struct Waiting<'a> {
    ear: &'a Ear,
    bell: Arc<Notify>,
    undo: Undo,
}

impl<'a> Waiting<'a> {
    fn enter(inner: &'a Inner, name: &str) -> Self {
        let (ear, bell) = (&*inner.ear, Arc::new(Notify::new()));
        let mut undo = Undo::new(&inner.server, name, Vec::with_capacity(32));
        undo.waiter.extend_from_slice(undo.token.as_bytes());
        undo.waiter.extend_from_slice(&ear.process);
        ear.waiting.lock().insert(*undo.token.as_bytes(), bell.clone());
        Self { ear, bell, undo }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.ear.waiting.lock().remove(self.undo.token.as_bytes());
    }
}

/// Gives a place and a lease back when it is dropped. They may be ours without our knowing, when no
/// answer came.
struct Undo {
    server: Server,
    name: Arc<str>,
    token: Token,
    waiter: Vec<u8>,
    needed: bool,
}

impl Undo {
    fn new(server: &Server, name: &str, waiter: Vec<u8>) -> Self {
        let token = Token::random();
        Self { server: server.clone(), name: name.into(), token, waiter, needed: true }
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        if self.needed
            && let Ok(runtime) = Handle::try_current()
        {
            let (server, name) = (self.server.clone(), self.name.clone());
            let (token, waiter) = (self.token, std::mem::take(&mut self.waiter));
            runtime.spawn(async move {
                if let Err(error) = server.release(&name, token, &waiter).await {
                    tracing::debug!(%error, "what may have been granted ends after its ttl");
                }
            });
        }
    }
}

/// Hears which of this process' waiters is the next.
struct Ear {
    process: [u8; 16],
    waiting: Mutex<HashMap<[u8; 16], Arc<Notify>>>,
}

impl Listener for Ear {
    fn channels(&self) -> Vec<String> {
        vec![format!("cg:lock:{:032x}", u128::from_be_bytes(self.process))]
    }

    fn on_message(&self, _: &str, payload: &[u8]) {
        let Ok(token) = <[u8; 16]>::try_from(payload) else { return };
        if let Some(bell) = self.waiting.lock().get(&token) {
            bell.notify_one();
        }
    }

    fn on_disconnected(&self) {
        self.waiting.lock().values().for_each(|bell| bell.notify_one());
    }
}
