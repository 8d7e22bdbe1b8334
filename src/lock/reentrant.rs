use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Attempt, Lease, Lock, Queue, lease::WeakLease};
use crate::Fault;

/// An owner of locks that may acquire a name again while it holds it. Works over every lock.
///
/// The leases of a name are counted: the last one that is released or dropped frees the lock. All of them
/// share one fencing token and one end; acquiring again renews it. Clones are the same owner; make another
/// `Reentrant` for another owner.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), cattleguard::Fault> {
/// use std::time::Duration;
/// use cattleguard::{lock::{Lock, Reentrant}, memory::MemoryLock};
/// use tokio::time::Instant;
///
/// let (ttl, deadline) = (Duration::from_secs(2), Instant::now() + Duration::from_secs(1));
/// let owner = Reentrant::new(MemoryLock::new());
/// let outer = owner.acquire("account", ttl, deadline).await?;
/// let inner = owner.acquire("account", ttl, deadline).await?;
/// assert_eq!(inner.fence(), outer.fence());
/// # Ok(()) }
/// ```
pub struct Reentrant<L> {
    owner: Arc<Owner<L>>,
}

struct Owner<L> {
    lock: L,
    /// So that of two tasks of one owner the first asks the system, and the second finds its lease.
    asking: Queue,
    leases: Mutex<HashMap<Arc<str>, WeakLease>>,
}

impl<L: Lock> Reentrant<L> {
    /// A new owner, over this lock.
    pub fn new(lock: L) -> Self {
        let (asking, leases) = (Queue::default(), Mutex::default());
        Self { owner: Arc::new(Owner { lock, asking, leases }) }
    }

    /// The lease that this owner has already, renewed.
    async fn again(&self, name: &str) -> Option<Lease> {
        let lease = self.owner.leases.lock().get(name).and_then(WeakLease::upgrade)?;
        // Without an answer to the renewal the lease still holds for a while.
        let _ = lease.renew().await;
        (!lease.is_lost()).then_some(lease)
    }

    fn note(&self, name: &str, lease: &Lease) {
        let mut leases = self.owner.leases.lock();
        leases.retain(|_, lease| !lease.is_gone());
        leases.insert(name.into(), lease.downgrade());
    }
}

impl<L> Clone for Reentrant<L> {
    fn clone(&self) -> Self {
        Self { owner: self.owner.clone() }
    }
}

impl<L> fmt::Debug for Reentrant<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reentrant").finish_non_exhaustive()
    }
}

impl<L: Lock> Lock for Reentrant<L> {
    async fn try_acquire(&self, name: &str, ttl: Duration) -> Result<Attempt, Fault> {
        if let Some(lease) = self.again(name).await {
            return Ok(Attempt::Granted(lease));
        }
        let attempt = self.owner.lock.try_acquire(name, ttl).await?;
        if let Attempt::Granted(lease) = &attempt {
            self.note(name, lease);
        }
        Ok(attempt)
    }

    async fn acquire(&self, name: &str, ttl: Duration, deadline: Instant) -> Result<Lease, Fault> {
        let _turn = self.owner.asking.turn(name, deadline).await?;
        if let Some(lease) = self.again(name).await {
            return Ok(lease);
        }
        let lease = self.owner.lock.acquire(name, ttl, deadline).await?;
        self.note(name, &lease);
        Ok(lease)
    }
}
