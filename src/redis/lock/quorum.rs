use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use tokio::{runtime::Handle, time::Instant};

use super::server::{Answer, Server};
use crate::{
    Fault, FaultKind,
    lock::{Attempt, Lease, LeaseBackend, Lock, Queue, Renewal, Validity},
    redis::{connection::Connection, namespace::Namespace},
    token::Token,
};

/// A lock that most of several independent Redis servers must grant, after [Redlock][1].
///
/// Promises to go on while fewer than half of the servers are down, and exclusion as long as their
/// clocks run about alike and none of them forgets a lease: one that restarts without its data
/// within a ttl can let a second holder in, so run them with `appendonly yes` and `appendfsync always`,
/// or keep a crashed one down for a ttl. Does not promise exclusion to a holder that is paused, as no
/// lock with a ttl can ([Kleppmann 2016][2]); unlike plain Redlock it gives a fencing token: the highest
/// one of the servers that agreed, made known to them before the lock counts as acquired. Not fair:
/// waiters look again after random pauses of 5 to 100 ms.
///
/// Acquiring costs two round trips to every server, releasing one. The servers keep a lease for a
/// hundredth and 2 ms longer than its ttl, for the drift of clocks.
///
/// [1]: https://redis.io/docs/latest/develop/use/patterns/distributed-locks/
/// [2]: https://martin.kleppmann.com/2016/02/08/how-to-do-distributed-locking.html
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use cattleguard::{redis::RedisQuorumLock, redis::Connection};
///
/// let mut servers = Vec::new();
/// for host in ["a", "b", "c"] {
///     // Lazily: a server that is down now may come back.
///     servers.push(Connection::open_lazy(&format!("redis://{host}/"))?);
/// }
/// let lock = RedisQuorumLock::new(servers)?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct RedisQuorumLock {
    servers: Arc<[Server]>,
    queue: Arc<Queue>,
}

const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

impl RedisQuorumLock {
    /// A lock over these servers, an odd number of them that do not replicate each other; in the empty
    /// namespace.
    ///
    /// # Errors
    ///
    /// [`FaultKind::Config`] for no servers.
    pub fn new(servers: impl IntoIterator<Item = Connection>) -> Result<Self, Fault> {
        Self::with(servers, "")
    }

    /// Keeps the names apart from those of other uses. Default: the empty one.
    pub fn namespace(self, namespace: &str) -> Self {
        let keys = Arc::new(Namespace::new("cgk", namespace));
        let moved = |server: &Server| Server { keys: keys.clone(), ..server.clone() };
        Self { servers: self.servers.iter().map(moved).collect(), queue: Arc::default() }
    }

    fn with(servers: impl IntoIterator<Item = Connection>, namespace: &str) -> Result<Self, Fault> {
        let keys = Arc::new(Namespace::new("cgk", namespace));
        let server = |connection| Server { connection, keys: keys.clone() };
        let servers: Arc<[Server]> = servers.into_iter().map(server).collect();
        if servers.is_empty() {
            return Err(Fault::new(FaultKind::Config, "a majority needs at least one server"));
        }
        Ok(Self { servers, queue: Arc::default() })
    }

    async fn attempt(&self, name: &str, ttl: Duration) -> Result<Attempt, Fault> {
        let (token, begun, kept) = (Token::random(), Instant::now(), with_drift(ttl));
        // Whatever was granted is given back, also when this future is dropped half-way.
        let hold = Majority { servers: self.servers.clone(), name: name.into(), token };
        let undo = Undo(Some(hold));
        let asked = self.servers.iter().map(|server| server.acquire(name, token, kept, &[]));
        let (mut granted, mut fence, mut remaining, mut failed) = (0, 0, None, Vec::new());
        for answer in join_all(asked).await {
            match answer {
                Ok(Answer::Granted(of_this)) => {
                    granted += 1;
                    fence = fence.max(of_this);
                }
                Ok(Answer::Held(left)) => remaining = left.or(remaining),
                Err(error) => failed.push(error),
            }
        }
        let majority = majority(&self.servers);
        if granted < majority {
            let answered = self.servers.len() - failed.len();
            return match failed.pop() {
                Some(error) if answered < majority => Err(error),
                _ => Ok(Attempt::Held { remaining: remaining.unwrap_or(LONGEST_PAUSE) }),
            };
        }
        // Of two majorities some server has seen both: what it knows the next grant exceeds.
        let raised = self.servers.iter().map(|server| server.renew(name, token, kept, Some(fence)));
        let raised = join_all(raised).await;
        let raised = raised.iter().filter(|raised| matches!(raised, Ok(Renewal::Renewed))).count();
        let belief = Validity::since(begun, ttl);
        if raised < majority || belief.is_over() {
            return Ok(Attempt::Held { remaining: LONGEST_PAUSE });
        }
        Ok(Attempt::Granted(Lease::new(name, fence, ttl, belief, undo.keep())))
    }
}

impl Lock for RedisQuorumLock {
    async fn try_acquire(&self, name: &str, ttl: Duration) -> Result<Attempt, Fault> {
        self.attempt(name, ttl).await
    }

    async fn acquire(&self, name: &str, ttl: Duration, deadline: Instant) -> Result<Lease, Fault> {
        let _turn = self.queue.turn(name, deadline).await?;
        let mut longest = FIRST_PAUSE;
        loop {
            let attempt = tokio::time::timeout_at(deadline, self.attempt(name, ttl)).await;
            match attempt.unwrap_or_else(|_| Err(FaultKind::Held.into()))? {
                Attempt::Granted(lease) => return Ok(lease),
                Attempt::Held { remaining } => {
                    // At random, or two that split the servers between them would do so again.
                    let pause = longest.min(remaining).mul_f64(0.5 + fastrand::f64() / 2.0);
                    let again = Instant::now() + pause;
                    tokio::time::sleep_until(again.min(deadline)).await;
                    if again > deadline {
                        return Err(FaultKind::Held.into());
                    }
                    longest = (longest * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }
}

/// What the servers are asked to keep: their clocks may run faster than ours.
fn with_drift(ttl: Duration) -> Duration {
    ttl.saturating_add(ttl / 99).saturating_add(Duration::from_millis(2))
}

fn majority(servers: &[Server]) -> usize {
    servers.len() / 2 + 1
}

struct Majority {
    servers: Arc<[Server]>,
    name: Arc<str>,
    token: Token,
}

impl LeaseBackend for Majority {
    async fn renew(&mut self, ttl: Duration) -> Result<Renewal, Fault> {
        let (kept, asked) = (with_drift(ttl), self.servers.iter());
        let asked = asked.map(|server| server.renew(&self.name, self.token, kept, None));
        let (mut renewed, mut failed) = (0, Vec::new());
        for answer in join_all(asked).await {
            match answer {
                Ok(Renewal::Renewed) => renewed += 1,
                Ok(Renewal::Lost) => {}
                Err(error) => failed.push(error),
            }
        }
        let majority = majority(&self.servers);
        match failed.pop() {
            _ if renewed >= majority => Ok(Renewal::Renewed),
            // Those that did not answer could make it one.
            Some(error) if renewed + failed.len() + 1 >= majority => Err(error),
            _ => Ok(Renewal::Lost),
        }
    }

    async fn release(self) -> Result<(), Fault> {
        let asked = self.servers.iter();
        let asked = asked.map(|server| server.release(&self.name, self.token, &[]));
        let (released, mut failed): (Vec<_>, Vec<_>) =
            join_all(asked).await.into_iter().partition(Result::is_ok);
        match failed.pop() {
            Some(error) if released.len() < majority(&self.servers) => error,
            _ => Ok(()),
        }
    }
}

/// Gives back what was not kept.
struct Undo(Option<Majority>);

impl Undo {
    fn keep(mut self) -> Majority {
        self.0.take().expect("taken only here, which consumes it")
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        if let (Some(hold), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            runtime.spawn(async move {
                if let Err(error) = hold.release().await {
                    tracing::debug!(%error, "release failed; the lease ends after its ttl");
                }
            });
        }
    }
}
