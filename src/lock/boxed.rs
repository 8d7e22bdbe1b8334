use std::{fmt, sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use tokio::time::Instant;

use super::{Attempt, Lease, Lock};
use crate::Fault;

/// A lock of any type, for a program that chooses it at run time. Clones are the same lock.
///
/// Costs one allocation a call.
#[derive(Clone)]
pub struct BoxLock(Arc<dyn DynLock>);

impl BoxLock {
    /// Boxes this lock.
    pub fn new(lock: impl Lock) -> Self {
        Self(Arc::new(lock))
    }
}

impl fmt::Debug for BoxLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoxLock").finish_non_exhaustive()
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
