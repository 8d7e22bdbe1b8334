//! A grant of a lock, and whether it is still valid.
//!
//! - A [`Lease`] ends by this process' clock, which it reads *before* the system is asked: it ends here no
//!   later than it does there.
//! - A lease once lost stays lost. A renewal that would succeed afterwards could hide that another
//!   held the lock in between.
//! - The system's part is a [`LeaseBackend`]. Its calls run on tasks, so a caller that is cancelled in the
//!   middle leaves no half-used connection behind.

use std::{
    fmt,
    future::Future,
    pin::pin,
    sync::{Arc, Weak},
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use tokio::{runtime::Handle, sync::Mutex, task::AbortHandle, time::Instant};

use super::validity::{Validity, end_of};
use crate::{Fault, FaultKind, token::Renewal};

/// A grant of a lock, until a time. Dropping it frees the lock in the background.
///
/// It lasts for its ttl. [`keep_alive`](Self::keep_alive) renews it until it is dropped,
/// [`run`](Self::run) for as long as some work takes.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), cattleguard::Fault> {
/// use std::time::Duration;
/// use cattleguard::{lock::Lock, memory::MemoryLock};
/// use tokio::time::Instant;
///
/// let lock = MemoryLock::new();
/// let deadline = Instant::now() + Duration::from_secs(1);
/// let lease = lock.acquire("report", Duration::from_secs(2), deadline).await?;
/// let fence = lease.fence();
/// lease.run(async move { /* write the report, with the fence */ }).await?;
/// lease.release().await?;
/// # Ok(()) }
/// ```
#[must_use = "dropping a lease frees the lock"]
pub struct Lease {
    inner: Arc<Inner>,
}

struct Inner {
    name: Arc<str>,
    fence: u64,
    /// The task that renews in the background.
    renewing: parking_lot::Mutex<Option<AbortHandle>>,
    state: Arc<State>,
}

/// What renewing and releasing need. Apart from [`Inner`], so that the task that renews does not keep the
/// lease from being dropped.
struct State {
    ttl: Duration,
    validity: Validity,
    runtime: Handle,
    /// `None` once released. Locked over a call, so that a release follows the renewal under way.
    backend: Mutex<Option<Box<dyn DynBackend>>>,
}

impl Lease {
    /// For implementers of [`Lock`](super::Lock): a lease as the system granted it.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn new(
        name: &str,
        fence: u64,
        ttl: Duration,
        validity: Validity,
        backend: impl LeaseBackend,
    ) -> Self {
        let backend: Box<dyn DynBackend> = Box::new(backend);
        let (runtime, backend) = (Handle::current(), Mutex::new(Some(backend)));
        let state = Arc::new(State { ttl, validity, runtime, backend });
        let renewing = parking_lot::Mutex::default();
        Self { inner: Arc::new(Inner { name: name.into(), fence, renewing, state }) }
    }

    /// The name that is locked.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The fencing token: greater than that of every earlier grant of the name. Send it with each
    /// write, and let the store refuse a smaller one than it has seen.
    pub fn fence(&self) -> u64 {
        self.inner.fence
    }

    /// When the lease ends unless it is renewed.
    pub fn expires_at(&self) -> Instant {
        self.inner.state.validity.expires_at()
    }

    /// Whether the lease has ended. `false` promises nothing for the next moment: see
    /// [`fence`](Self::fence).
    pub fn is_lost(&self) -> bool {
        self.inner.state.validity.has_ended()
    }

    /// Resolves as soon as the lease can no longer be trusted: the system said that it is gone, its session
    /// ended, or [`expires_at`](Self::expires_at) passed without a renewal. Also when the lease is released
    /// or dropped.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost: call it again.
    pub fn lost(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        self.inner.state.validity.ended()
    }

    /// Extends the lease to its ttl from now.
    ///
    /// # Cancel safety
    ///
    /// The renewal continues when the future is dropped.
    ///
    /// # Errors
    ///
    /// [`FaultKind::Lost`] if the lease is gone. Any other leaves it as it was: it holds until
    /// [`expires_at`](Self::expires_at).
    pub async fn renew(&self) -> Result<(), Fault> {
        self.renew_for(self.inner.state.ttl).await
    }

    /// Extends the lease, or shortens it, to `ttl` from now. [`keep_alive`](Self::keep_alive) continues with
    /// the first ttl.
    ///
    /// # Cancel safety, errors
    ///
    /// As [`renew`](Self::renew); but a shorter end counts whatever the answer.
    pub async fn renew_for(&self, ttl: Duration) -> Result<(), Fault> {
        self.inner.state.renew(ttl).await
    }

    /// Renews the lease in the background, at a third of its ttl, until it is lost, released or dropped.
    pub fn keep_alive(&self) {
        let mut renewing = self.inner.renewing.lock();
        if renewing.is_none() {
            let state = self.inner.state.clone();
            let task =
                self.inner.state.runtime.spawn(async move { state.renew_repeatedly().await });
            *renewing = Some(task.abort_handle());
        }
    }

    /// Renews the lease while `work` runs, and drops `work` when the lease is lost.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops `work` and leaves the lease to its ttl.
    ///
    /// # Errors
    ///
    /// [`FaultKind::Lost`] if the lease was lost before `work` was done.
    pub async fn run<T>(&self, work: impl Future<Output = T>) -> Result<T, Fault> {
        let (mut work, mut renewing) = (pin!(work), pin!(self.inner.state.renew_repeatedly()));
        let mut lost = pin!(self.lost());
        tokio::select! {
            // In this order: work that is done when the lease is lost was done in time or not, and
            // only the fence can tell. Saying "lost" is the safe answer.
            biased;
            () = &mut lost => Err(FaultKind::Lost.into()),
            // Ends only with the lease. A renewal that takes long must not hide that it is lost.
            () = &mut renewing => Err(FaultKind::Lost.into()),
            done = &mut work => Ok(done),
        }
    }

    /// Frees the lock. Of leases shared by a [`Reentrant`](super::Reentrant) owner the last one does.
    ///
    /// # Cancel safety
    ///
    /// The release continues when the future is dropped.
    ///
    /// # Errors
    ///
    /// When the system cannot be asked: the lock is free after its ttl. A lease that was lost needs no
    /// release, and is no error.
    pub async fn release(self) -> Result<(), Fault> {
        match Arc::into_inner(self.inner) {
            Some(inner) => inner.state.release().await,
            None => Ok(()),
        }
    }

    /// Frees the lock although others share the lease.
    #[cfg(feature = "redis")]
    pub(crate) async fn release_shared(&self) -> Result<(), Fault> {
        self.inner.state.release().await
    }

    pub(super) fn downgrade(&self) -> WeakLease {
        WeakLease(Arc::downgrade(&self.inner))
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lease = f.debug_struct("Lease");
        lease.field("fence", &self.fence()).field("lost", &self.is_lost()).finish_non_exhaustive()
    }
}

/// A lease that is dropped with its last owner.
pub(super) struct WeakLease(Weak<Inner>);

impl WeakLease {
    /// The lease, if it has an owner and is not lost.
    pub(super) fn upgrade(&self) -> Option<Lease> {
        let lease = Lease { inner: self.0.upgrade()? };
        (!lease.is_lost()).then_some(lease)
    }

    pub(super) fn is_gone(&self) -> bool {
        self.0.strong_count() == 0
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Ends the task that renews, too.
        self.state.validity.end();
        // Most often nothing remains to be done: `release` took the backend before.
        if self.state.backend.try_lock().is_ok_and(|backend| backend.is_none()) {
            return;
        }
        let state = self.state.clone();
        self.state.runtime.spawn(async move {
            if let Err(fault) = state.release().await {
                tracing::debug!(%fault, "release failed; the lease ends after its ttl");
            }
        });
    }
}

impl State {
    async fn renew(self: &Arc<Self>, ttl: Duration) -> Result<(), Fault> {
        let state = self.clone();
        self.detached(async move { state.renew_here(ttl).await }.boxed()).await
    }

    async fn release(self: &Arc<Self>) -> Result<(), Fault> {
        // Before the system is asked, which may free the lock at once.
        self.validity.end();
        let state = self.clone();
        self.detached(async move { state.release_here().await }.boxed()).await
    }

    /// Runs `work` to its end, also when the caller is cancelled. What is done at once needs no task.
    async fn detached(&self, mut work: BoxFuture<'static, Result<(), Fault>>) -> Result<(), Fault> {
        if let Some(done) = (&mut work).now_or_never() {
            return done;
        }
        match self.runtime.spawn(work).await {
            Ok(done) => done,
            Err(_) => Err(FaultKind::Timeout.into()),
        }
    }

    async fn renew_here(&self, ttl: Duration) -> Result<(), Fault> {
        let mut backend = self.backend.lock().await;
        let (Some(backend), false) = (backend.as_mut(), self.validity.has_ended()) else {
            self.validity.end();
            return Err(FaultKind::Lost.into());
        };
        // Before the system is asked, which counts the ttl from later.
        let until = end_of(Instant::now(), ttl);
        // A shorter end counts from now on: the answer may be lost.
        self.validity.shorten(until);
        match backend.renew(ttl).await? {
            Renewal::Renewed if self.validity.extend(until) => Ok(()),
            // Also an answer that came after the end.
            _ => {
                self.validity.end();
                Err(FaultKind::Lost.into())
            }
        }
    }

    async fn release_here(&self) -> Result<(), Fault> {
        match self.backend.lock().await.take() {
            Some(backend) => backend.release().await,
            None => Ok(()),
        }
    }

    /// Renews until the lease has ended.
    async fn renew_repeatedly(self: &Arc<Self>) {
        let ended = self.validity.ended();
        let mut ended = pin!(ended);
        let mut pause = self.ttl / 3;
        loop {
            tokio::select! {
                () = &mut ended => return,
                () = tokio::time::sleep(pause) => {}
            }
            pause = match self.renew(self.ttl).await {
                Ok(()) => self.ttl / 3,
                Err(fault) if fault.kind() == FaultKind::Lost => return,
                Err(fault) => {
                    tracing::debug!(%fault, "lease renewal failed");
                    self.ttl / 9
                }
            };
        }
    }
}

/// The system's part of a lease. For implementers of [`Lock`](super::Lock).
///
/// Its calls run one at a time, and run to their end unless the runtime is shut down.
pub trait LeaseBackend: Send + 'static {
    /// Extends the lease to `ttl` from now, within the implementer's timeout.
    fn renew(&mut self, ttl: Duration) -> impl Future<Output = Result<Renewal, Fault>> + Send;

    /// Frees the lock if it is still this lease's.
    fn release(self) -> impl Future<Output = Result<(), Fault>> + Send;
}

trait DynBackend: Send {
    fn renew(&mut self, ttl: Duration) -> BoxFuture<'_, Result<Renewal, Fault>>;
    fn release(self: Box<Self>) -> BoxFuture<'static, Result<(), Fault>>;
}

impl<B: LeaseBackend> DynBackend for B {
    fn renew(&mut self, ttl: Duration) -> BoxFuture<'_, Result<Renewal, Fault>> {
        LeaseBackend::renew(self, ttl).boxed()
    }

    fn release(self: Box<Self>) -> BoxFuture<'static, Result<(), Fault>> {
        LeaseBackend::release(*self).boxed()
    }
}
