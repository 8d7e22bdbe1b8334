use std::{future::Future, time::Duration};

use futures::{StreamExt, future, stream::FuturesUnordered};
use tokio::time::Instant;

use super::{Lease, Lock};
use crate::{Fault, FaultKind};

/// Acquires the locks on all of `names`, or none.
///
/// Waits for one after the other, in the order of their bytes, so that callers who name them in different
/// orders cannot deadlock. A repeated name is acquired once. Leases that were granted are renewed while the
/// others are waited for.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), cattleguard::Fault> {
/// use std::time::Duration;
/// use cattleguard::{lock::acquire_many, memory::MemoryLock};
/// use tokio::time::Instant;
///
/// let deadline = Instant::now() + Duration::from_secs(1);
/// let (lock, ttl) = (MemoryLock::new(), Duration::from_secs(2));
/// let leases = acquire_many(&lock, ["to", "from"], ttl, deadline).await?;
/// assert_eq!(leases.iter().map(|lease| lease.name()).collect::<Vec<_>>(), ["from", "to"]);
/// leases.release().await?;
/// # Ok(()) }
/// ```
///
/// # Cancel safety
///
/// Dropping the future frees the locks that were acquired, in the background.
///
/// # Errors
///
/// As [`Lock::acquire`] of the first that failed, or [`FaultKind::Lost`] if a lease was lost before the last
/// lock was acquired. The others are released first.
pub async fn acquire_many<N: AsRef<str>>(
    lock: &impl Lock,
    names: impl IntoIterator<Item = N>,
    ttl: Duration,
    deadline: Instant,
) -> Result<Leases, Fault> {
    let mut names: Vec<N> = names.into_iter().collect();
    names.sort_unstable_by(|a, b| a.as_ref().cmp(b.as_ref()));
    names.dedup_by(|a, b| a.as_ref() == b.as_ref());
    let mut leases = Leases(Vec::with_capacity(names.len()));
    for name in names {
        let acquiring = async {
            tokio::select! {
                acquired = lock.acquire(name.as_ref(), ttl, deadline) => acquired,
                // All or none: a lease may be lost while the next lock is waited for.
                () = leases.lost() => Err(FaultKind::Lost.into()),
            }
        };
        match acquiring.await {
            Ok(lease) => {
                lease.keep_alive();
                leases.0.push(lease);
            }
            Err(fault) => {
                if let Err(fault) = leases.release().await {
                    tracing::debug!(%fault, "release failed; the lease ends after its ttl");
                }
                return Err(fault);
            }
        }
    }
    Ok(leases)
}

/// Several leases, renewed in the background until they are dropped or released together.
#[must_use = "dropping the leases frees the locks"]
#[derive(Debug)]
pub struct Leases(Vec<Lease>);

impl Leases {
    /// The leases, in the order of their names.
    pub fn iter(&self) -> std::slice::Iter<'_, Lease> {
        self.0.iter()
    }

    /// Resolves as soon as one of them is lost. Never, if there are none.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost: call it again.
    pub fn lost(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        let mut losses: FuturesUnordered<_> =
            self.0.iter().map(|lease| Box::pin(lease.lost())).collect();
        async move {
            if losses.next().await.is_none() {
                future::pending::<()>().await;
            }
        }
    }

    /// Frees all of them, also if some releases fail.
    ///
    /// # Cancel safety
    ///
    /// The releases continue in the background.
    ///
    /// # Errors
    ///
    /// The first failure; those locks are free after their ttl.
    pub async fn release(self) -> Result<(), Fault> {
        future::join_all(self.0.into_iter().map(Lease::release)).await.into_iter().collect()
    }
}
