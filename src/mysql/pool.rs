use std::{borrow::Cow, fmt, time::Duration};

use sqlx::{
    Executor, MySql, MySqlConnection,
    error::DatabaseError,
    mysql::{MySqlConnectOptions, MySqlDatabaseError},
};

use crate::{
    Fault, FaultKind,
    sql::{self, Failure, Server},
};

/// A bounded set of connections to one MariaDB or MySQL server. Clones share them.
///
/// Connections are made when they are needed, and kept. One that the server has closed meanwhile is noticed
/// at its next use, and replaced. Nagle's algorithm is off.
///
/// ```no_run
/// # fn connect() -> Result<(), cattleguard::Fault> {
/// use cattleguard::mysql::{Pool, MysqlSessionLock};
///
/// let pool = Pool::open("mysql://user:password@127.0.0.1/database")?.max(16);
/// let lock = MysqlSessionLock::new(pool);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Pool(pub(super) sql::Pool<MySql>);

impl Pool {
    /// A pool of connections to the server of this URL, `mysql://[user[:password]@]host[:port]/database`, with the
    /// parameters that sqlx knows. Does not connect yet.
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
    pub fn with(options: MySqlConnectOptions) -> Self {
        Self(sql::Pool::new(options))
    }

    /// How many connections there may be. Default 32, at least one. Raise it with the number of leases held
    /// at a time. A
    /// [`MysqlSessionLock`](crate::mysql::MysqlSessionLock) needs one for every lease it holds and for every name
    /// it waits for.
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

impl Server for MySql {
    async fn set_up(connection: &mut MySqlConnection) -> Result<(), sqlx::Error> {
        // A row lock that waits for a commit would hold its row for ever.
        connection.execute("SET autocommit = 1").await.map(drop)
    }

    fn code(error: &dyn DatabaseError) -> Cow<'_, str> {
        // Not the SQLSTATE, which is the same for most of them.
        error.downcast_ref::<MySqlDatabaseError>().number().to_string().into()
    }

    fn kind(code: &str) -> FaultKind {
        match code {
            // Shutdown, killed, idle for too long, and the errors of a connection.
            "1053" | "1927" | "4031" | "1152" | "1158" | "1159" | "1160" | "1161" | "1317" => {
                FaultKind::Unreachable
            }
            _ => FaultKind::Refused,
        }
    }
}
