//! Curator's recipe, so that its services and ours exclude each other:
//!
//! ```text
//! /cattleguard/locks            the base, a container like all above it: gone soon after it is empty
//!   report                      the directory of a name, a container, too
//!     _c_<uuid>-lock-0000000007   the holder: the lowest number
//!     _c_<uuid>-lock-0000000008   waits, and watches 7 only: a release wakes nobody else
//! ```
//!
//! The nodes are ephemeral: the ensemble deletes them with the session of who made them. The uuid is
//! known before the node is, so it is found and deleted also when the reply to its creation was lost.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use zookeeper_client as zk;

use super::{
    claim::{Claim, Place},
    dir::{self, Dir},
    fault::typed,
    link::Link,
    node_lease::Grasp,
    session::Session,
};
use crate::{
    Fault, FaultKind,
    lock::{Attempt, Lease, Lock, Queue, Validity},
};

/// Locks on ZooKeeper 3.5 or later, shared with Java services that use Curator's `InterProcessMutex`.
///
/// Promises all of the contract, in the order of asking (among processes, and inside of each). Leases
/// outlive the crash of a server of an ensemble, its leader too, if the others are back to work within
/// 2/3 of the session timeout. The locks of a process that crashes, is cut off or stands still are free
/// a session timeout after it was last heard, whatever their ttl. The ttl is kept by the holder: at
/// [`Lease::expires_at`] of a lease that is not renewed its process deletes the node, which takes one
/// request. It is slow: every grant and every release is a write that a majority of the ensemble
/// puts on disk.
///
/// - A lease is lost when its session is, or has not been heard of for 2/3 of its timeout (the ensemble
///   may already be about to end it), or when someone else deletes the node, which is watched.
/// - [`Lease::fence`] is the zxid that created the node. It grows over all names, also when the
///   directory is deleted in between.
/// - A call takes as long as the session timeout at most, and a session that expires while
///   [`acquire`](Lock::acquire) waits costs the place in the queue, not the call.
///
/// Give the session a timeout no shorter than the ensemble's `syncLimit` × `tickTime` (10 s by default) where
/// two holders would do harm: for so long a leader that has lost its followers may go on answering as
/// if it led, and the session with it. Or let the store check the fence.
///
/// The node of a name is `<base>/<name>`, so in Java the same lock is
/// `new InterProcessMutex(client, "/cattleguard/locks/report")`. What a node cannot be called is written
/// as the bytes of its UTF-8, `/` as `%2F`: `/` and `%`, control characters, private and special ones
/// (`U+E000` to `U+F8FF`, from `U+FFF0`), `.` and `..`; and the empty name as `%`. Everybody may do
/// everything with the nodes, as is Curator's default.
///
/// Clones are the same lock.
///
/// ```no_run
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), cattleguard::Fault> {
/// use std::time::Duration;
/// use cattleguard::{lock::{Lock, ZookeeperLock}, zookeeper::Session};
/// use tokio::time::Instant;
///
/// let session = Session::open("127.0.0.1:2181").await?;
/// let lock = Zookeeper::new(session).base("/services/locks")?;
/// let deadline = Instant::now() + Duration::from_secs(10);
/// let lease = lock.acquire("report", Duration::from_secs(30), deadline).await?;
/// lease.run(async { /* write the report, with lease.fence() */ }).await?;
/// lease.release().await?;
/// # Ok(()) }
/// ```
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

    /// Below which node the names are. Default `/cattleguard/locks`; set it to the path that Java
    /// services give to Curator, without the name. Missing nodes are created.
    ///
    /// # Errors
    ///
    /// [`FaultKind::Config`] for what is not an absolute path.
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
        // Most often somebody is there: then this saves the ensemble two writes.
        match link.children(dir.path()).await {
            Ok(children) if !children.is_empty() => return Ok(held),
            Ok(_) | Err(zk::Error::NoNode) => {}
            Err(error) => return Err(typed(error)),
        }
        let claim = Claim::stake(&link, dir).await.map_err(typed)?;
        let asked = Instant::now();
        match claim.place().await.map_err(typed)? {
            Place::First => Ok(Attempt::Granted(lease(name, ttl, asked, claim))),
            Place::Behind(_) | Place::Gone => Ok(held),
        }
    }

    /// Waits with one claim after another, until one is first.
    async fn wait(&self, dir: &Dir, name: &str, ttl: Duration) -> Result<Lease, Fault> {
        loop {
            let link = self.session.link().await?;
            match stand(&link, dir, name, ttl).await {
                Ok(Some(lease)) => return Ok(lease),
                // Somebody deleted our node.
                Ok(None) => {}
                // Asking again leads to another server, or to another session.
                Err(zk::Error::ConnectionLoss) => {}
                Err(_) if link.is_over() => {}
                Err(error) => return Err(typed(error)),
            }
            // For what fails each time, and takes the connection along.
            tokio::time::sleep(link.timeout() / 100).await;
        }
    }
}

/// Waits with one claim. `None` when it is gone.
async fn stand(
    link: &Arc<Link>,
    dir: &Dir,
    name: &str,
    ttl: Duration,
) -> Result<Option<Lease>, zk::Error> {
    let claim = Claim::stake(link, dir).await?;
    loop {
        let asked = Instant::now();
        let looked = match claim.place().await {
            Ok(Place::First) => return Ok(Some(lease(name, ttl, asked, claim))),
            Ok(Place::Gone) => return Ok(None),
            Ok(Place::Behind(other)) => claim.watch(&other).await,
            Err(error) => Err(error),
        };
        match looked {
            // The node and its place are still there.
            Ok(()) | Err(zk::Error::ConnectionLoss) => {}
            Err(error) => return Err(error),
        }
    }
}

/// `asked` is the moment before the ensemble said that the claim is first.
fn lease(name: &str, ttl: Duration, asked: Instant, claim: Claim) -> Lease {
    let (fence, belief) = (claim.fence(), Validity::since(asked, ttl));
    let hold = Grasp::new(claim, belief.clone());
    Lease::new(name, fence, ttl, belief, hold)
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
