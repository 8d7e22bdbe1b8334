use std::{
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use tokio::runtime::Handle;

use super::open_loads::{OpenLoad, OpenLoads};
use crate::{
    Fault, FaultKind,
    codec::Codec,
    far::{Attempt, Event, Grant, Renewal, Token, Watcher},
    lock::{self, Lease, Lock},
    redis::{
        connection::Connection,
        messages::Messages,
        namespace::Namespace,
        permissions::Permissions,
        records::{BY_LOCK, OpenReply, Records, malformed},
    },
};

/// How long an answer waits for its messages to be sent and the lock to be freed.
pub(super) const SETTLE: Duration = Duration::from_millis(100);
const LOCK_TIMEOUT: Duration = Duration::from_millis(100);

/// How long Redis keeps a load open that is neither committed nor ended: its process is dead.
const OPEN_TTL: Duration = Duration::from_secs(600);

/// A lock's election of loads, and the loads of this process that it has elected.
pub(super) struct Election<C, L> {
    pub(super) records: Records<C>,
    pub(super) messages: Messages,
    lock: L,
    pub(super) lock_timeout: Duration,
    pub(super) open: OpenLoads,
    /// Set with the first use, which is inside a runtime.
    listening: OnceLock<Arc<dyn Watcher>>,
}

impl<C, L> Election<C, L> {
    pub(super) fn new(connection: Connection, codec: C, namespace: &str, lock: L) -> Self {
        let keys = Arc::new(Namespace::new("cgs", namespace));
        let permissions = Arc::<Permissions>::default();
        let messages = Messages::new(connection.clone(), keys.clone(), permissions.clone());
        // The messages are sent after the lock was freed.
        let records = Records::new(connection, codec, keys, None, &BY_LOCK, permissions);
        Self {
            records,
            messages,
            lock,
            lock_timeout: LOCK_TIMEOUT,
            open: OpenLoads::default(),
            listening: OnceLock::new(),
        }
    }
}

impl<C: Send + Sync + 'static, L: Lock> Election<C, L> {
    /// One attempt at the lock.
    pub(super) async fn elect(&self, name: &str, ttl: Duration) -> Result<lock::Attempt, Fault> {
        let asking = tokio::time::timeout(self.lock_timeout, self.lock.try_acquire(name, ttl));
        asking.await.unwrap_or_else(|_| Err(FaultKind::Timeout.into()))
    }

    /// Opens the lock holder's load at the record.
    pub(super) async fn begin<V>(
        self: &Arc<Self>,
        name: &str,
        token: Token,
        lease: Lease,
        fresh_for: Duration,
    ) -> Result<Attempt<V>, Fault>
    where
        C: Codec<V>,
    {
        let (fence, lease) = (lease.fence(), Arc::new(lease));
        // A caller that was told "held" meanwhile must be notified, also when this future is dropped.
        let unused = FreeOnDrop { election: Some(self.clone()), lease: lease.clone() };
        let opened = self.records.open(name, Token::of_fence(fence), OPEN_TTL, fresh_for, None);
        match opened.await? {
            OpenReply::Granted(Grant { minimum, failures, .. }) => {
                unused.disarm();
                let grant = Grant { fence, minimum, failures };
                self.open.insert(token, OpenLoad { lease, grant });
                Ok(Attempt::Granted(grant))
            }
            OpenReply::Hit(entry) => Ok(Attempt::Hit(entry)),
            OpenReply::BackOff { remaining } => Ok(Attempt::BackOff { remaining }),
            OpenReply::Fenced => Err(Fault::saying(
                FaultKind::Refused,
                "the record knows a greater fencing token than the lock's: was the lock's data lost?",
            )),
            OpenReply::Held { .. } => Err(malformed()),
        }
    }

    /// Whether the load is still the open one.
    pub(super) async fn check(&self, name: &str, load: &OpenLoad) -> Result<Renewal, Fault> {
        self.records.renew(name, load.record_token(), OPEN_TTL).await
    }

    /// Closes the load without a write.
    pub(super) async fn end(&self, name: &str, load: &OpenLoad) -> Result<(), Fault> {
        self.records.release(name, load.record_token()).await
    }

    pub(super) async fn publish(&self, name: &str, event: Event<'_>) {
        if let Err(fault) = self.messages.tell(name, event, false).await {
            tracing::debug!(%fault, "message not sent; waiters look for themselves");
        }
    }

    /// Frees the lock, then publishes that.
    pub(super) async fn free(&self, lease: &Lease) {
        unlock(lease).await;
        self.publish(lease.name(), Event::Released { name: lease.name() }).await;
    }

    /// Frees the locks of loads that were closed for certain.
    pub(super) async fn close(self: Arc<Self>, loads: Vec<Token>) {
        for load in loads.into_iter().filter_map(|token| self.open.take(token)) {
            self.free(&load.lease).await;
        }
    }

    /// Watches for invalidations by other processes, to free a lock whose load they have closed.
    pub(super) fn listen(self: &Arc<Self>) {
        self.listening.get_or_init(|| {
            let (elected, runtime) = (Arc::downgrade(self), Handle::current());
            let listening: Arc<dyn Watcher> = Arc::new(Revocations { elected, runtime });
            self.messages.watch(Arc::downgrade(&listening));
            listening
        });
    }
}

struct Revocations<C, L> {
    elected: Weak<Election<C, L>>,
    runtime: Handle,
}

impl<C: Send + Sync + 'static, L: Lock> Watcher for Revocations<C, L> {
    fn on_event(&self, event: Event<'_>) {
        let (Event::Invalidated { name, .. } | Event::Put { name, .. }) = event else { return };
        let Some(elected) = self.elected.upgrade() else { return };
        for token in elected.open.of(name) {
            let (elected, name) = (elected.clone(), name.to_owned());
            // The message may be older than the load: the record knows.
            self.runtime.spawn(async move {
                let Some(load) = elected.open.get(token) else { return };
                if matches!(elected.check(&name, &load).await, Ok(Renewal::Lost)) {
                    elected.close(vec![token]).await;
                }
            });
        }
    }
}

/// Frees a lock that was granted and not used.
struct FreeOnDrop<C: Send + Sync + 'static, L: Lock> {
    election: Option<Arc<Election<C, L>>>,
    lease: Arc<Lease>,
}

impl<C: Send + Sync + 'static, L: Lock> FreeOnDrop<C, L> {
    fn disarm(mut self) {
        self.election = None;
    }
}

impl<C: Send + Sync + 'static, L: Lock> Drop for FreeOnDrop<C, L> {
    fn drop(&mut self) {
        if let (Some(election), Ok(runtime)) = (self.election.take(), Handle::try_current()) {
            let lease = self.lease.clone();
            runtime.spawn(async move { election.free(&lease).await });
        }
    }
}

pub(super) async fn unlock(lease: &Lease) {
    if let Err(fault) = lease.release_shared().await {
        tracing::debug!(%fault, "release failed; the lock is free after its ttl");
    }
}

/// Waits for work that continues by itself.
pub(super) async fn settle(work: impl Future<Output = ()> + Send + 'static) {
    // In time or not, it is done.
    let _ = tokio::time::timeout(SETTLE, tokio::spawn(work)).await;
}
