use std::{
    fmt::{self, Write},
    time::Duration,
};

use sqlx::{MySql, Row};
use tokio::time::Instant;

use super::pool::Pool;
use crate::{
    Fault,
    lock::{Attempt, Lease, Lock},
    sql::{
        ANSWER_SLACK, Failure, Pooled,
        session::{Locks, Sessions},
    },
};

/// A lock on MariaDB (10.5 or later) or MySQL (5.7 or later) that belongs to a session: `GET_LOCK`. Fast, and
/// fair.
///
/// - *Order*: waiters are served in the order of asking, by the server's queue.
/// - *Crash*: the name is free as soon as the server sees the connection closed, at once when a process
///   is killed. A holder that is frozen or cut off is ended by the server after its ttl, rounded up to
///   seconds (`wait_timeout`).
/// - *Loss*: if the connection is cut (the server restarts, an administrator kills it), the server
///   frees the name at once, and the holder notices at its next renewal: with [`Lease::keep_alive`] within
///   a third of the ttl. The fencing token tells the two apart. A renewal that is not answered within
///   the timeout ends the lease, too.
/// - *Connections*: one for each lease and one for each name that is waited for, of
///   [`Pool::max`].
/// - *Proxies*: none that shares a server's session between clients (ProxySQL's multiplexing, MaxScale's
///   read/write split): the lock belongs to the session.
/// - *Names*: the lock is on 160 bits of the name's SHA-256, on the whole server. Replicas and the
///   other nodes of a Galera cluster do not share it: all clients must ask the same node.
/// - *Fencing tokens* are the server's `UUID_SHORT()`: they grow over its restarts, but another server
///   that takes its place counts from its own `server_id`.
///
/// ```no_run
/// # async fn report() -> Result<(), cattleguard::Fault> {
/// use std::{fmt, time::Duration};
/// use cattleguard::{lock::Lock, mysql::{Pool, MysqlSessionLock}};
/// use tokio::time::Instant;
///
/// let lock = MysqlSessionLock::new(Pool::open("mysql://127.0.0.1/database")?);
/// let deadline = Instant::now() + Duration::from_secs(10);
/// let lease = lock.acquire("report", Duration::from_secs(30), deadline).await?;
/// lease.run(async { /* write the report */ }).await?;
/// lease.release().await?;
/// # Ok(()) }
/// ```
///
/// # Cancel safety
///
/// A dropped call closes its connection. The server looks for that once a second in a waiting
/// session; if the lock was granted meanwhile, it is freed at once.
///
/// # Errors
///
/// [`FaultKind::Config`](crate::FaultKind::Config) for a ttl over a year;
/// [`Timeout`](crate::FaultKind::Timeout) also when no connection is free.
#[derive(Clone)]
pub struct MysqlSessionLock(Sessions<MySql>);

impl MysqlSessionLock {
    /// A lock over this pool.
    pub fn new(pool: Pool) -> Self {
        Self(Sessions::new(pool.0))
    }
}

impl fmt::Debug for MysqlSessionLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MysqlSessionLock").field("pool", self.0.pool()).finish_non_exhaustive()
    }
}

impl Lock for MysqlSessionLock {
    async fn try_acquire(&self, name: &str, ttl: Duration) -> Result<Attempt, Fault> {
        self.0.try_acquire(name, ttl).await
    }

    async fn acquire(&self, name: &str, ttl: Duration, deadline: Instant) -> Result<Lease, Fault> {
        self.0.acquire(name, ttl, deadline).await
    }
}

/// The longest `wait_timeout`, and of a wait.
const YEAR: u64 = 31_536_000;

impl Locks for MySql {
    async fn begin(_: &mut Pooled<Self>) -> Result<(), Failure> {
        Ok(())
    }

    async fn lock(
        connection: &mut Pooled<Self>,
        name: &str,
        ttl: Duration,
        wait: Option<Instant>,
    ) -> Result<Option<u64>, Failure> {
        let seconds = whole_seconds(ttl)?;
        let (rest, until) = match wait {
            None => (Duration::ZERO, None),
            Some(deadline) => {
                let rest = deadline.saturating_duration_since(Instant::now());
                (rest.min(Duration::from_secs(YEAR)), Some(deadline + ANSWER_SLACK))
            }
        };
        // MySQL knows whole seconds only, and would round half a second down to no wait at all. There
        // the end of the wait is ours.
        let wait = format!(
            "IF(VERSION() LIKE '%MariaDB%', {:.6}, {})",
            rest.as_secs_f64(),
            self::seconds(rest)
        );
        let name = lock_name(name);
        // Two statements in one packet: prepared ones come one by one, and a setting is no part of a
        // SELECT. A session that was refused keeps its setting.
        let statement = format!(
            "SET SESSION wait_timeout = IF(GET_LOCK({name}, {wait}) = 1, {seconds}, @@GLOBAL.wait_timeout); \
             SELECT IF(IS_USED_LOCK({name}) = CONNECTION_ID(), UUID_SHORT(), NULL)"
        );
        let statement = sqlx::raw_sql(&statement);
        let answer = match until {
            None => connection.row(statement).await,
            Some(until) => connection.row_until(statement, until).await,
        };
        match answer {
            Ok(Some(row)) => Ok(row.try_get(0)?),
            Ok(None) => Ok(None),
            // The deadline, on MySQL.
            Err(Failure::Timeout) if until.is_some() => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    async fn renew(connection: &mut Pooled<Self>, ttl: Duration) -> Result<(), Failure> {
        let statement = format!("SET SESSION wait_timeout = {}", whole_seconds(ttl)?);
        connection.execute(sqlx::raw_sql(&statement)).await.map(drop)
    }

    async fn unlock(connection: &mut Pooled<Self>, _: &str) -> Result<(), Failure> {
        connection.execute(sqlx::query(UNLOCK)).await.map(drop)
    }
}

// All of the session's locks are the one, and the answer is a number.
const UNLOCK: &str = "SET SESSION wait_timeout = \
    IF(RELEASE_ALL_LOCKS() IS NULL, @@GLOBAL.wait_timeout, @@GLOBAL.wait_timeout)";

/// The expression for the lock's name: at most 64 characters, of which the server ignores the case.
fn lock_name(name: &str) -> String {
    let mut expression = String::with_capacity(44 + 2 * name.len());
    expression.push_str("CONCAT('cg:', LEFT(SHA2(x'");
    for byte in name.bytes() {
        // In hexadecimal, because this is not prepared: no name can end the literal.
        let _ = write!(expression, "{byte:02x}");
    }
    expression.push_str("', 256), 40))");
    expression
}

/// What `wait_timeout` can express.
fn whole_seconds(ttl: Duration) -> Result<u64, Failure> {
    match seconds(ttl).max(1) {
        seconds if seconds <= YEAR => Ok(seconds),
        _ => Err(Failure::config("the ttl is too long")),
    }
}

fn seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}
