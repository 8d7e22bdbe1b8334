//! Lease rows in a database table, over both servers: a row says who holds a name until when, by the
//! server's clock. A lease ties up no connection.
//!
//! - Granting, renewing and releasing are one statement each, and each names the grant's token: repeated
//!   after a lost answer it does the same, repeated too late it does nothing.
//! - A released row stays, so that the statement that grants finds the row to lock, and draws the fencing
//!   token under that lock. It is deleted a day after its last use, when no statement that began before
//!   can still be running.

use std::{sync::Arc, time::Duration};

use futures::FutureExt;
use parking_lot::Mutex;
use tokio::time::{Instant, timeout_at};

use super::{
    background::FinishInBackground,
    failure::Failure,
    pool::{ANSWER_SLACK, Answered, Pool, Pooled},
    server::Server,
};
use crate::{
    Fault, FaultKind,
    backoff::Backoff,
    lock::{Attempt, Lease, LeaseBackend, Queue, Renewal, Validity},
    token::Token,
};

/// The statements.
pub(crate) trait Rows: Send + Sync + 'static {
    type Db: Server;
    type Wait: Wait;

    fn take(
        &self,
        connection: &mut Pooled<Self::Db>,
        name: &str,
        token: &Token,
        ttl: Duration,
    ) -> impl Future<Output = Result<Taken, Failure>> + Send;

    /// Whether the row was still this token's.
    fn renew(
        &self,
        connection: &mut Pooled<Self::Db>,
        name: &str,
        token: &Token,
        ttl: Duration,
    ) -> impl Future<Output = Result<bool, Failure>> + Send;

    fn release(
        &self,
        connection: &mut Pooled<Self::Db>,
        name: &str,
        token: &Token,
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Deletes some rows that were not used for a day.
    fn sweep(
        &self,
        connection: &mut Pooled<Self::Db>,
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    /// A wait for a name that was found held.
    fn wait(&self, name: &str, deadline: Instant) -> impl Future<Output = Self::Wait> + Send;
}

/// How a waiter learns that it should try again.
pub(crate) trait Wait: Send {
    /// Forgets the messages until now.
    fn mark(&mut self);

    /// Resolves with the next message, or when it is time to try without one. `remaining` is the rest of
    /// the lease.
    fn pause(&mut self, remaining: Duration) -> impl Future<Output = ()> + Send;
}

/// Pauses of a waiter without messages.
pub(crate) const POLLING: Backoff =
    Backoff::new(Duration::from_millis(3), Duration::from_millis(50));

/// A wait without messages.
impl Wait for Backoff {
    fn mark(&mut self) {}

    async fn pause(&mut self, remaining: Duration) {
        tokio::time::sleep(self.next().min(remaining)).await;
    }
}

pub(crate) enum Taken {
    Granted(u64),
    Held { remaining: Duration },
}

/// When to try again for a name that another took between two statements.
pub(crate) const LOST_RACE: Duration = Duration::from_millis(2);

pub(crate) struct RowLocks<R: Rows> {
    inner: Arc<Inner<R>>,
}

struct Inner<R: Rows> {
    rows: R,
    pool: Pool<R::Db>,
    queue: Queue,
    next_sweep: Mutex<Instant>,
}

/// A sweep reads the whole table, because an index on the expiry would cost each renewal more.
const SWEEP_EVERY: Duration = Duration::from_secs(600);

impl<R: Rows> RowLocks<R> {
    pub(crate) fn new(rows: R, pool: Pool<R::Db>) -> Self {
        // At random: not all processes at once, and processes that live shortly sweep now and then, too.
        let next_sweep = Mutex::new(Instant::now() + SWEEP_EVERY.mul_f64(fastrand::f64()));
        Self { inner: Arc::new(Inner { rows, pool, queue: Queue::default(), next_sweep }) }
    }

    pub(crate) fn rows(&self) -> &R {
        &self.inner.rows
    }

    pub(crate) fn pool(&self) -> &Pool<R::Db> {
        &self.inner.pool
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
        // One that has passed still leaves time for the server's answer.
        let deadline = deadline.max(Instant::now());
        let token = Token::random();
        let mut wait: Option<R::Wait> = None;
        loop {
            if let Some(wait) = &mut wait {
                wait.mark();
            }
            let attempt = self.inner.attempt(name, token, ttl, deadline);
            let remaining = match timeout_at(deadline + ANSWER_SLACK, attempt).await {
                Ok(Ok(Attempt::Granted(lease))) => return Ok(lease),
                Ok(Ok(Attempt::Held { remaining })) => remaining,
                Ok(Err(fault)) => return Err(fault),
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
    ) -> FinishInBackground<Result<Attempt, Fault>> {
        let lease = RowLease { inner: self.clone(), name: name.into(), token };
        FinishInBackground::new(lease.take(ttl, until).boxed())
    }

    async fn sweep(self: Arc<Self>) {
        let swept = async {
            let mut connection = self.pool.get(self.until()).await?;
            self.rows.sweep(&mut connection).await
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
        Instant::now() + self.pool.timeout()
    }
}

/// A lease that is a row, or an attempt at it.
struct RowLease<R: Rows> {
    inner: Arc<Inner<R>>,
    name: Arc<str>,
    token: Token,
}

impl<R: Rows> RowLease<R> {
    async fn take(self, ttl: Duration, until: Instant) -> Result<Attempt, Fault> {
        let Inner { rows, pool, .. } = &*self.inner;
        let taking = pool.run(until, |mut connection| async {
            let answer = rows.take(&mut connection, &self.name, &self.token, ttl).await;
            (connection, answer)
        });
        let Answered { answer, asked, .. } = taking.await?;
        Ok(match answer {
            Taken::Granted(fence) => {
                let (name, validity) = (self.name.clone(), Validity::since(asked, ttl));
                Attempt::Granted(Lease::new(&name, fence, ttl, validity, self))
            }
            Taken::Held { remaining } => Attempt::Held { remaining },
        })
    }
}

impl<R: Rows> LeaseBackend for RowLease<R> {
    async fn renew(&mut self, ttl: Duration) -> Result<Renewal, Fault> {
        let Inner { rows, pool, .. } = &*self.inner;
        let renewing = pool.run(self.inner.until(), |mut connection| async {
            let answer = rows.renew(&mut connection, &self.name, &self.token, ttl).await;
            (connection, answer)
        });
        Ok(if renewing.await?.answer { Renewal::Renewed } else { Renewal::Lost })
    }

    async fn release(self) -> Result<(), Fault> {
        let Inner { rows, pool, .. } = &*self.inner;
        let releasing = pool.run(self.inner.until(), |mut connection| async {
            let answer = rows.release(&mut connection, &self.name, &self.token).await;
            (connection, answer)
        });
        releasing.await?;
        if self.inner.sweep_is_due() {
            tokio::spawn(self.inner.clone().sweep());
        }
        Ok(())
    }
}
