use std::{borrow::Cow, fmt, time::Duration};

use sqlx::{
    PgConnection, Postgres,
    error::DatabaseError,
    postgres::{PgConnectOptions, PgDatabaseError},
};

use crate::{
    Fault, FaultKind,
    sql::{self, Failure, Server},
};

/// A bounded set of connections to one PostgreSQL server. Clones share them.
///
/// Connections are made when they are needed, and kept. One that the server has closed meanwhile is noticed
/// at its next use, and replaced. Nagle's algorithm is off.
///
/// ```no_run
/// # fn connect() -> Result<(), cattleguard::Fault> {
/// use cattleguard::postgres::{Pool, PostgresSessionLock};
///
/// let pool = Pool::open("postgres://user:password@127.0.0.1/database")?.max(16);
/// let lock = PostgresSessionLock::new(pool);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Pool(pub(super) sql::Pool<Postgres>);

impl Pool {
    /// A pool of connections to the server of this URL, `postgres://[user[:password]@]host[:port]/database`,
    /// with the parameters that sqlx knows. Does not connect yet.
    ///
    /// TLS needs one of sqlx's `tls-*` features in the program.
    ///
    /// # Errors
    ///
    /// [`FaultKind::Config`] for a URL that cannot be used.
    pub fn open(url: &str) -> Result<Self, Fault> {
        match url.parse() {
            Ok(options) => Ok(Self::with(options)),
            // Without the cause, which may quote the URL.
            Err(_) => Err(Failure::config("the URL cannot be used").into()),
        }
    }

    /// A pool of connections with these options; otherwise as [`open`](Self::open). Statements are not logged.
    pub fn with(options: PgConnectOptions) -> Self {
        Self(sql::Pool::new(options))
    }

    /// How many connections there may be. Default 32, at least one. Raise it with the number of leases held
    /// at a time. A
    /// [`PostgresSessionLock`](crate::postgres::PostgresSessionLock) needs one for every lease it holds and for every
    /// name it waits for.
    pub fn max(self, max: usize) -> Self {
        Self(self.0.max(max))
    }

    /// How long connecting may take, and each statement, not counting its wait for a lock. Default 1 s; shorten it where leases are renewed more often than that. A statement that took longer may
    /// have been carried out.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self(self.0.within(timeout))
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Server for Postgres {
    async fn set_up(_: &mut PgConnection) -> Result<(), sqlx::Error> {
        // Nothing: behind a proxy that pools transactions a setting would stay with some other
        // client's session.
        Ok(())
    }

    fn code(error: &dyn DatabaseError) -> Cow<'_, str> {
        error.downcast_ref::<PgDatabaseError>().code().into()
    }

    fn kind(code: &str) -> FaultKind {
        match code.get(..2) {
            // Connection exceptions; ended or not yet begun by the server.
            Some("08") => FaultKind::Unreachable,
            Some("57") if code.starts_with("57P") => FaultKind::Unreachable,
            // A name with a zero byte, or too long for an index.
            Some("22" | "54") => FaultKind::Config,
            _ => FaultKind::Refused,
        }
    }
}
