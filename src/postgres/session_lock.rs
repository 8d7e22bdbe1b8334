use std::{fmt, time::Duration};

use sqlx::{Postgres, Row};
use tokio::time::Instant;

use super::{
    pool::Pool,
    schema::{MISSING, create_sequence, millis},
};
use crate::{
    Fault, FaultKind,
    lock::{Attempt, Lease, Lock},
    sql::{
        ANSWER_SLACK, Failure, Pooled,
        session::{Locks, Sessions},
    },
};

/// A lock on PostgreSQL (14 or later) that belongs to a session: an advisory lock. Fast, and fair.
///
/// - *Order*: waiters are served in the order of asking, by the server's queue.
/// - *Crash*: the name is free as soon as the server sees the connection closed, at once when a process
///   is killed. A holder that is frozen or cut off is ended by the server after its ttl
///   (`idle_session_timeout`).
/// - *Loss*: if the connection is cut (the server restarts, an administrator ends the session), the server
///   frees the name at once, and the holder notices at its next renewal: with
///   [`Lease::keep_alive`] within a third of the ttl. The fencing token tells the two apart. A renewal that
///   is not answered within the timeout ends the lease, too.
/// - *Connections*: one for each lease and one for each name that is waited for, of
///   [`Pool::max`].
/// - *Proxies*: none that pools transactions or statements (PgBouncer's `transaction` mode): the lock
///   belongs to the server's session. `session` mode works.
/// - *Names*: the lock is on 64 bits of a hash, in the whole database. Two names of the same hash
///   exclude each other.
/// - *Fencing tokens* come from the sequence `cattleguard_fence`, made on first use if it is not there
///   (`CREATE SEQUENCE cattleguard_fence`, and `GRANT USAGE` on it to the service). All that share names
///   need the same one: mind the `search_path`. A standby that is promoted may give smaller ones
///   than the primary did, unless it replicates synchronously.
///
/// ```no_run
/// # async fn report() -> Result<(), cattleguard::Fault> {
/// use std::{fmt, time::Duration};
/// use cattleguard::{lock::Lock, postgres::{Pool, PostgresSessionLock}};
/// use tokio::time::Instant;
///
/// let lock = PostgresSessionLock::new(Pool::open("postgres://127.0.0.1/database")?);
/// let deadline = Instant::now() + Duration::from_secs(10);
/// let lease = lock.acquire("report", Duration::from_secs(30), deadline).await?;
/// lease.run(async { /* write the report */ }).await?;
/// lease.release().await?;
/// # Ok(()) }
/// ```
///
/// # Cancel safety
///
/// A dropped call closes its connection. The server notices that in a waiting session within half a
/// second; if the lock was granted meanwhile, it is freed at once.
///
/// # Errors
///
/// [`FaultKind::Config`] for a ttl over 24 days and for a name with a
/// zero byte; [`Timeout`](FaultKind::Timeout) also when no connection is free.
#[derive(Clone)]
pub struct PostgresSessionLock(Sessions<Postgres>);

impl PostgresSessionLock {
    /// A lock over this pool.
    pub fn new(pool: Pool) -> Self {
        Self(Sessions::new(pool.0))
    }
}

impl fmt::Debug for PostgresSessionLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresSessionLock").field("pool", self.0.pool()).finish_non_exhaustive()
    }
}

impl Lock for PostgresSessionLock {
    async fn try_acquire(&self, name: &str, ttl: Duration) -> Result<Attempt, Fault> {
        self.0.try_acquire(name, ttl).await
    }

    async fn acquire(&self, name: &str, ttl: Duration, deadline: Instant) -> Result<Lease, Fault> {
        self.0.acquire(name, ttl, deadline).await
    }
}

// CASE and AND over volatile functions are carried out from left to right, one by one: the token is
// drawn once the lock is held, and a session that was refused keeps its settings.
const TRY_LOCK: &str = "SELECT CASE \
    WHEN NOT pg_try_advisory_lock(hashtextextended($1, 0)) THEN NULL \
    WHEN set_config('idle_session_timeout', $2, false) IS NULL THEN NULL \
    ELSE nextval('cattleguard_fence') END";
// The timeout is for this statement's transaction, and is read when the wait begins.
const LOCK: &str = "SELECT CASE \
    WHEN set_config('lock_timeout', $3, true) IS NULL THEN NULL \
    WHEN pg_advisory_lock(hashtextextended($1, 0)) IS NULL THEN NULL \
    WHEN set_config('idle_session_timeout', $2, false) IS NULL THEN NULL \
    ELSE nextval('cattleguard_fence') END";
const RENEW: &str = "SELECT set_config('idle_session_timeout', $1, false)";
const UNLOCK: &str = "SELECT pg_advisory_unlock(hashtextextended($1, 0)), \
    set_config('idle_session_timeout', '0', false)";

// A limit from the role or the database would end a wait, or a session in the pool. Of these settings
// those that this version has.
const SET_UP: &str = "SELECT set_config(name, '0', false) FROM pg_settings WHERE name IN \
    ('statement_timeout', 'transaction_timeout', 'lock_timeout', 'idle_session_timeout')";
// By itself: a server whose system cannot tell refuses, and then notices when it would answer.
const NOTICE_CLOSED: &str = "SELECT set_config('client_connection_check_interval', '500', false)";

/// The longest `lock_timeout`.
const MAX_WAIT: Duration = Duration::from_millis(i32::MAX as u64);

impl Locks for Postgres {
    async fn begin(connection: &mut Pooled<Self>) -> Result<(), Failure> {
        connection.execute(sqlx::query(SET_UP)).await?;
        match connection.row(sqlx::query(NOTICE_CLOSED)).await {
            Err(failure @ Failure::Server { .. }) if failure.kind() != FaultKind::Unreachable => {
                Ok(())
            }
            answer => answer.map(drop),
        }
    }

    async fn lock(
        connection: &mut Pooled<Self>,
        name: &str,
        ttl: Duration,
        wait: Option<Instant>,
    ) -> Result<Option<u64>, Failure> {
        match lock(connection, name, ttl, wait).await {
            Err(failure) if failure.is(MISSING) => {
                create_sequence(connection).await?;
                lock(connection, name, ttl, wait).await
            }
            answer => answer,
        }
    }

    async fn renew(connection: &mut Pooled<Self>, ttl: Duration) -> Result<(), Failure> {
        connection.row(sqlx::query(RENEW).bind(millis(ttl)?)).await.map(drop)
    }

    async fn unlock(connection: &mut Pooled<Self>, name: &str) -> Result<(), Failure> {
        connection.row(sqlx::query(UNLOCK).bind(name)).await?;
        Ok(())
    }
}

async fn lock(
    connection: &mut Pooled<Postgres>,
    name: &str,
    ttl: Duration,
    wait: Option<Instant>,
) -> Result<Option<u64>, Failure> {
    let ttl = millis(ttl)?;
    let answer = match wait {
        None => connection.row(sqlx::query(TRY_LOCK).bind(name).bind(&ttl)).await,
        Some(deadline) => {
            let rest = deadline.saturating_duration_since(Instant::now());
            let rest = millis(rest.min(MAX_WAIT))?;
            let statement = sqlx::query(LOCK).bind(name).bind(&ttl).bind(&rest);
            connection.row_until(statement, deadline + ANSWER_SLACK).await
        }
    };
    match answer {
        Ok(Some(row)) => {
            Ok(row.try_get::<Option<i64>, _>(0)?.and_then(|fence| fence.try_into().ok()))
        }
        Ok(None) => Ok(None),
        Err(failure) if failure.is(&["55P03"]) => Ok(None),
        Err(failure) => Err(failure),
    }
}
