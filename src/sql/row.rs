//! Lease rows in a database table, over both servers: a row says who holds a name until when, by the
//! server's clock. No connection is tied up by a lease.
//!
//! - Granting, renewing and releasing are one statement each, and each names the grant's token: repeated
//!   after a lost answer it does the same, repeated too late it does nothing.
//! - A released row stays, so that the statement that grants finds the row to lock, and draws the fencing
//!   token under that lock. It is deleted once nobody has asked for a day, when no statement that began
//!   before can still be running.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    time::{Instant, timeout_at},
};

use super::{
    failure::Failure,
    pool::{LAST_WORD, Link, Pool},
    server::Server,
};
use crate::{
    Fault, FaultKind,
    lock::{Attempt, Lease, LeaseBackend, Queue, Renewal, Validity},
    token::Token,
};

/// The statements.
pub(crate) trait Rows: Send + Sync + 'static {
    type Db: Server;
    type Wait: Wait;

    fn take(
        &self,
        link: &mut Link<Self::Db>,
        name: &str,
        token: &Token,
        ttl: Duration,
    ) -> impl Future<Output = Result<Taken, Failure>> + Send;

    /// Whether the row was still this token's.
    fn renew(
        &self,
        link: &mut Link<Self::Db>,
        name: &str,
        token: &Token,
        ttl: Duration,
    ) -> impl Future<Output = Result<bool, Failure>> + Send;

    fn release(
        &self,
        link: &mut Link<Self::Db>,
        name: &str,
        token: &Token,
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Deletes some rows that nobody has asked for since yesterday.
    fn sweep(&self, link: &mut Link<Self::Db>) -> impl Future<Output = Result<(), Failure>> + Send;

    /// For a caller who has found the name held.
    fn wait(&self, name: &str, deadline: Instant) -> impl Future<Output = Self::Wait> + Send;
}

/// How a waiter learns that it should look again.
pub(crate) trait Wait: Send {
    /// Messages from now on count.
    fn mark(&mut self);

    /// Ends with the next message, or when it is time to look without one. `rest` is that of the lease.
    fn pause(&mut self, rest: Duration) -> impl Future<Output = ()> + Send;
}

pub(crate) enum Taken {
    Granted(u64),
    Held { rest: Duration },
}

/// For a name that another took between two looks.
pub(crate) const LOST_RACE: Duration = Duration::from_millis(2);

pub(crate) struct RowLocks<R: Rows> {
    inner: Arc<Inner<R>>,
}

struct Inner<R: Rows> {
    rows: R,
    connections: Pool<R::Db>,
    queue: Queue,
    next_sweep: Mutex<Instant>,
}

/// A sweep reads the whole table, because an index on the expiry would cost each renewal more.
const SWEEP_EVERY: Duration = Duration::from_secs(600);

impl<R: Rows> RowLocks<R> {
    pub(crate) fn new(rows: R, connections: Pool<R::Db>) -> Self {
        // Not for all processes at once, and now and then in those that live shortly.
        let next_sweep = Mutex::new(Instant::now() + SWEEP_EVERY.mul_f64(fastrand::f64()));
        Self { inner: Arc::new(Inner { rows, connections, queue: Queue::default(), next_sweep }) }
    }

    pub(crate) fn rows(&self) -> &R {
        &self.inner.rows
    }

    pub(crate) fn connections(&self) -> &Pool<R::Db> {
        &self.inner.connections
    }

    #[cfg(feature = "postgres")] // Transactions wait in it, too.
    pub(crate) fn queue(&self) -> &Queue {
        &self.inner.queue
    }

    pub(crate) async fn try_acquire(&self, name: &str, ttl: Duration) -> Result<Attempt, Fault> {
        self.inner.attempt(name, Token::random(), ttl, self.inner.until()).await
    }

    pub(crate) async fn acquire(
        &self,
        name: &str,
        ttl: Duration,
        deadline: Instant,
    ) -> Result<Lease, Fault> {
        let _turn = self.inner.queue.turn(name, deadline).await?;
        // One that has passed leaves time to be told so.
        let deadline = deadline.max(Instant::now());
        let token = Token::random();
        let mut wait: Option<R::Wait> = None;
        loop {
            if let Some(wait) = &mut wait {
                wait.mark();
            }
            let attempt = self.inner.attempt(name, token, ttl, deadline);
            let remaining = match timeout_at(deadline + LAST_WORD, attempt).await {
                Ok(Ok(Attempt::Granted(lease))) => return Ok(lease),
                Ok(Ok(Attempt::Held { remaining })) => remaining,
                Ok(Err(error)) => return Err(error),
                Err(_) if wait.is_none() => return Err(FaultKind::Timeout.into()),
                Err(_) => return Err(FaultKind::Held.into()),
            };
            let pause = async {
                match &mut wait {
                    Some(wait) => wait.pause(remaining).await,
                    none => none.insert(self.inner.rows.wait(name, deadline).await).mark(),
                }
            };
            if timeout_at(deadline, pause).await.is_err() {
                return Err(FaultKind::Held.into());
            }
        }
    }
}

impl<R: Rows> Clone for RowLocks<R> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<R: Rows> Inner<R> {
    fn attempt(
        self: &Arc<Self>,
        name: &str,
        token: Token,
        ttl: Duration,
        until: Instant,
    ) -> Finish<Result<Attempt, Fault>> {
        let grip = Grip { inner: self.clone(), name: name.into(), token };
        Finish::new(grip.take(ttl, until).boxed())
    }

    async fn sweep(self: Arc<Self>) {
        let swept = async {
            let mut link = self.connections.link(self.until()).await?;
            self.rows.sweep(&mut link).await
        };
        if let Err(failure) = swept.await {
            tracing::debug!(%failure, "old lease rows stay for now");
        }
    }

    fn sweep_is_due(&self) -> bool {
        let (mut next, now) = (self.next_sweep.lock(), Instant::now());
        let due = *next <= now;
        if due {
            *next = now + SWEEP_EVERY;
        }
        due
    }

    /// Until when a call waits for a free connection.
    fn until(&self) -> Instant {
        Instant::now() + self.connections.timeout()
    }
}

/// One attempt's part of a row.
struct Grip<R: Rows> {
    inner: Arc<Inner<R>>,
    name: Arc<str>,
    token: Token,
}

impl<R: Rows> Grip<R> {
    async fn take(self, ttl: Duration, until: Instant) -> Result<Attempt, Fault> {
        let Inner { rows, connections, .. } = &*self.inner;
        let mut link = connections.link(until).await?;
        let mut asked = Instant::now();
        let mut answer = rows.take(&mut link, &self.name, &self.token, ttl).await;
        if link.had_died(&answer) {
            link = connections.new_link(until).await?;
            asked = Instant::now();
            answer = rows.take(&mut link, &self.name, &self.token, ttl).await;
        }
        Ok(match answer? {
            Taken::Granted(fence) => {
                let (name, belief) = (self.name.clone(), Validity::since(asked, ttl));
                Attempt::Granted(Lease::new(&name, fence, ttl, belief, self))
            }
            Taken::Held { rest } => Attempt::Held { remaining: rest },
        })
    }
}

impl<R: Rows> LeaseBackend for Grip<R> {
    async fn renew(&mut self, ttl: Duration) -> Result<Renewal, Fault> {
        let Inner { rows, connections, .. } = &*self.inner;
        let mut link = connections.link(self.inner.until()).await?;
        let mut answer = rows.renew(&mut link, &self.name, &self.token, ttl).await;
        if link.had_died(&answer) {
            link = connections.new_link(self.inner.until()).await?;
            answer = rows.renew(&mut link, &self.name, &self.token, ttl).await;
        }
        Ok(if answer? { Renewal::Renewed } else { Renewal::Lost })
    }

    async fn release(self) -> Result<(), Fault> {
        let Inner { rows, connections, .. } = &*self.inner;
        let mut link = connections.link(self.inner.until()).await?;
        let mut answer = rows.release(&mut link, &self.name, &self.token).await;
        if link.had_died(&answer) {
            link = connections.new_link(self.inner.until()).await?;
            answer = rows.release(&mut link, &self.name, &self.token).await;
        }
        if self.inner.sweep_is_due() {
            tokio::spawn(self.inner.sweep());
        }
        Ok(answer?)
    }
}

/// Work that goes on in the background when its caller goes away: what it was granted is then freed,
/// instead of being held for its ttl by nobody.
struct Finish<T: Send + 'static> {
    work: Option<BoxFuture<'static, T>>,
    runtime: Handle,
}

impl<T: Send + 'static> Finish<T> {
    fn new(work: BoxFuture<'static, T>) -> Self {
        Self { work: Some(work), runtime: Handle::current() }
    }
}

impl<T: Send + 'static> Future for Finish<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let Some(work) = &mut self.work else { return Poll::Pending };
        let done = work.poll_unpin(cx);
        if done.is_ready() {
            self.work = None;
        }
        done
    }
}

impl<T: Send + 'static> Drop for Finish<T> {
    fn drop(&mut self) {
        if let Some(work) = self.work.take() {
            self.runtime.spawn(work.map(drop));
        }
    }
}

/// Pauses that grow from one look to the next.
pub(crate) struct Polling {
    pause: Duration,
}

const FIRST_PAUSE: Duration = Duration::from_millis(3);
const LAST_PAUSE: Duration = Duration::from_millis(50);

impl Polling {
    pub(crate) fn new() -> Self {
        Self { pause: FIRST_PAUSE }
    }

    /// With jitter, so that waiters do not come together.
    pub(crate) fn next(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).min(LAST_PAUSE);
        jittered(pause)
    }
}

/// Between half and one and a half.
pub(crate) fn jittered(duration: Duration) -> Duration {
    duration.mul_f64(0.5 + fastrand::f64())
}
