use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Attempt, Lease, Lock, lease::WeakLease, queue::Queue};
use crate::Fault;

/// One owner of locks, who may acquire again what it holds: its leases of a name count, and the last
/// one to be released or dropped frees the lock. Clones are the same owner; make another `Reentrant`
/// for another owner. Works over every lock.
///
/// All leases of one grant share its fencing token and its end; acquiring again renews it.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), cattleguard::Fault> {
/// use std::time::Duration;
/// use cattleguard::lock::{Lock, Memory, Reentrant};
/// use tokio::time::Instant;
///
/// let (ttl, deadline) = (Duration::from_secs(2), Instant::now() + Duration::from_secs(1));
/// let owner = Reentrant::new(Memory::new());
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
    /// Two tasks of one owner ask the system once: the second finds what the first was given.
    asking: Queue,
    held: Mutex<HashMap<Arc<str>, WeakLease>>,
}

impl<L: Lock> Reentrant<L> {
    /// A new owner of locks of this kind.
    pub fn new(lock: L) -> Self {
        let (asking, held) = (Queue::default(), Mutex::default());
        Self { owner: Arc::new(Owner { lock, asking, held }) }
    }

    /// What this owner holds already, for another ttl.
    async fn again(&self, name: &str) -> Option<Lease> {
        let lease = self.owner.held.lock().get(name).and_then(WeakLease::upgrade)?;
        // A renewal that fails for want of an answer leaves a lease that holds for now.
        let _ = lease.renew().await;
        (!lease.is_lost()).then_some(lease)
    }

    fn note(&self, name: &str, lease: &Lease) {
        let mut held = self.owner.held.lock();
        held.retain(|_, lease| !lease.is_gone());
        held.insert(name.into(), lease.downgrade());
    }
}

impl<L> Clone for Reentrant<L> {
    fn clone(&self) -> Self {
        Self { owner: self.owner.clone() }
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
