use std::{future::Future, time::Duration};

use futures::{StreamExt, future, stream::FuturesUnordered};
use tokio::time::Instant;

use super::{Lease, Lock};
use crate::{Fault, FaultKind};

/// The locks on all of `names`, or none: waits for one after the other, in the order of their bytes,
/// so that callers who name them in different orders do not wait for each other in a circle. A name
/// that comes twice is taken once. What is already held is renewed meanwhile.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), cattleguard::Fault> {
/// use std::time::Duration;
/// use cattleguard::lock::{Memory, acquire_many};
/// use tokio::time::Instant;
///
/// let deadline = Instant::now() + Duration::from_secs(1);
/// let leases = acquire_many(&Memory::new(), ["to", "from"], Duration::from_secs(2), deadline).await?;
/// assert_eq!(leases.iter().map(|lease| lease.name()).collect::<Vec<_>>(), ["from", "to"]);
/// leases.release().await?;
/// # Ok(()) }
/// ```
///
/// # Cancel safety
///
/// Dropping the future frees what was held, in the background.
///
/// # Errors
///
/// As [`Lock::acquire`] of the first that could not be had, or [`FaultKind::Lost`] of one that did not hold
/// until the last was had; the others are released before it is returned.
pub async fn acquire_many<N: AsRef<str>>(
    lock: &impl Lock,
    names: impl IntoIterator<Item = N>,
    ttl: Duration,
    deadline: Instant,
) -> Result<Leases, Fault> {
    let mut names: Vec<N> = names.into_iter().collect();
    names.sort_unstable_by(|a, b| a.as_ref().cmp(b.as_ref()));
    names.dedup_by(|a, b| a.as_ref() == b.as_ref());
    let mut held = Leases(Vec::with_capacity(names.len()));
    for name in names {
        let acquiring = async {
            tokio::select! {
                acquired = lock.acquire(name.as_ref(), ttl, deadline) => acquired,
                // All or none: what is held may be lost while the rest is waited for.
                () = held.lost() => Err(FaultKind::Lost.into()),
            }
        };
        match acquiring.await {
            Ok(lease) => {
                lease.keep();
                held.0.push(lease);
            }
            Err(error) => {
                if let Err(error) = held.release().await {
                    tracing::debug!(%error, "release failed; the lease ends after its ttl");
                }
                return Err(error);
            }
        }
    }
    Ok(held)
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

    /// Ends as soon as one of them can no longer be believed. Never for no leases.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost: ask again.
    pub fn lost(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        let mut losses: FuturesUnordered<_> =
            self.0.iter().map(|lease| Box::pin(lease.lost())).collect();
        async move {
            if losses.next().await.is_none() {
                future::pending::<()>().await;
            }
        }
    }

    /// Frees all of them, whatever becomes of each.
    ///
    /// # Cancel safety
    ///
    /// The releases that have begun go on, the others happen in the background.
    ///
    /// # Errors
    ///
    /// The first error of a release; those locks are free after their ttl.
    pub async fn release(self) -> Result<(), Fault> {
        future::join_all(self.0.into_iter().map(Lease::release)).await.into_iter().collect()
    }
}
