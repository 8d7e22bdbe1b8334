//! Curator's recipe, so that its services and ours exclude each other:
//!
//! ```text
//! /cattleguard/locks            the base, a container like all above it: gone soon after it is empty
//!   report                      the directory of a name, a container, too
//!     _c_<uuid>-lock-0000000007   the holder: the lowest number
//!     _c_<uuid>-lock-0000000008   waits, and watches only 7: a release notifies no other
//! ```
//!
//! The nodes are ephemeral: the ensemble deletes them with the session that created them. The uuid is known
//! before the node exists, so the node is found and deleted also when the reply to its creation was lost.

use std::{fmt, sync::Arc, time::Duration};

use tokio::time::Instant;
use zookeeper_client as zk;

use super::{
    claim::{Claim, Position},
    dir::{self, Dir},
    fault::to_fault,
    link::Link,
    node_lease::NodeLease,
    session::Session,
};
use crate::{
    Fault, FaultKind,
    lock::{Attempt, Lease, Lock, Queue, Validity},
};

/// Locks on ZooKeeper 3.5 or later, shared with Java services that use Curator's `InterProcessMutex`.
///
/// Promises the whole contract, and serves waiters in the order of asking, among processes and inside of
/// each. Leases outlive the crash of a server of the ensemble, also of its leader, if the others work again
/// within 2/3 of the session timeout. It is slow: every grant and every release is a write that a majority
/// of the ensemble puts on disk.
///
/// The locks of a process that crashes, is cut off or stands still are free a session timeout after it was
/// last heard, whatever their ttl. The ttl is kept by the holder: at [`Lease::expires_at`] of a lease that is
/// not renewed, its process deletes the node, which takes one request.
///
/// - A lease is lost when its session ends, or has not been heard for 2/3 of its timeout (the ensemble may be
///   about to end it), or when the node, which is watched, is deleted from outside.
/// - [`Lease::fence`] is the zxid that created the node. It grows over all names, also when the
///   directory is deleted in between.
/// - A call takes as long as the session timeout at most. A session that expires while
///   [`acquire`](Lock::acquire) waits costs the place in the queue, not the call.
///
/// Give the session a timeout no shorter than the ensemble's `syncLimit` × `tickTime` (10 s by default) where
/// two holders would do harm: for so long a leader that has lost its followers may still answer as if it led,
/// and keep the session alive. Or let the store check the fence.
///
/// The node of a name is `<base>/<name>`, so in Java the same lock is
/// `new InterProcessMutex(client, "/cattleguard/locks/report")`. Characters
/// that a path must not have are written as the bytes of their UTF-8, `/` as `%2F`: `/` and `%`, control
/// characters, private and special ones (`U+E000` to `U+F8FF`, from `U+FFF0`), `.` and `..`; and the empty
/// name as `%`. The nodes have Curator's default access list: every client may do everything.
///
/// Clones are the same lock.
///
/// ```no_run
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), cattleguard::Fault> {
/// use std::time::Duration;
/// use cattleguard::{lock::Lock, zookeeper::{Session, ZookeeperLock}};
/// use tokio::time::Instant;
///
/// let session = Session::open("127.0.0.1:2181").await?;
/// let lock = ZookeeperLock::new(session).base("/services/locks")?;
/// let deadline = Instant::now() + Duration::from_secs(10);
/// let lease = lock.acquire("report", Duration::from_secs(30), deadline).await?;
/// lease.run(async { /* write the report, with lease.fence() */ }).await?;
/// lease.release().await?;
/// # Ok(()) }
/// ```
///
/// # Cancel safety
///
/// The node of a dropped call is deleted in the background.
#[derive(Clone)]
pub struct ZookeeperLock {
    session: Session,
    base: Arc<str>,
    queue: Arc<Queue>,
}

const BASE: &str = "/cattleguard/locks";

impl ZookeeperLock {
    /// Locks below `/cattleguard/locks`.
    pub fn new(session: Session) -> Self {
        Self { session, base: BASE.into(), queue: Arc::default() }
    }

    /// The node below which the names are. Default `/cattleguard/locks`; set it to the path that Java
    /// services give to Curator, without the name. Missing nodes are created.
    ///
    /// # Errors
    ///
    /// [`FaultKind::Config`] for a path that is not absolute.
    pub fn base(self, path: &str) -> Result<Self, Fault> {
        if !dir::is_path(path) {
            return Err(FaultKind::Config.into());
        }
        // A queue of its own: the same name is another lock now.
        Ok(Self { base: path.trim_end_matches('/').into(), queue: Arc::default(), ..self })
    }

    async fn attempt(&self, dir: &Dir, name: &str, ttl: Duration) -> Result<Attempt, Fault> {
        let link = self.session.link().await?;
        let held = Attempt::Held { remaining: link.timeout() };
        // Under contention the lock is held most often: then this saves the ensemble two writes.
        match link.children(dir.path()).await {
            Ok(children) if !children.is_empty() => return Ok(held),
            Ok(_) | Err(zk::Error::NoNode) => {}
            Err(error) => return Err(to_fault(error)),
        }
        let claim = Claim::enter(&link, dir).await.map_err(to_fault)?;
        let asked = Instant::now();
        match claim.position().await.map_err(to_fault)? {
            Position::First => Ok(Attempt::Granted(lease(name, ttl, asked, claim))),
            Position::Behind(_) | Position::Gone => Ok(held),
        }
    }

    /// Waits with one claim after another, until one is first.
    async fn wait(&self, dir: &Dir, name: &str, ttl: Duration) -> Result<Lease, Fault> {
        loop {
            let link = self.session.link().await?;
            match wait_with_one_claim(&link, dir, name, ttl).await {
                Ok(Some(lease)) => return Ok(lease),
                // Our node was deleted from outside.
                Ok(None) => {}
                // The next request is sent to another server, or begins another session.
                Err(zk::Error::ConnectionLoss) => {}
                Err(_) if link.is_over() => {}
                Err(error) => return Err(to_fault(error)),
            }
            // For a failure that breaks the connection each time.
            tokio::time::sleep(link.timeout() / 100).await;
        }
    }
}

/// Waits with one claim. `None` when it is gone.
async fn wait_with_one_claim(
    link: &Arc<Link>,
    dir: &Dir,
    name: &str,
    ttl: Duration,
) -> Result<Option<Lease>, zk::Error> {
    let claim = Claim::enter(link, dir).await?;
    loop {
        let asked = Instant::now();
        let looked = match claim.position().await {
            Ok(Position::First) => return Ok(Some(lease(name, ttl, asked, claim))),
            Ok(Position::Gone) => return Ok(None),
            Ok(Position::Behind(other)) => claim.watch(&other).await,
            Err(error) => Err(error),
        };
        match looked {
            // The node is still there, and with it the place in the queue.
            Ok(()) | Err(zk::Error::ConnectionLoss) => {}
            Err(error) => return Err(error),
        }
    }
}

/// `asked` is the moment before the ensemble said that the claim is first.
fn lease(name: &str, ttl: Duration, asked: Instant, claim: Claim) -> Lease {
    let (fence, validity) = (claim.fence(), Validity::since(asked, ttl));
    let backend = NodeLease::new(claim, validity.clone());
    Lease::new(name, fence, ttl, validity, backend)
}

impl fmt::Debug for ZookeeperLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lock = f.debug_struct("ZookeeperLock");
        lock.field("session", &self.session).field("base", &self.base).finish_non_exhaustive()
    }
}

impl Lock for ZookeeperLock {
    async fn try_acquire(&self, name: &str, ttl: Duration) -> Result<Attempt, Fault> {
        let dir = Dir::of(&self.base, name)?;
        let attempt = self.attempt(&dir, name, ttl);
        match tokio::time::timeout(self.session.timeout(), attempt).await {
            Ok(attempt) => attempt,
            Err(_) if self.session.is_connected() => Err(FaultKind::Timeout.into()),
            Err(_) => Err(FaultKind::Unreachable.into()),
        }
    }

    async fn acquire(&self, name: &str, ttl: Duration, deadline: Instant) -> Result<Lease, Fault> {
        let dir = Dir::of(&self.base, name)?;
        let _turn = self.queue.turn(name, deadline).await?;
        match tokio::time::timeout_at(deadline, self.wait(&dir, name, ttl)).await {
            Ok(done) => done,
            Err(_) if self.session.is_connected() => Err(FaultKind::Held.into()),
            Err(_) => Err(FaultKind::Unreachable.into()),
        }
    }
}
