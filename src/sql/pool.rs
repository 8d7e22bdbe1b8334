//! Database connections for locks, over both drivers.
//!
//! Not sqlx's own pool: that one pings the server when a connection is taken and when it is given back,
//! and a lock is two statements. This one does not ping. A connection goes back only after an answer to
//! its last statement, and is closed otherwise, so no cancelled statement is still running on it. One
//! that died in the pool is noticed by the next statement, which [`Pool::run`] repeats on a new one.

use std::{fmt, time::Duration};

use deadpool::managed::{
    self, Metrics, Object, PoolConfig, PoolError, QueueMode, RecycleResult, Timeouts,
};
use sqlx::{ConnectOptions as _, Database, Execute, Executor};
use tokio::time::{Instant, timeout_at};

use super::{
    failure::Failure,
    server::{Runs as _, Server},
};
use crate::FaultKind;

type Options<DB> = <<DB as Database>::Connection as sqlx::Connection>::Options;

/// A bounded set of connections, made when they are needed.
pub(crate) struct Pool<DB: Server> {
    options: Options<DB>,
    max: usize,
    timeout: Duration,
    managed: managed::Pool<Manager<DB>>,
}

const MAX: usize = 32;
const TIMEOUT: Duration = Duration::from_secs(1);

/// How long past its deadline the server's answer is waited for, before the connection is closed: a new
/// connection costs more.
pub(crate) const ANSWER_SLACK: Duration = Duration::from_millis(50);

impl<DB: Server> Pool<DB> {
    pub(crate) fn new(options: Options<DB>) -> Self {
        // A statement that waits for a lock is slow by design.
        let options = options.disable_statement_logging();
        Self { managed: pool(options.clone(), MAX), options, max: MAX, timeout: TIMEOUT }
    }

    pub(crate) fn max(mut self, max: usize) -> Self {
        self.max = max.max(1);
        self.managed = pool(self.options.clone(), self.max);
        self
    }

    pub(crate) fn within(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    #[cfg(feature = "postgres")] // For a connection that listens.
    pub(crate) fn options(&self) -> &Options<DB> {
        &self.options
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// A connection, as soon as one is free.
    pub(crate) async fn get(&self, until: Instant) -> Result<Pooled<DB>, Failure> {
        let timeouts = Timeouts { wait: None, create: Some(self.timeout), recycle: None };
        let object = match timeout_at(until, self.managed.timeout_get(&timeouts)).await {
            Ok(Ok(object)) => object,
            Ok(Err(PoolError::Backend(failure))) => return Err(failure),
            Ok(Err(_)) | Err(_) => return Err(Failure::Timeout),
        };
        let reused = Object::metrics(&object).recycle_count > 0;
        Ok(Pooled { object: Some(object), timeout: self.timeout, idle: true, reused })
    }

    /// Runs `statement` on a connection, and once more on a new one if the first had died in the pool.
    /// Waits for a connection until `until`. The statement gives the connection back with its answer.
    ///
    /// The statement may be carried out twice: the server may have received it before the connection broke.
    pub(crate) async fn run<T, S>(
        &self,
        until: Instant,
        statement: impl Fn(Pooled<DB>) -> S,
    ) -> Result<Answered<DB, T>, Failure>
    where
        S: Future<Output = (Pooled<DB>, Result<T, Failure>)>,
    {
        let (connection, asked) = (self.get(until).await?, Instant::now());
        let (connection, answer) = statement(connection).await;
        if !connection.had_died(&answer) {
            return Ok(Answered { answer: answer?, asked, connection });
        }
        // It makes room for the new one. The others in the pool are as old.
        drop(connection);
        drop(self.managed.retain(|_, _| false));
        let (connection, asked) = (self.get(until).await?, Instant::now());
        let (connection, answer) = statement(connection).await;
        Ok(Answered { answer: answer?, asked, connection })
    }
}

/// A statement's answer.
pub(crate) struct Answered<DB: Server, T> {
    pub(crate) answer: T,
    /// The moment before the server was asked.
    pub(crate) asked: Instant,
    /// The connection that it came over.
    pub(crate) connection: Pooled<DB>,
}

impl<DB: Server> Clone for Pool<DB> {
    fn clone(&self) -> Self {
        let (options, managed) = (self.options.clone(), self.managed.clone());
        Self { options, max: self.max, timeout: self.timeout, managed }
    }
}

impl<DB: Server> fmt::Debug for Pool<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut pool = f.debug_struct("Pool");
        pool.field("max", &self.max).field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

fn pool<DB: Server>(options: Options<DB>, max: usize) -> managed::Pool<Manager<DB>> {
    // The youngest first: it is the least likely to have died.
    let config = PoolConfig { queue_mode: QueueMode::Lifo, ..PoolConfig::new(max) };
    let pool = managed::Pool::builder(Manager { options })
        .config(config)
        .runtime(deadpool::Runtime::Tokio1);
    pool.build().expect("a pool with a runtime can be built")
}

/// A connection that is in use. Goes back to the pool when it is dropped, if it is fit for the next
/// caller.
pub(crate) struct Pooled<DB: Server> {
    /// `None` once closed.
    object: Option<Object<Manager<DB>>>,
    timeout: Duration,
    /// The last statement was answered.
    idle: bool,
    /// It comes from the pool, where it may have died.
    reused: bool,
}

/// A connection, and whether a session lock has made its settings.
pub(crate) struct Session<DB: Database> {
    connection: DB::Connection,
    set_up: bool,
}

impl<DB: Server> Pooled<DB> {
    /// The row that a statement answers with, within the statement timeout.
    pub(crate) async fn row<'q>(
        &mut self,
        statement: impl Execute<'q, DB> + 'q,
    ) -> Result<Option<DB::Row>, Failure> {
        self.row_until(statement, Instant::now() + self.timeout).await
    }

    /// The row that a statement answers with, which waits on the server's side.
    pub(crate) async fn row_until<'q>(
        &mut self,
        statement: impl Execute<'q, DB> + 'q,
        until: Instant,
    ) -> Result<Option<DB::Row>, Failure> {
        let connection = self.begin()?;
        let answer = timeout_at(until, connection.executor().fetch_optional(statement)).await;
        self.end(answer)
    }

    /// Runs a statement that answers with a count, within the statement timeout.
    pub(crate) async fn execute<'q>(
        &mut self,
        statement: impl Execute<'q, DB> + 'q,
    ) -> Result<DB::QueryResult, Failure> {
        let until = Instant::now() + self.timeout;
        let connection = self.begin()?;
        let answer = timeout_at(until, connection.executor().execute(statement)).await;
        self.end(answer)
    }

    /// Whether this is the first call of this method on this connection.
    pub(crate) fn is_new(&mut self) -> bool {
        self.object.as_mut().is_some_and(|session| !std::mem::replace(&mut session.set_up, true))
    }

    /// Whether an answer says no more than that the connection had died in the pool.
    fn had_died<T>(&self, answer: &Result<T, Failure>) -> bool {
        let unreachable = |failure: &Failure| failure.kind() == FaultKind::Unreachable;
        self.reused && answer.as_ref().is_err_and(unreachable)
    }

    /// Ends the server's session, now.
    pub(crate) fn close(&mut self) {
        // Not given back to the pool: dropping the connection closes the socket.
        drop(self.object.take().map(Object::take));
    }

    fn begin(&mut self) -> Result<&mut DB::Connection, Failure> {
        // Not before the answer: this call may be dropped.
        if !std::mem::replace(&mut self.idle, false) {
            self.close();
        }
        match &mut self.object {
            Some(session) => Ok(&mut session.connection),
            None => Err(Failure::Closed),
        }
    }

    fn end<T, E>(&mut self, answer: Result<Result<T, sqlx::Error>, E>) -> Result<T, Failure> {
        let answer = match answer {
            Ok(answer) => answer.map_err(Failure::of::<DB>),
            Err(_) => Err(Failure::Timeout),
        };
        self.idle = match &answer {
            Ok(_) => true,
            // Refused is an answer.
            Err(Failure::Server { kind, .. }) => *kind != FaultKind::Unreachable,
            Err(_) => false,
        };
        answer
    }
}

impl<DB: Server> Drop for Pooled<DB> {
    fn drop(&mut self) {
        if !self.idle {
            self.close();
        }
    }
}

struct Manager<DB: Server> {
    options: Options<DB>,
}

impl<DB: Server> managed::Manager for Manager<DB> {
    type Type = Session<DB>;
    type Error = Failure;

    async fn create(&self) -> Result<Session<DB>, Failure> {
        let mut connection = self.options.connect().await.map_err(Failure::of::<DB>)?;
        DB::set_up(&mut connection).await.map_err(Failure::of::<DB>)?;
        Ok(Session { connection, set_up: false })
    }

    async fn recycle(&self, _: &mut Session<DB>, _: &Metrics) -> RecycleResult<Failure> {
        Ok(())
    }
}
