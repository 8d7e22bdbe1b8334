use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{runtime::Handle, sync::Notify, time::Instant};

use super::server::{Answer, Server};
use crate::{
    Fault, FaultKind,
    backoff::Backoff,
    lock::{Attempt, Lease, Lock, Queue},
    redis::{
        audience::Listener, connection::Connection, message::ReplyTo, namespace::Namespace,
        subscriber::Membership, subscriptions::Topics,
    },
    token::Token,
};

/// When a waiter looks again without a message.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// The same while no messages arrive, at first.
const POLL: Duration = Duration::from_millis(25);

/// A lock on one Redis 6.2 or later, a Sentinel group, or a Cluster.
///
/// Promises exclusion as long as Redis keeps the lease, and a fencing token from the server's clock that
/// grows with each grant. A holder that dies costs the others its ttl. Processes are served in the order of
/// asking; a release notifies one of them, by message.
///
/// Does not promise exclusion over a failover that lost the lease (replication is asynchronous), nor on a
/// Redis that evicts keys: where two holders would do harm, let the store check the fence.
///
/// Any number of locks shares the connection. Acquiring and releasing are one round trip each. Clones
/// share connection and subscription.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use cattleguard::{lock::Lock, redis::{Connection, RedisLock}};
/// use tokio::time::Instant;
///
/// let lock = RedisLock::new(Connection::open("redis://127.0.0.1/").await?);
/// let deadline = Instant::now() + Duration::from_secs(5);
/// let lease = lock.acquire("nightly report", Duration::from_secs(2), deadline).await?;
/// lease.run(async { /* … */ }).await?;
/// lease.release().await?;
/// # Ok(()) }
/// ```
///
/// # Cancel safety
///
/// A dropped call frees what it was granted, and leaves the queue, in the background.
#[derive(Clone)]
pub struct RedisLock {
    inner: Arc<Inner>,
}

struct Inner {
    server: Server,
    turns: Arc<Turns>,
    membership: Membership,
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
        let process = *Token::random().as_bytes();
        let turns = Arc::new(Turns { process, waiting: Mutex::default() });
        let topics = Topics {
            events: format!("cg:lock:{:032x}", u128::from_be_bytes(process)),
            subscribers: None,
        };
        let membership = connection.subscriber().join(topics, turns.clone());
        let server = Server { connection, keys: Arc::new(Namespace::new("cgk", namespace)) };
        let queue = Queue::default();
        Self { inner: Arc::new(Inner { server, turns, membership, queue }) }
    }
}

impl fmt::Debug for RedisLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let connection = &self.inner.server.connection;
        f.debug_struct("RedisLock").field("connection", connection).finish_non_exhaustive()
    }
}

impl Lock for RedisLock {
    async fn try_acquire(&self, name: &str, ttl: Duration) -> Result<Attempt, Fault> {
        let (server, token, asked) = (&self.inner.server, Token::random(), Instant::now());
        Ok(match server.acquire(name, token, ttl, &[]).await? {
            Answer::Granted(fence) => {
                Attempt::Granted(server.lease(name, token, fence, ttl, asked))
            }
            Answer::Held { remaining } => Attempt::Held { remaining: remaining.unwrap_or(POLL) },
        })
    }

    async fn acquire(&self, name: &str, ttl: Duration, deadline: Instant) -> Result<Lease, Fault> {
        let inner = &*self.inner;
        // Before the first attempt: a message that is sent after it will arrive.
        let rest = deadline.saturating_duration_since(Instant::now());
        let limit = rest.min(inner.server.connection.far_timeout() / 2);
        let connected = inner.membership.ready(limit).await;
        let _turn = inner.queue.turn(name, deadline).await?;
        let waiting = Waiting::enter(inner, name);
        match tokio::time::timeout_at(deadline, waiting.granted(ttl, connected)).await {
            Ok(done) => done,
            Err(_) => Err(FaultKind::Held.into()),
        }
    }
}

/// A place in the queue at the server, and the notification that it is the first.
struct Waiting<'a> {
    inner: &'a Inner,
    notify: Arc<Notify>,
    undo: Undo,
}

impl<'a> Waiting<'a> {
    fn enter(inner: &'a Inner, name: &str) -> Self {
        let notify = Arc::new(Notify::new());
        let mut undo = Undo::new(&inner.server, name, Vec::with_capacity(32));
        undo.waiter.extend_from_slice(undo.token.as_bytes());
        undo.waiter.extend_from_slice(&inner.turns.process);
        inner.turns.waiting.lock().insert(*undo.token.as_bytes(), notify.clone());
        Self { inner, notify, undo }
    }

    /// Asks until the lock is granted. `connected` says whether messages arrived before the first attempt.
    async fn granted(mut self, ttl: Duration, connected: bool) -> Result<Lease, Fault> {
        let (server, token) = (&self.inner.server, self.undo.token);
        // A little spread above the pause: a look at a lease's end should come after it.
        let spread = 1.0..1.1;
        let mut polling = Backoff::new(POLL, LOOK_AGAIN / 2).spread(spread.clone());
        let mut notified = Backoff::new(LOOK_AGAIN, LOOK_AGAIN).spread(spread);
        loop {
            let asked = Instant::now();
            let remaining =
                match server.acquire(&self.undo.name, token, ttl, &self.undo.waiter).await? {
                    Answer::Granted(fence) => {
                        self.undo.needed = false;
                        return Ok(server.lease(&self.undo.name, token, fence, ttl, asked));
                    }
                    Answer::Held { remaining } => remaining.unwrap_or(Duration::MAX),
                };
            let connected = connected && self.inner.is_connected();
            let backoff = if connected { &mut notified } else { &mut polling };
            let pause = backoff.next_of_at_most(remaining.saturating_add(Duration::from_millis(1)));
            tokio::select! {
                // A message since the attempt is kept for this.
                () = self.notify.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}

impl Inner {
    fn is_connected(&self) -> bool {
        self.membership.is_connected()
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.inner.turns.waiting.lock().remove(self.undo.token.as_bytes());
    }
}

/// Gives back the place in the queue, and the lease, when it is dropped. Both may be there although no
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
                if let Err(fault) = server.release(&name, token, &waiter).await {
                    tracing::debug!(%fault, "what may have been granted ends after its ttl");
                }
            });
        }
    }
}

/// Notifies the waiter of this process whose turn it is.
struct Turns {
    process: [u8; 16],
    waiting: Mutex<HashMap<[u8; 16], Arc<Notify>>>,
}

impl Listener for Turns {
    fn on_message(&self, payload: &[u8]) -> Option<ReplyTo> {
        let token = <[u8; 16]>::try_from(payload).ok()?;
        if let Some(notify) = self.waiting.lock().get(&token) {
            notify.notify_one();
        }
        None
    }

    fn on_disconnected(&self) {
        self.waiting.lock().values().for_each(|notify| notify.notify_one());
    }
}
