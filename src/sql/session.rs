//! Locks that belong to a database session, over both servers: the lease holds one connection, and
//! ends with it.
//!
//! The server ends a session that was idle for the ttl, so a frozen holder's lock is freed. Its clock
//! begins at its answer, ours before we asked: a lease is never believed for longer than it lasts.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    failure::Failure,
    pool::{LAST_WORD, Link, Pool},
    server::Server,
};
use crate::{
    Fault, FaultKind,
    lock::{Attempt, Lease, LeaseBackend, Queue, Renewal, Validity},
};

/// The statements.
pub(crate) trait Locks: Server {
    /// Makes a connection's settings those of a session that is held for long.
    fn begin(link: &mut Link<Self>) -> impl Future<Output = Result<(), Failure>> + Send;

    /// The lock, waited for until then in the server's queue, or not at all. In the same round trip the
    /// session's end after `ttl` and the fencing token; `None` if others hold the lock.
    fn lock(
        link: &mut Link<Self>,
        name: &str,
        ttl: Duration,
        wait: Option<Instant>,
    ) -> impl Future<Output = Result<Option<u64>, Failure>> + Send;

    /// Makes the session younger, and its end that of a lease of this ttl.
    fn renew(
        link: &mut Link<Self>,
        ttl: Duration,
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Frees the lock, and lets the session be idle in the pool.
    fn unlock(
        link: &mut Link<Self>,
        name: &str,
    ) -> impl Future<Output = Result<(), Failure>> + Send;
}

pub(crate) struct Sessions<DB: Server> {
    connections: Pool<DB>,
    queue: Arc<Queue>,
}

/// When nothing tells how long the holder will be.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

impl<DB: Locks> Sessions<DB> {
    pub(crate) fn new(connections: Pool<DB>) -> Self {
        Self { connections, queue: Arc::default() }
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
        // One that has passed leaves time to be told so.
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
            None => Instant::now() + self.connections.timeout(),
            Some(deadline) => deadline + LAST_WORD,
        };
        let mut link = self.connections.link(until).await?;
        let mut asked = Instant::now();
        let mut answer = lock_on(&mut link, name, ttl, wait).await;
        if link.had_died(&answer) {
            link = self.connections.new_link(until).await?;
            asked = Instant::now();
            answer = lock_on(&mut link, name, ttl, wait).await;
        }
        // The lock may have been granted before what failed: no such session goes back to the pool.
        let granted = answer.inspect_err(|_| link.close())?;
        let Some(fence) = granted else { return Ok(None) };
        // After a wait nobody here knows when the server's clock began: the answer may have lain in
        // the socket while this process was stopped.
        if asked.elapsed() > ttl / 16 {
            asked = Instant::now();
            DB::renew(&mut link, ttl).await.inspect_err(|_| link.close())?;
        }
        let belief = Validity::since(asked, ttl);
        Ok(Some(Lease::new(name, fence, ttl, belief, Held { link, name: name.into() })))
    }
}

impl<DB: Server> Clone for Sessions<DB> {
    fn clone(&self) -> Self {
        Self { connections: self.connections.clone(), queue: self.queue.clone() }
    }
}

async fn lock_on<DB: Locks>(
    link: &mut Link<DB>,
    name: &str,
    ttl: Duration,
    wait: Option<Instant>,
) -> Result<Option<u64>, Failure> {
    if link.is_new() {
        DB::begin(link).await?;
    }
    DB::lock(link, name, ttl, wait).await
}

struct Held<DB: Server> {
    link: Link<DB>,
    name: Box<str>,
}

impl<DB: Locks> LeaseBackend for Held<DB> {
    async fn renew(&mut self, ttl: Duration) -> Result<Renewal, Fault> {
        Ok(match DB::renew(&mut self.link, ttl).await {
            Ok(()) => Renewal::Renewed,
            // Also when there was no answer in time: the connection cannot be used any further, and
            // the lock with it.
            Err(failure) => {
                tracing::debug!(%failure, "the session of a lease broke");
                self.link.close();
                Renewal::Lost
            }
        })
    }

    async fn release(mut self) -> Result<(), Fault> {
        match DB::unlock(&mut self.link, &self.name).await {
            // The lock went with the connection.
            Err(failure) if failure.kind() == FaultKind::Unreachable => Ok(()),
            answer => Ok(answer?),
        }
    }
}
