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

/// The claim that is first, as long as it is believed.
pub(super) struct Grasp {
    link: Arc<Link>,
    path: Arc<str>,
    /// Taken by whoever deletes the node, and held until it is deleted: a release that finds its
    /// guardian at it is over when the name is free, and the ensemble is asked once.
    claim: Arc<Mutex<Option<Claim>>>,
}

impl Grasp {
    pub(super) fn new(claim: Claim, belief: Validity) -> Self {
        let (link, path) = (claim.link().clone(), Arc::from(claim.path()));
        let grasp = Self { link, path, claim: Arc::new(Mutex::new(Some(claim))) };
        let (link, path, claim) = (grasp.link.clone(), grasp.path.clone(), grasp.claim.clone());
        let session = link.vouch(belief.clone());
        let guarding = async move { guard(&link, &path, session, &belief, &claim).await };
        grasp.link.runtime().spawn(guarding);
        grasp
    }
}

impl LeaseBackend for Grasp {
    async fn renew(&mut self, ttl: Duration) -> Result<Renewal, Fault> {
        let limit = ttl.min(self.link.timeout());
        match self.link.within(limit, self.link.exists(&self.path)).await {
            Ok(true) => Ok(Renewal::Renewed),
            Ok(false) => Ok(Renewal::Lost),
            Err(_) if self.link.is_over() => Ok(Renewal::Lost),
            Err(error) => Err(error),
        }
    }

    async fn release(self) -> Result<(), Fault> {
        delete(&self.claim).await
    }
}

/// Ends the belief when the node or the session is gone or in doubt; and deletes the node at the end of
/// the belief, which a holder who does not renew it would otherwise keep.
async fn guard(
    link: &Link,
    path: &str,
    session: impl Future<Output = ()>,
    belief: &Validity,
    claim: &Mutex<Option<Claim>>,
) {
    // Dropped last: a watch that is dropped before it was triggered costs a request to remove it.
    let mut gone = pin!(gone(link, path));
    tokio::select! {
        () = belief.over() => {}
        () = session => {}
        () = &mut gone => {}
    }
    belief.end();
    if let Err(error) = delete(claim).await {
        tracing::debug!(%error, "the node of a lease that ended could not be deleted yet");
    }
}

/// Ends when somebody deleted the node.
async fn gone(link: &Link, path: &str) {
    loop {
        match link.client().check_and_watch_stat(path).await {
            Ok((None, _)) => return,
            Ok((Some(_), watcher)) => drop(watcher.changed().await),
            Err(zk::Error::ConnectionLoss) => {}
            // The session's end is told by its `vouch`.
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
