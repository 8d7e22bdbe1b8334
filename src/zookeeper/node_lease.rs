use std::{
    future::{Future, pending},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use tokio::sync::Mutex;
use zookeeper_client as zk;

use super::{claim::Claim, link::Link};
use crate::{
    Fault,
    lock::{LeaseBackend, Renewal, Validity},
};

/// A lease that is a node: the claim that is first in the queue.
pub(super) struct NodeLease {
    link: Arc<Link>,
    path: Arc<str>,
    /// Taken to delete the node, and locked until that is done: a release that finds [`guard`] deleting the
    /// node waits for it, and the ensemble is asked once.
    claim: Arc<Mutex<Option<Claim>>>,
}

impl NodeLease {
    pub(super) fn new(claim: Claim, validity: Validity) -> Self {
        let (link, path) = (claim.link().clone(), Arc::from(claim.path()));
        let lease = Self { link, path, claim: Arc::new(Mutex::new(Some(claim))) };
        let (link, path, claim) = (lease.link.clone(), lease.path.clone(), lease.claim.clone());
        let session = link.bound(validity.clone());
        let guarding = async move { guard(&link, &path, session, &validity, &claim).await };
        lease.link.runtime().spawn(guarding);
        lease
    }
}

impl LeaseBackend for NodeLease {
    async fn renew(&mut self, ttl: Duration) -> Result<Renewal, Fault> {
        let limit = ttl.min(self.link.timeout());
        match self.link.within(limit, self.link.exists(&self.path)).await {
            Ok(true) => Ok(Renewal::Renewed),
            Ok(false) => Ok(Renewal::Lost),
            Err(_) if self.link.is_over() => Ok(Renewal::Lost),
            Err(fault) => Err(fault),
        }
    }

    async fn release(self) -> Result<(), Fault> {
        delete(&self.claim).await
    }
}

/// Ends the lease when its node is deleted, or its session ends or is in doubt. Deletes the node when the
/// lease has ended: otherwise the node of a lease that is not renewed would hold the lock.
async fn guard(
    link: &Link,
    path: &str,
    session: impl Future<Output = ()>,
    validity: &Validity,
    claim: &Mutex<Option<Claim>>,
) {
    // Dropped last: a watch that is dropped before it was triggered costs a request to remove it.
    let mut gone = pin!(gone(link, path));
    tokio::select! {
        () = validity.ended() => {}
        () = session => {}
        () = &mut gone => {}
    }
    validity.end();
    if let Err(fault) = delete(claim).await {
        tracing::debug!(%fault, "the node of a lease that ended could not be deleted yet");
    }
}

/// Resolves when the node was deleted.
async fn gone(link: &Link, path: &str) {
    loop {
        match link.client().check_and_watch_stat(path).await {
            Ok((None, _)) => return,
            Ok((Some(_), watcher)) => drop(watcher.changed().await),
            Err(zk::Error::ConnectionLoss) => {}
            // The end of the session is noticed by `Link::bound`.
            Err(_) => pending().await,
        }
    }
}

async fn delete(claim: &Mutex<Option<Claim>>) -> Result<(), Fault> {
    let mut claim = claim.lock().await;
    match claim.take() {
        Some(claim) => claim.withdraw().await,
        None => Ok(()),
    }
}
