use std::{sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use tokio::time::Instant;

use super::{Attempt, Lease, Lock};
use crate::Fault;

/// Some lock, for a program that chooses it when it runs. Clones are the same lock. One box per
/// call, which a network round trip dwarfs.
#[derive(Clone)]
pub struct BoxLock(Arc<dyn DynLock>);

impl BoxLock {
    /// This lock, its type forgotten.
    pub fn new(lock: impl Lock) -> Self {
        Self(Arc::new(lock))
    }
}

impl Lock for BoxLock {
    async fn try_acquire(&self, name: &str, ttl: Duration) -> Result<Attempt, Fault> {
        self.0.try_acquire(name, ttl).await
    }

    async fn acquire(&self, name: &str, ttl: Duration, deadline: Instant) -> Result<Lease, Fault> {
        self.0.acquire(name, ttl, deadline).await
    }
}

trait DynLock: Send + Sync {
    fn try_acquire<'a>(
        &'a self,
        name: &'a str,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<Attempt, Fault>>;
    fn acquire<'a>(
        &'a self,
        name: &'a str,
        ttl: Duration,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Lease, Fault>>;
}

impl<L: Lock> DynLock for L {
    fn try_acquire<'a>(
        &'a self,
        name: &'a str,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<Attempt, Fault>> {
        Lock::try_acquire(self, name, ttl).boxed()
    }

    fn acquire<'a>(
        &'a self,
        name: &'a str,
        ttl: Duration,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Lease, Fault>> {
        Lock::acquire(self, name, ttl, deadline).boxed()
    }
}
