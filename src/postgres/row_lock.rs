use std::{
    fmt::{self, Write},
    time::Duration,
};

use sqlx::{Postgres, Row, postgres::PgRow};
use tokio::time::Instant;

use super::{
    channel::{CHANNEL, message},
    pool::Pool,
    schema::{MISSING, already_there, create_sequence},
    waiting::Waiter,
    wakeups::Wakeups,
};
use crate::{
    Fault,
    lock::{Attempt, Lease, Lock},
    sql::{
        Failure, Pooled,
        row::{LOST_RACE, RowLocks, Rows, Taken},
    },
    token::Token,
};

/// A lock on PostgreSQL that is a row in a table: who holds the name until when, by the server's clock.
///
/// - *Order*: none. A release notifies one waiter of each process, and the first to ask is granted the name.
/// - *Crash*: the name is free after the ttl of a holder that is killed, frozen or cut off.
/// - *Loss*: a lease outlives its connection, and the server's restart.
/// - *Connections*: none for a lease, one for each call while it lasts; and one for each `PostgresRowLock` that
///   has had to wait, which listens for releases (`LISTEN cattleguard_lock`). While that is down,
///   waiters poll.
/// - *Proxies*: one that pools transactions needs prepared statements turned on (PgBouncer 1.21,
///   `max_prepared_statements`), and has waiters poll: it cannot listen.
/// - *Durability*: two commits a cycle. Over connections with `synchronous_commit = off`, or on an
///   `UNLOGGED` table, it is twice as fast, and a crash of the server frees leases that are still
///   valid. The fencing tokens grow all the same on an `UNLOGGED` table; without synchronous commit
///   they may not. A promoted standby is like a crash unless it replicates synchronously.
/// - *Names* are kept as they are, up to 2 kB.
///
/// The table is created by [`create_table`](Self::create_table), or by hand:
///
/// ```sql
/// CREATE TABLE cattleguard_lock ( -- or CREATE UNLOGGED TABLE
///     name text COLLATE "C" PRIMARY KEY,
///     token bytea NOT NULL,
///     fence bigint NOT NULL,
///     expires_at timestamptz NOT NULL
/// ) WITH (fillfactor = 50);
/// CREATE SEQUENCE cattleguard_fence;
/// -- for the service: SELECT, INSERT, UPDATE, DELETE on the table, USAGE on the sequence
/// ```
///
/// A row is deleted a day after its last use, by any process, some at a time.
///
/// ```no_run
/// # async fn report() -> Result<(), cattleguard::Fault> {
/// use std::{fmt, time::Duration};
/// use cattleguard::{lock::Lock, postgres::{Pool, PostgresRowLock}};
/// use tokio::time::Instant;
///
/// let lock = PostgresRowLock::new(Pool::open("postgres://127.0.0.1/database")?);
/// lock.create_table().await?;
/// let deadline = Instant::now() + Duration::from_secs(10);
/// let lease = lock.acquire("report", Duration::from_secs(30), deadline).await?;
/// lease.run(async { /* write the report */ }).await?;
/// lease.release().await?;
/// # Ok(()) }
/// ```
///
/// # Cancel safety
///
/// A dropped call continues in the background for as long as its statement takes, and frees what it was
/// granted.
///
/// # Errors
///
/// [`Refused`](crate::FaultKind::Refused) also when the table does not exist,
/// [`Config`](crate::FaultKind::Config) for a name with a zero byte or too long;
/// [`Timeout`](crate::FaultKind::Timeout) also when no connection is free.
#[derive(Clone)]
pub struct PostgresRowLock(pub(super) RowLocks<Table>);

impl PostgresRowLock {
    /// A lock over this pool, in the table `cattleguard_lock`.
    pub fn new(pool: Pool) -> Self {
        Self::in_table(pool, "cattleguard_lock")
    }

    /// A lock in a table of another name, perhaps with its schema: `schema.table`. Upper case matters.
    pub fn in_table(pool: Pool, table: &str) -> Self {
        let wakeups = Wakeups::new(&pool);
        let table = Table { statements: Statements::new(table), wakeups };
        Self(RowLocks::new(table, pool.0))
    }

    /// Creates the table, and the sequence for the fencing tokens, if they do not exist.
    ///
    /// # Cancel safety
    ///
    /// What was created stays; call it again.
    ///
    /// # Errors
    ///
    /// [`Refused`](crate::FaultKind::Refused) without the permission to create, or the reason why the server
    /// cannot be asked.
    pub async fn create_table(&self) -> Result<(), Fault> {
        let pool = self.0.pool();
        let mut connection = pool.get(Instant::now() + pool.timeout()).await?;
        let create = sqlx::query(&self.0.rows().statements.create);
        already_there(connection.execute(create).await.map(drop))?;
        Ok(create_sequence(&mut connection).await?)
    }
}

impl fmt::Debug for PostgresRowLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresRowLock").field("pool", self.0.pool()).finish_non_exhaustive()
    }
}

impl Lock for PostgresRowLock {
    async fn try_acquire(&self, name: &str, ttl: Duration) -> Result<Attempt, Fault> {
        self.0.try_acquire(name, ttl).await
    }

    async fn acquire(&self, name: &str, ttl: Duration, deadline: Instant) -> Result<Lease, Fault> {
        self.0.acquire(name, ttl, deadline).await
    }
}

pub(super) struct Table {
    pub(super) statements: Statements,
    pub(super) wakeups: Wakeups,
}

pub(super) struct Statements {
    create: String,
    pub(super) take: String,
    renew: String,
    release: String,
    sweep: String,
}

impl Statements {
    fn new(table: &str) -> Self {
        let table = quoted(table);
        Self {
            create: format!(
                "CREATE TABLE IF NOT EXISTS {table} (name text COLLATE \"C\" PRIMARY KEY, \
                 token bytea NOT NULL, fence bigint NOT NULL, expires_at timestamptz NOT NULL) \
                 WITH (fillfactor = 50)"
            ),
            // `held` comes first, and by itself: an INSERT that finds the row held would have locked
            // it by then, which is written and must be flushed.
            // The conflict's token is drawn once the row is locked; the other serves a new row only.
            // A transaction of `lock_in`, which `held` cannot see, is met at the row, and its end is
            // waited for no longer than the `lock_timeout` of this statement.
            take: format!(
                "WITH held AS MATERIALIZED ( \
                     SELECT expires_at - clock_timestamp() AS rest FROM {table} \
                     WHERE name = $1 AND token <> $2 AND expires_at > clock_timestamp()), \
                 granted AS ( \
                     INSERT INTO {table} AS lock (name, token, fence, expires_at) \
                     SELECT $1, $2, nextval('cattleguard_fence'), \
                         clock_timestamp() + $3::float8 * interval '1 second' \
                     WHERE NOT EXISTS (SELECT FROM held) \
                         AND set_config('lock_timeout', $4, true) IS NOT NULL \
                     ON CONFLICT (name) DO UPDATE SET token = excluded.token, \
                         fence = nextval('cattleguard_fence'), \
                         expires_at = clock_timestamp() + $3::float8 * interval '1 second' \
                     WHERE lock.expires_at <= clock_timestamp() OR lock.token = excluded.token \
                     RETURNING fence) \
                 SELECT (SELECT fence FROM granted), \
                     (SELECT extract(epoch FROM rest)::float8 FROM held)"
            ),
            renew: format!(
                "UPDATE {table} SET expires_at = clock_timestamp() + $3::float8 * interval '1 second' \
                 WHERE name = $1 AND token = $2 AND expires_at > clock_timestamp()"
            ),
            release: format!(
                "WITH released AS (UPDATE {table} SET expires_at = clock_timestamp() \
                     WHERE name = $1 AND token = $2 RETURNING true) \
                 SELECT pg_notify('{CHANNEL}', $3) FROM released"
            ),
            sweep: format!(
                "DELETE FROM {table} WHERE name = ANY (ARRAY( \
                     SELECT name FROM {table} \
                     WHERE expires_at < clock_timestamp() - interval '1 day' \
                     LIMIT 1000 FOR UPDATE SKIP LOCKED))"
            ),
        }
    }
}

/// How long an attempt waits for a row that is locked, in milliseconds: longer than the commit of a new row
/// takes. A row that is locked for longer belongs to a transaction.
const ROW_LOCKED: &str = "20";
/// When to try again for a row that belongs to a transaction.
const IN_TRANSACTION: Duration = Duration::from_millis(100);

impl Rows for Table {
    type Db = Postgres;
    type Wait = Waiter;

    async fn take(
        &self,
        connection: &mut Pooled<Postgres>,
        name: &str,
        token: &Token,
        ttl: Duration,
    ) -> Result<Taken, Failure> {
        let take = || {
            let take = sqlx::query(&self.statements.take).bind(name).bind(&token.as_bytes()[..]);
            take.bind(ttl.as_secs_f64()).bind(ROW_LOCKED)
        };
        let mut answer = connection.row(take()).await;
        if answer.as_ref().is_err_and(|failure| failure.is(MISSING)) {
            create_sequence(connection).await?;
            answer = connection.row(take()).await;
        }
        taken(answer)
    }

    async fn renew(
        &self,
        connection: &mut Pooled<Postgres>,
        name: &str,
        token: &Token,
        ttl: Duration,
    ) -> Result<bool, Failure> {
        let renew = sqlx::query(&self.statements.renew).bind(name).bind(&token.as_bytes()[..]);
        Ok(connection.execute(renew.bind(ttl.as_secs_f64())).await?.rows_affected() > 0)
    }

    async fn release(
        &self,
        connection: &mut Pooled<Postgres>,
        name: &str,
        token: &Token,
    ) -> Result<(), Failure> {
        let release = sqlx::query(&self.statements.release).bind(name).bind(&token.as_bytes()[..]);
        connection.row(release.bind(message(name).to_string())).await.map(drop)
    }

    async fn sweep(&self, connection: &mut Pooled<Postgres>) -> Result<(), Failure> {
        connection.execute(sqlx::query(&self.statements.sweep)).await.map(drop)
    }

    async fn wait(&self, name: &str, deadline: Instant) -> Waiter {
        self.wakeups.wait(name, deadline).await
    }
}

pub(super) fn taken(answer: Result<Option<PgRow>, Failure>) -> Result<Taken, Failure> {
    let row = match answer {
        Ok(row) => row,
        // A transaction has the row.
        Err(failure) if failure.is(&["55P03"]) => {
            return Ok(Taken::Held { remaining: IN_TRANSACTION });
        }
        // Of two at once the other was first, where the database's isolation is stricter than usual.
        Err(failure) if failure.is(&["40001", "40P01"]) => {
            return Ok(Taken::Held { remaining: LOST_RACE });
        }
        Err(failure) => return Err(failure),
    };
    let (mut fence, mut rest) = (None, None);
    if let Some(row) = row {
        fence = row.try_get::<Option<i64>, _>(0)?;
        rest = row.try_get::<Option<f64>, _>(1)?;
    }
    Ok(match fence.and_then(|fence| fence.try_into().ok()) {
        Some(fence) => Taken::Granted(fence),
        None => {
            let rest = rest.and_then(|rest| Duration::try_from_secs_f64(rest).ok());
            Taken::Held { remaining: rest.unwrap_or_default().max(LOST_RACE) }
        }
    })
}

/// `schema.table`, each part an identifier.
fn quoted(table: &str) -> String {
    let mut quoted = String::with_capacity(table.len() + 8);
    for part in table.split('.') {
        let dot = if quoted.is_empty() { "" } else { "." };
        let _ = write!(quoted, "{dot}\"{}\"", part.replace('"', "\"\""));
    }
    quoted
}
