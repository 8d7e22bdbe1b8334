use std::{
    fmt::{self, Write},
    time::Duration,
};

use sqlx::{MySql, Row};
use tokio::time::Instant;

use super::pool::Pool;
use crate::{
    Fault,
    backoff::Backoff,
    lock::{Attempt, Lease, Lock},
    sql::{
        Failure, Pooled,
        row::{LOST_RACE, POLLING, RowLocks, Rows, Taken, Wait},
    },
    token::Token,
};

/// A lock on MariaDB or MySQL that is a row in a table: who holds the name until when, by the server's
/// clock.
///
/// - *Order*: none. Waiters of different processes try again every 3 to 50 ms, and the first that finds the name
///   free is granted it; those of one process are served in turn.
/// - *Crash*: the name is free after the ttl of a holder that is killed, frozen or cut off.
/// - *Loss*: a lease outlives its connection, and the server's restart.
/// - *Connections*: none for a lease, one for each call while it lasts.
/// - *Proxies*: any that sends reads and writes to the same server.
/// - *Durability*: two commits a cycle. With `innodb_flush_log_at_trx_commit = 2`, a crash of the server's
///   machine frees leases that are still valid, as may a promoted replica.
/// - *Names* are kept as they are, up to 512 bytes.
/// - *Fencing tokens* are the server's `UUID_SHORT()`, or one more than the row's where that is greater.
///   They grow over restarts of the server and for a row that is there.
///
/// The table is created by [`create_table`](Self::create_table), or by hand:
///
/// ```sql
/// CREATE TABLE cattleguard_lock (
///     name VARBINARY(512) PRIMARY KEY,
///     token BINARY(16) NOT NULL,
///     fence BIGINT UNSIGNED NOT NULL,
///     expires_at DATETIME(6) NOT NULL
/// ) ENGINE = InnoDB;
/// -- for the service: SELECT, INSERT, UPDATE, DELETE on the table
/// ```
///
/// A row is deleted a day after its last use, by any process, some at a time.
///
/// ```no_run
/// # async fn report() -> Result<(), cattleguard::Fault> {
/// use std::{fmt, time::Duration};
/// use cattleguard::{lock::Lock, mysql::{Pool, MysqlRowLock}};
/// use tokio::time::Instant;
///
/// let lock = MysqlRowLock::new(Pool::open("mysql://127.0.0.1/database")?);
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
/// [`FaultKind::Refused`](crate::FaultKind::Refused) also when the table does not exist,
/// [`Config`](crate::FaultKind::Config) for a name over 512 bytes;
/// [`Timeout`](crate::FaultKind::Timeout) also when no connection is free.
#[derive(Clone)]
pub struct MysqlRowLock(RowLocks<Table>);

impl MysqlRowLock {
    /// A lock over this pool, in the table `cattleguard_lock`.
    pub fn new(pool: Pool) -> Self {
        Self::in_table(pool, "cattleguard_lock")
    }

    /// A lock in a table of another name, perhaps with its database: `database.table`.
    pub fn in_table(pool: Pool, table: &str) -> Self {
        Self(RowLocks::new(Table::new(table), pool.0))
    }

    /// Creates the table if it does not exist.
    ///
    /// # Cancel safety
    ///
    /// Call it again.
    ///
    /// # Errors
    ///
    /// [`FaultKind::Refused`](crate::FaultKind::Refused) without the permission to create, or the reason why the
    /// server cannot be asked.
    pub async fn create_table(&self) -> Result<(), Fault> {
        let pool = self.0.pool();
        let mut connection = pool.get(Instant::now() + pool.timeout()).await?;
        connection.execute(sqlx::query(&self.0.rows().create)).await?;
        Ok(())
    }
}

impl fmt::Debug for MysqlRowLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MysqlRowLock").field("pool", self.0.pool()).finish_non_exhaustive()
    }
}

impl Lock for MysqlRowLock {
    async fn try_acquire(&self, name: &str, ttl: Duration) -> Result<Attempt, Fault> {
        self.0.try_acquire(name, ttl).await
    }

    async fn acquire(&self, name: &str, ttl: Duration, deadline: Instant) -> Result<Lease, Fault> {
        self.0.acquire(name, ttl, deadline).await
    }
}

/// The statements.
struct Table {
    create: String,
    take: String,
    rest: String,
    renew: String,
    release: String,
    sweep: String,
}

impl Table {
    fn new(table: &str) -> Self {
        let table = quoted(table);
        Self {
            create: format!(
                "CREATE TABLE IF NOT EXISTS {table} (name VARBINARY(512) PRIMARY KEY, \
                 token BINARY(16) NOT NULL, fence BIGINT UNSIGNED NOT NULL, \
                 expires_at DATETIME(6) NOT NULL) ENGINE = InnoDB"
            ),
            // Assignments are carried out in turn, each on the result of the last: the token's decides who
            // has the row, before the expiry's.
            // The fencing token comes with the answer as the last insert id, which saves asking for it:
            // MySQL has no RETURNING. It is 0 for a row that is another's, which stays as it is.
            take: format!(
                "INSERT INTO {table} (name, token, fence, expires_at) \
                 VALUES (?, ?, LAST_INSERT_ID(UUID_SHORT()), \
                     UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND) \
                 ON DUPLICATE KEY UPDATE \
                 token = IF(expires_at <= UTC_TIMESTAMP(6), VALUES(token), token), \
                 fence = IF(token = VALUES(token), \
                     LAST_INSERT_ID(GREATEST(fence + 1, UUID_SHORT())), \
                     fence + LAST_INSERT_ID(0)), \
                 expires_at = IF(token = VALUES(token), VALUES(expires_at), expires_at)"
            ),
            rest: format!(
                "SELECT TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), expires_at) \
                 FROM {table} WHERE name = ?"
            ),
            renew: format!(
                "UPDATE {table} SET expires_at = UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND \
                 WHERE name = ? AND token = ? AND expires_at > UTC_TIMESTAMP(6)"
            ),
            release: format!(
                "UPDATE {table} SET expires_at = UTC_TIMESTAMP(6) WHERE name = ? AND token = ?"
            ),
            // The isolation level of this one transaction: at a stricter one the search for candidates
            // would lock every row that it reads.
            sweep: format!(
                "SET TRANSACTION ISOLATION LEVEL READ COMMITTED; \
                 DELETE old FROM {table} AS old JOIN ( \
                     SELECT name FROM {table} \
                     WHERE expires_at < UTC_TIMESTAMP(6) - INTERVAL 1 DAY LIMIT 1000 \
                 ) AS candidates USING (name) \
                 WHERE old.expires_at < UTC_TIMESTAMP(6) - INTERVAL 1 DAY"
            ),
        }
    }
}

/// The column's length. A server that is not strict would truncate a longer name to that of another lock.
const MAX_NAME: usize = 512;

impl Rows for Table {
    type Db = MySql;
    type Wait = Backoff;

    async fn take(
        &self,
        connection: &mut Pooled<MySql>,
        name: &str,
        token: &Token,
        ttl: Duration,
    ) -> Result<Taken, Failure> {
        if name.len() > MAX_NAME {
            return Err(Failure::config("the name is too long"));
        }
        let take = sqlx::query(&self.take).bind(name.as_bytes()).bind(&token.as_bytes()[..]);
        match connection.execute(take.bind(micros(ttl)?)).await {
            Ok(done) if done.last_insert_id() > 0 => {
                return Ok(Taken::Granted(done.last_insert_id()));
            }
            Ok(_) => {}
            // Of two at once the other was first: a deadlock, or a stale snapshot.
            Err(failure) if failure.is(&["1213", "1020"]) => {}
            Err(failure) => return Err(failure),
        }
        let row = connection.row(sqlx::query(&self.rest).bind(name.as_bytes())).await?;
        let rest: Option<i64> = match row {
            Some(row) => row.try_get(0)?,
            None => None,
        };
        let rest = Duration::from_micros(rest.and_then(|rest| rest.try_into().ok()).unwrap_or(0));
        Ok(Taken::Held { remaining: rest.max(LOST_RACE) })
    }

    async fn renew(
        &self,
        connection: &mut Pooled<MySql>,
        name: &str,
        token: &Token,
        ttl: Duration,
    ) -> Result<bool, Failure> {
        let renew = sqlx::query(&self.renew).bind(micros(ttl)?).bind(name.as_bytes());
        // The driver has the server count the rows that were found, changed or not.
        Ok(connection.execute(renew.bind(&token.as_bytes()[..])).await?.rows_affected() > 0)
    }

    async fn release(
        &self,
        connection: &mut Pooled<MySql>,
        name: &str,
        token: &Token,
    ) -> Result<(), Failure> {
        let release = sqlx::query(&self.release).bind(name.as_bytes());
        connection.execute(release.bind(&token.as_bytes()[..])).await.map(drop)
    }

    async fn sweep(&self, connection: &mut Pooled<MySql>) -> Result<(), Failure> {
        connection.execute(sqlx::raw_sql(&self.sweep)).await.map(drop)
    }

    async fn wait(&self, _: &str, _: Instant) -> Backoff {
        let mut wait = POLLING;
        wait.pause(Duration::MAX).await;
        wait
    }
}

fn micros(ttl: Duration) -> Result<i64, Failure> {
    ttl.as_micros().try_into().map_err(|_| Failure::config("the ttl is too long"))
}

/// `database.table`, each part an identifier.
fn quoted(table: &str) -> String {
    let mut quoted = String::with_capacity(table.len() + 8);
    for part in table.split('.') {
        let dot = if quoted.is_empty() { "" } else { "." };
        let _ = write!(quoted, "{dot}`{}`", part.replace('`', "``"));
    }
    quoted
}
