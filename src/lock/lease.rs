//! A grant of a lock, and whether it can still be believed.
//!
//! - What a [`Lease`] says of itself is judged here, by this process' clock, from a moment *before* the
//!   system was asked: it ends no later than the system's own idea of it.
//! - A lease once lost stays lost. A renewal that would succeed afterwards could hide that another
//!   held the lock in between.
//! - The system's part is a [`LeaseBackend`]. Its calls run on tasks, so a caller who goes away in the
//!   middle leaves no half-used connection behind.

use std::{fmt, future::Future, pin::pin, sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use tokio::{runtime::Handle, sync::Mutex, time::Instant};

use super::{Renewal, Validity, validity::end_of};
use crate::{Fault, FaultKind};

/// A grant of a lock, until a time. Dropping it frees the lock in the background.
///
/// It lasts for its ttl. [`keep`](Self::keep) renews it for as long as it is there, [`run`](Self::run)
/// for as long as some work takes.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), cattleguard::Fault> {
/// use std::time::Duration;
/// use cattleguard::lock::{Lock, Memory};
/// use tokio::time::Instant;
///
/// let lock = Memory::new();
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
    keeper: parking_lot::Mutex<Option<tokio::task::AbortHandle>>,
    grip: Arc<Grip>,
}

/// What renewing and releasing need; apart from [`Inner`], so that a keeper does not keep the lease
/// from being dropped.
struct Grip {
    ttl: Duration,
    belief: Validity,
    runtime: Handle,
    /// `None` once released. Held over a call, so that a release comes after the renewal under way.
    hold: Mutex<Option<Box<dyn DynBackend>>>,
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
        belief: Validity,
        hold: impl LeaseBackend,
    ) -> Self {
        let hold: Box<dyn DynBackend> = Box::new(hold);
        let runtime = Handle::current();
        let grip = Arc::new(Grip { ttl, belief, runtime, hold: Mutex::new(Some(hold)) });
        let keeper = parking_lot::Mutex::default();
        Self { inner: Arc::new(Inner { name: name.into(), fence, keeper, grip }) }
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

    /// Until when the lease holds if it is not renewed.
    pub fn expires_at(&self) -> Instant {
        self.inner.grip.belief.expires_at()
    }

    /// Whether the lease can no longer be believed.
    pub fn is_lost(&self) -> bool {
        self.inner.grip.belief.is_over()
    }

    /// Ends the moment the lease can no longer be believed: the system said so, its session is gone,
    /// or [`expires_at`](Self::expires_at) has passed without a renewal. Also when the lease is
    /// released or dropped.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost: ask again.
    pub fn lost(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        self.inner.grip.belief.over()
    }

    /// Extends the lease to its ttl from now.
    ///
    /// # Cancel safety
    ///
    /// The renewal goes on when the future is dropped.
    ///
    /// # Errors
    ///
    /// [`FaultKind::Lost`] if the lease is gone. Any other leaves it as it was: it holds until
    /// [`expires_at`](Self::expires_at).
    pub async fn renew(&self) -> Result<(), Fault> {
        self.renew_for(self.inner.grip.ttl).await
    }

    /// Extends the lease, or shortens it, to `ttl` from now. [`keep`](Self::keep) goes on with its first
    /// ttl.
    ///
    /// # Cancel safety, errors
    ///
    /// As [`renew`](Self::renew); but a shorter end counts whatever the answer.
    pub async fn renew_for(&self, ttl: Duration) -> Result<(), Fault> {
        self.inner.grip.renew(ttl).await
    }

    /// Renews the lease in the background, at a third of its ttl, until it is lost, released or dropped.
    pub fn keep(&self) {
        let mut keeper = self.inner.keeper.lock();
        if keeper.is_none() {
            let grip = self.inner.grip.clone();
            let task = self.inner.grip.runtime.spawn(async move { grip.keep().await });
            *keeper = Some(task.abort_handle());
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
        let (mut work, mut keeping) = (pin!(work), pin!(self.inner.grip.keep()));
        let mut lost = pin!(self.lost());
        tokio::select! {
            // In this order: work that is done when the lease is lost was done in time or not, and
            // only the fence can tell. Saying "lost" is the safe answer.
            biased;
            () = &mut lost => Err(FaultKind::Lost.into()),
            // Ends only with the lease. A renewal that takes long must not hide that it is lost.
            () = &mut keeping => Err(FaultKind::Lost.into()),
            done = &mut work => Ok(done),
        }
    }

    /// Frees the lock. Of leases shared by a [`Reentrant`](super::Reentrant) owner the last one does.
    ///
    /// # Cancel safety
    ///
    /// The release goes on when the future is dropped.
    ///
    /// # Errors
    ///
    /// When the system cannot be asked: the lock is free after its ttl. A lease that was lost is
    /// nothing to release, and no error.
    pub async fn release(self) -> Result<(), Fault> {
        match Arc::into_inner(self.inner) {
            Some(inner) => inner.grip.release().await,
            None => Ok(()),
        }
    }

    /// Frees the lock, whoever else still holds on to the lease.
    pub(crate) async fn end(&self) -> Result<(), Fault> {
        self.inner.grip.release().await
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

/// A lease that others may hold on to or not.
pub(super) struct WeakLease(std::sync::Weak<Inner>);

impl WeakLease {
    /// The lease, if somebody still has it and it can be believed.
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
        // The keeper sees this, or has been told by `release`.
        self.grip.belief.end();
        // Most often nothing is left to do: `release` took the hold before.
        if self.grip.hold.try_lock().is_ok_and(|hold| hold.is_none()) {
            return;
        }
        let grip = self.grip.clone();
        self.grip.runtime.spawn(async move {
            if let Err(error) = grip.release().await {
                tracing::debug!(%error, "release failed; the lease ends after its ttl");
            }
        });
    }
}

impl Grip {
    async fn renew(self: &Arc<Self>, ttl: Duration) -> Result<(), Fault> {
        let grip = self.clone();
        self.detached(async move { grip.renew_here(ttl).await }.boxed()).await
    }

    async fn release(self: &Arc<Self>) -> Result<(), Fault> {
        // Before the system is asked: nobody goes on believing while it is.
        self.belief.end();
        let grip = self.clone();
        self.detached(async move { grip.release_here().await }.boxed()).await
    }

    /// Runs `work` to its end, also when the caller goes away. What is done at once needs no task.
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
        let mut hold = self.hold.lock().await;
        let (Some(hold), false) = (hold.as_mut(), self.belief.is_over()) else {
            self.belief.end();
            return Err(FaultKind::Lost.into());
        };
        // Taken before the system is asked, whose own time begins later.
        let until = end_of(Instant::now(), ttl);
        // A shortening counts from now on: its answer may be lost.
        self.belief.shorten(until);
        match hold.renew(ttl).await? {
            Renewal::Renewed if self.belief.extend(until) => Ok(()),
            // An answer that came too late to be believed is a lost lease, too.
            _ => {
                self.belief.end();
                Err(FaultKind::Lost.into())
            }
        }
    }

    async fn release_here(&self) -> Result<(), Fault> {
        match self.hold.lock().await.take() {
            Some(hold) => hold.release().await,
            None => Ok(()),
        }
    }

    /// Renews until the lease is over.
    async fn keep(self: &Arc<Self>) {
        let over = self.belief.over();
        let mut over = pin!(over);
        let mut pause = self.ttl / 3;
        loop {
            tokio::select! {
                () = &mut over => return,
                () = tokio::time::sleep(pause) => {}
            }
            pause = match self.renew(self.ttl).await {
                Ok(()) => self.ttl / 3,
                Err(error) if error.kind() == FaultKind::Lost => return,
                Err(error) => {
                    tracing::debug!(%error, "lease renewal failed");
                    self.ttl / 9
                }
            };
        }
    }
}

/// The system's part of a lease. For implementers of [`Lock`](super::Lock).
///
/// Its calls are never dropped half-way, except with the runtime, and never run at the same time.
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

impl<H: LeaseBackend> DynBackend for H {
    fn renew(&mut self, ttl: Duration) -> BoxFuture<'_, Result<Renewal, Fault>> {
        LeaseBackend::renew(self, ttl).boxed()
    }

    fn release(self: Box<Self>) -> BoxFuture<'static, Result<(), Fault>> {
        LeaseBackend::release(*self).boxed()
    }
}
