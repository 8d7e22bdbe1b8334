use std::{error, fmt, io};

use super::server::Server;
use crate::{Fault, FaultKind};

/// Why a statement has no answer that can be used. Shows no names, no address and no password.
#[derive(Debug)]
pub(crate) enum Failure {
    /// No answer in time, or no connection was free.
    Timeout,
    /// The connection was given up earlier.
    Closed,
    /// The connection cannot be made, or broke.
    Broken(io::Error),
    /// The server's answer is an error.
    Server {
        code: String,
        kind: FaultKind,
    },
    Driver {
        why: &'static str,
        kind: FaultKind,
    },
}

impl Failure {
    pub(crate) fn of<DB: Server>(error: sqlx::Error) -> Self {
        use sqlx::Error as Sql;
        match error {
            Sql::Io(error) => Self::Broken(error),
            Sql::Database(error) => {
                let code = DB::code(&*error).into_owned();
                Self::Server { kind: DB::kind(&code), code }
            }
            Sql::Configuration(_) => Self::config("the URL cannot be used"),
            Sql::Tls(_) => Self::Driver { why: "no TLS connection", kind: FaultKind::Unreachable },
            Sql::Protocol(_) => {
                Self::Driver { why: "an answer broke the protocol", kind: FaultKind::Unreachable }
            }
            _ => Self::Driver { why: "an answer of another shape", kind: FaultKind::Refused },
        }
    }

    pub(crate) fn config(why: &'static str) -> Self {
        Self::Driver { why, kind: FaultKind::Config }
    }

    pub(crate) fn kind(&self) -> FaultKind {
        match self {
            Self::Timeout => FaultKind::Timeout,
            Self::Closed | Self::Broken(_) => FaultKind::Unreachable,
            Self::Server { kind, .. } | Self::Driver { kind, .. } => *kind,
        }
    }

    /// Whether this is the server's answer of one of these codes.
    pub(crate) fn is(&self, codes: &[&str]) -> bool {
        matches!(self, Self::Server { code, .. } if codes.contains(&code.as_str()))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("no answer, or no free connection, in time"),
            Self::Closed => f.write_str("the connection was closed"),
            Self::Broken(_) => f.write_str("the connection failed"),
            Self::Server { code, .. } => write!(f, "the server answered with error {code}"),
            Self::Driver { why, .. } => f.write_str(why),
        }
    }
}

impl error::Error for Failure {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Broken(error) => Some(error),
            _ => None,
        }
    }
}

impl From<sqlx::Error> for Failure {
    /// For what is no answer of the server: a column of another type.
    fn from(_: sqlx::Error) -> Self {
        Self::Driver { why: "an answer of another shape", kind: FaultKind::Refused }
    }
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        Self::new(failure.kind(), failure)
    }
}
