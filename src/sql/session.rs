//! Locks that belong to a database session, over both servers: the lease holds one connection, and
//! ends with it.
//!
//! The server ends a session that was idle for the ttl, so a frozen holder's lock is freed. It measures
//! the ttl from its answer, we measure it from before we asked: a lease ends here before it ends there.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    failure::Failure,
    pool::{ANSWER_SLACK, Answered, Pool, Pooled},
    server::Server,
};
use crate::{
    Fault, FaultKind,
    lock::{Attempt, Lease, LeaseBackend, Queue, Renewal, Validity},
};

/// The statements.
pub(crate) trait Locks: Server {
    /// Makes a connection's settings those of a session that is held for long.
    fn begin(connection: &mut Pooled<Self>) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Asks for the lock and waits for it in the server's queue until `wait`, or not at all. The same round
    /// trip lets the session end after `ttl` and draws the fencing token; `None` if another holds the lock.
    fn lock(
        connection: &mut Pooled<Self>,
        name: &str,
        ttl: Duration,
        wait: Option<Instant>,
    ) -> impl Future<Output = Result<Option<u64>, Failure>> + Send;

    /// Makes the session younger, and its end that of a lease of this ttl.
    fn renew(
        connection: &mut Pooled<Self>,
        ttl: Duration,
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Frees the lock, and lets the session be idle in the pool.
    fn unlock(
        connection: &mut Pooled<Self>,
        name: &str,
    ) -> impl Future<Output = Result<(), Failure>> + Send;
}

pub(crate) struct Sessions<DB: Server> {
    pool: Pool<DB>,
    queue: Arc<Queue>,
}

/// When a held lock is worth another attempt: the server does not say when its lease ends.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

impl<DB: Locks> Sessions<DB> {
    pub(crate) fn new(pool: Pool<DB>) -> Self {
        Self { pool, queue: Arc::default() }
    }

    pub(crate) fn pool(&self) -> &Pool<DB> {
        &self.pool
    }

    pub(crate) async fn try_acquire(&self, name: &str, ttl: Duration) -> Result<Attempt, Fault> {
        Ok(match self.lock(name, ttl, None).await? {
            Some(lease) => Attempt::Granted(lease),
            None => Attempt::Held { remaining: LOOK_AGAIN.min(ttl) },
        })
    }

    pub(crate) async fn acquire(
        &self,
        name: &str,
        ttl: Duration,
        deadline: Instant,
    ) -> Result<Lease, Fault> {
        let _turn = self.queue.turn(name, deadline).await?;
        // One that has passed still leaves time for the server's answer.
        let deadline = deadline.max(Instant::now());
        self.lock(name, ttl, Some(deadline)).await?.ok_or_else(|| FaultKind::Held.into())
    }

    async fn lock(
        &self,
        name: &str,
        ttl: Duration,
        wait: Option<Instant>,
    ) -> Result<Option<Lease>, Fault> {
        let until = match wait {
            None => Instant::now() + self.pool.timeout(),
            Some(deadline) => deadline + ANSWER_SLACK,
        };
        let asking = self.pool.run(until, |mut connection| async move {
            let answer = lock_on(&mut connection, name, ttl, wait).await;
            // The lock may have been granted before what failed: such a session must not go back.
            let answer = answer.inspect_err(|_| connection.close());
            (connection, answer)
        });
        let Answered { answer, mut asked, mut connection } = asking.await?;
        let Some(fence) = answer else { return Ok(None) };
        // After a wait we do not know when the server began to measure the ttl: its answer may have lain
        // in the socket while this process was stopped.
        if asked.elapsed() > ttl / 16 {
            asked = Instant::now();
            DB::renew(&mut connection, ttl).await.inspect_err(|_| connection.close())?;
        }
        let validity = Validity::since(asked, ttl);
        let backend = SessionLease { connection, name: name.into() };
        Ok(Some(Lease::new(name, fence, ttl, validity, backend)))
    }
}

impl<DB: Server> Clone for Sessions<DB> {
    fn clone(&self) -> Self {
        Self { pool: self.pool.clone(), queue: self.queue.clone() }
    }
}

async fn lock_on<DB: Locks>(
    connection: &mut Pooled<DB>,
    name: &str,
    ttl: Duration,
    wait: Option<Instant>,
) -> Result<Option<u64>, Failure> {
    if connection.is_new() {
        DB::begin(connection).await?;
    }
    DB::lock(connection, name, ttl, wait).await
}

/// A lease that is a session.
struct SessionLease<DB: Server> {
    connection: Pooled<DB>,
    name: Box<str>,
}

impl<DB: Locks> LeaseBackend for SessionLease<DB> {
    async fn renew(&mut self, ttl: Duration) -> Result<Renewal, Fault> {
        Ok(match DB::renew(&mut self.connection, ttl).await {
            Ok(()) => Renewal::Renewed,
            // Also without an answer in time: the connection cannot be used any more, and the lock goes
            // with it.
            Err(failure) => {
                tracing::debug!(%failure, "the session of a lease broke");
                self.connection.close();
                Renewal::Lost
            }
        })
    }

    async fn release(mut self) -> Result<(), Fault> {
        match DB::unlock(&mut self.connection, &self.name).await {
            // The lock went with the connection.
            Err(failure) if failure.kind() == FaultKind::Unreachable => Ok(()),
            answer => Ok(answer?),
        }
    }
}
