//! The row lock for a transaction of the caller: the same statement as a lease's, inside a savepoint, so that
//! an attempt that fails leaves the transaction, and the row, as they were.

use std::time::Duration;

use sqlx::{Executor, PgConnection, Postgres, Row};
use tokio::time::{Instant, timeout_at};

use super::{
    channel::{CHANNEL, message},
    row_lock::{PostgresRowLock, Table, taken},
    schema::{MISSING, create_sequence, millis},
    waiting::Waiter,
};
use crate::{
    Fault, FaultKind,
    sql::{
        ANSWER_SLACK, Failure,
        row::{Taken, Wait},
    },
    token::Token,
};

impl PostgresRowLock {
    /// Acquires the lock on `name` for a transaction of the caller: waits until it is free, and holds it until
    /// the transaction ends. Returns the fencing token.
    ///
    /// It is the same lock: it waits for leases, and leases wait for it. It needs no renewal: the transaction
    /// ends it, which the server rolls back when its connection is lost. Needs the isolation
    /// level `READ COMMITTED` (the default), and the table in that transaction's database.
    ///
    /// ```no_run
    /// # async fn pay(lock: cattleguard::postgres::PostgresRowLock, mut connection: sqlx::PgConnection)
    /// # -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use sqlx::Connection;
    /// use tokio::time::Instant;
    ///
    /// let mut transaction = connection.begin().await?;
    /// let deadline = Instant::now() + Duration::from_secs(1);
    /// let fence = lock.lock_in(&mut transaction, "account", deadline).await?;
    /// // … what must not be done twice at a time …
    /// transaction.commit().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, the transaction may hold the lock, and may have an open savepoint
    /// `cattleguard`: roll it back.
    ///
    /// # Errors
    ///
    /// [`FaultKind::Held`] at the deadline, and the transaction is as before; [`FaultKind::Refused`]
    /// outside of a transaction. After [`FaultKind::Timeout`] and [`FaultKind::Unreachable`] roll it back.
    pub async fn lock_in(
        &self,
        transaction: &mut PgConnection,
        name: &str,
        deadline: Instant,
    ) -> Result<u64, Fault> {
        let _turn = self.0.queue().turn(name, deadline).await?;
        let table = self.0.rows();
        let mut wait: Option<Waiter> = None;
        loop {
            if let Some(wait) = &mut wait {
                wait.mark();
            }
            let remaining = match table.take_in(transaction, name, deadline).await {
                Ok(Taken::Granted(fence)) => return Ok(fence),
                Ok(Taken::Held { remaining }) => remaining,
                Err(failure) if failure.is(MISSING) && wait.is_none() => {
                    // Not in the caller's transaction, which may be long.
                    let mut connection = self.0.pool().get(deadline).await?;
                    create_sequence(&mut connection).await?;
                    Duration::ZERO
                }
                Err(failure) => return Err(failure.into()),
            };
            let pause = async {
                match &mut wait {
                    Some(wait) => wait.pause(remaining).await,
                    none => none.insert(table.wakeups.wait(name, deadline).await).mark(),
                }
            };
            if timeout_at(deadline, pause).await.is_err() {
                return Err(FaultKind::Held.into());
            }
        }
    }
}

impl Table {
    /// One attempt inside of a transaction, which is as before unless it was granted.
    ///
    /// The row is written as one that has expired: what keeps others away is its lock, and with the
    /// commit it is free. The message about that is sent by the commit.
    async fn take_in(
        &self,
        transaction: &mut PgConnection,
        name: &str,
        deadline: Instant,
    ) -> Result<Taken, Failure> {
        let until = deadline + ANSWER_SLACK;
        let rest =
            deadline.saturating_duration_since(Instant::now()).min(Duration::from_secs(3600));
        let (token, rest) = (Token::random(), millis(rest)?);
        let begin = "SAVEPOINT cattleguard; SELECT current_setting('lock_timeout')";
        let begin = transaction.fetch_one(begin);
        let lock_timeout: String = within(until, begin).await?.try_get(0)?;

        let take = sqlx::query(&self.statements.take).bind(name).bind(&token.as_bytes()[..]);
        let take = take.bind(0.0_f64).bind(&rest).fetch_optional(&mut *transaction);
        let answer = taken(within(until, take).await);
        let end = match &answer {
            Ok(Taken::Granted(_)) => format!(
                "RELEASE SAVEPOINT cattleguard; SELECT pg_notify('{CHANNEL}', '{}'), \
                 set_config('lock_timeout', '{lock_timeout}', true)",
                message(name)
            ),
            // Also a row that was locked on the way to finding it held is let go.
            Ok(Taken::Held { .. }) | Err(Failure::Server { .. }) => {
                "ROLLBACK TO SAVEPOINT cattleguard; RELEASE SAVEPOINT cattleguard".into()
            }
            Err(_) => return answer,
        };
        within(until, transaction.execute(end.as_str())).await?;
        answer
    }
}

async fn within<T>(
    until: Instant,
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, Failure> {
    match timeout_at(until, work).await {
        Ok(done) => done.map_err(Failure::of::<Postgres>),
        Err(_) => Err(Failure::Timeout),
    }
}
