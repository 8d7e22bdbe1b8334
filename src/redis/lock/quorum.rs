use std::{fmt, sync::Arc, time::Duration};

use futures::future::join_all;
use tokio::{runtime::Handle, time::Instant};

use super::server::{Answer, Server};
use crate::{
    Fault, FaultKind,
    backoff::Backoff,
    lock::{Attempt, Lease, LeaseBackend, Lock, Queue, Renewal, Validity},
    redis::{connection::Connection, namespace::Namespace},
    token::Token,
};

/// A lock that most of several independent Redis servers must grant, after [Redlock][1].
///
/// Promises to work while fewer than half of the servers are down, and exclusion as long as their clocks
/// run about alike and none of them forgets a lease. A server that restarts without its data within a ttl
/// can let a second holder in: run them with `appendonly yes` and `appendfsync always`, or keep a crashed
/// one down for a ttl. Does not promise exclusion to a holder that is paused, as no lock with a ttl can
/// ([Kleppmann 2016][2]). Unlike plain Redlock it gives a fencing token: the highest one of the servers
/// that agreed, made known to them before the lock counts as acquired. Not fair: waiters look again after
/// random pauses of 5 to 100 ms.
///
/// Acquiring costs two round trips to every server, releasing one. The servers keep a lease for a
/// hundredth and 2 ms longer than its ttl, for the drift of clocks.
///
/// [1]: https://redis.io/docs/latest/develop/use/patterns/distributed-locks/
/// [2]: https://martin.kleppmann.com/2016/02/08/how-to-do-distributed-locking.html
///
/// ```no_run
/// # fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use cattleguard::redis::{Connection, RedisQuorumLock};
///
/// let mut servers = Vec::new();
/// for host in ["a", "b", "c"] {
///     // Lazily: a server that is down now may come back.
///     servers.push(Connection::open_lazy(&format!("redis://{host}/"))?);
/// }
/// let lock = RedisQuorumLock::new(servers)?;
/// # Ok(()) }
/// ```
///
/// # Cancel safety
///
/// A dropped call frees what it was granted, in the background.
#[derive(Clone)]
pub struct RedisQuorumLock {
    servers: Arc<[Server]>,
    queue: Arc<Queue>,
}

const LONGEST_PAUSE: Duration = Duration::from_millis(100);
const PAUSES: Backoff = Backoff::new(Duration::from_millis(10), LONGEST_PAUSE);

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
        let asked = Instant::now();
        // What was granted is given back unless all of it is, also when this future is dropped.
        let (servers, token) = (self.servers.clone(), Token::random());
        let undo = Undo { lease: QuorumLease { servers, name: name.into(), token }, needed: true };
        let fence = match undo.lease.ask(ttl).await? {
            Answer::Granted(fence) => fence,
            Answer::Held { remaining } => {
                return Ok(Attempt::Held { remaining: remaining.unwrap_or(LONGEST_PAUSE) });
            }
        };
        let raised = undo.lease.raise(fence, ttl).await;
        let validity = Validity::since(asked, ttl);
        if !raised || validity.has_ended() {
            return Ok(Attempt::Held { remaining: LONGEST_PAUSE });
        }
        Ok(Attempt::Granted(Lease::new(name, fence, ttl, validity, undo.disarm())))
    }
}

impl fmt::Debug for RedisQuorumLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let servers = self.servers.len();
        f.debug_struct("RedisQuorumLock").field("servers", &servers).finish_non_exhaustive()
    }
}

impl Lock for RedisQuorumLock {
    async fn try_acquire(&self, name: &str, ttl: Duration) -> Result<Attempt, Fault> {
        self.attempt(name, ttl).await
    }

    async fn acquire(&self, name: &str, ttl: Duration, deadline: Instant) -> Result<Lease, Fault> {
        let _turn = self.queue.turn(name, deadline).await?;
        // At random, or two that split the servers between them would do so again.
        let mut backoff = PAUSES.spread(0.5..1.0);
        loop {
            let attempt = tokio::time::timeout_at(deadline, self.attempt(name, ttl)).await;
            let remaining = match attempt.unwrap_or_else(|_| Err(FaultKind::Held.into()))? {
                Attempt::Granted(lease) => return Ok(lease),
                Attempt::Held { remaining } => remaining,
            };
            let again = Instant::now() + backoff.next_of_at_most(remaining);
            tokio::time::sleep_until(again.min(deadline)).await;
            if again > deadline {
                return Err(FaultKind::Held.into());
            }
        }
    }
}

/// What the servers are asked to keep: their clocks may run faster than ours.
fn with_drift(ttl: Duration) -> Duration {
    ttl.saturating_add(ttl / 99).saturating_add(Duration::from_millis(2))
}

/// A lease at most of the servers, or an attempt at it.
#[derive(Clone)]
struct QuorumLease {
    servers: Arc<[Server]>,
    name: Arc<str>,
    token: Token,
}

impl QuorumLease {
    /// Asks every server for the lock. `Granted`, with the highest fencing token, if most of them granted
    /// it.
    async fn ask(&self, ttl: Duration) -> Result<Answer, Fault> {
        let ttl = with_drift(ttl);
        let asking = self.servers.iter().map(|one| one.acquire(&self.name, self.token, ttl, &[]));
        let (mut granted, mut highest, mut rest, mut faults) = (0, 0, None, Vec::new());
        for answer in join_all(asking).await {
            match answer {
                Ok(Answer::Granted(fence)) => {
                    granted += 1;
                    highest = highest.max(fence);
                }
                Ok(Answer::Held { remaining }) => rest = remaining.or(rest),
                Err(fault) => faults.push(fault),
            }
        }
        let answered = self.servers.len() - faults.len();
        match faults.pop() {
            _ if granted >= self.majority() => Ok(Answer::Granted(highest)),
            Some(fault) if answered < self.majority() => Err(fault),
            _ => Ok(Answer::Held { remaining: rest }),
        }
    }

    /// Makes the fencing token known. Any two majorities share a server: the next grant exceeds what that
    /// server knows. Whether most of the servers still hold the lease.
    async fn raise(&self, fence: u64, ttl: Duration) -> bool {
        let ttl = with_drift(ttl);
        let raising =
            self.servers.iter().map(|one| one.renew(&self.name, self.token, ttl, Some(fence)));
        let answers = join_all(raising).await;
        let raised = answers.iter().filter(|answer| matches!(answer, Ok(Renewal::Renewed)));
        raised.count() >= self.majority()
    }

    fn majority(&self) -> usize {
        self.servers.len() / 2 + 1
    }
}

impl LeaseBackend for QuorumLease {
    async fn renew(&mut self, ttl: Duration) -> Result<Renewal, Fault> {
        let ttl = with_drift(ttl);
        let renewing = self.servers.iter().map(|one| one.renew(&self.name, self.token, ttl, None));
        let (mut renewed, mut faults) = (0, Vec::new());
        for answer in join_all(renewing).await {
            match answer {
                Ok(Renewal::Renewed) => renewed += 1,
                Ok(Renewal::Lost) => {}
                Err(fault) => faults.push(fault),
            }
        }
        let unanswered = faults.len();
        match faults.pop() {
            _ if renewed >= self.majority() => Ok(Renewal::Renewed),
            // Those that did not answer could make a majority.
            Some(fault) if renewed + unanswered >= self.majority() => Err(fault),
            _ => Ok(Renewal::Lost),
        }
    }

    async fn release(self) -> Result<(), Fault> {
        let releasing = self.servers.iter().map(|one| one.release(&self.name, self.token, &[]));
        let (released, mut failed): (Vec<_>, Vec<_>) =
            join_all(releasing).await.into_iter().partition(Result::is_ok);
        match failed.pop() {
            Some(fault) if released.len() < self.majority() => fault,
            _ => Ok(()),
        }
    }
}

/// Gives back what was granted, unless it is disarmed.
struct Undo {
    lease: QuorumLease,
    needed: bool,
}

impl Undo {
    fn disarm(mut self) -> QuorumLease {
        self.needed = false;
        self.lease.clone()
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        if self.needed
            && let Ok(runtime) = Handle::try_current()
        {
            let lease = self.lease.clone();
            runtime.spawn(async move {
                if let Err(fault) = lease.release().await {
                    tracing::debug!(%fault, "release failed; the lease ends after its ttl");
                }
            });
        }
    }
}
