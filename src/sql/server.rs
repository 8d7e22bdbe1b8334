use std::borrow::Cow;

use sqlx::{Database, Executor, error::DatabaseError};

use crate::FaultKind;

/// What differs between the servers.
pub(crate) trait Server: Database<Connection: for<'c> Runs<'c, Self>> {
    /// Makes a new connection fit for locks.
    fn set_up(
        connection: &mut Self::Connection,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    /// The server's code for an error. Never its words: they quote names.
    fn code(error: &dyn DatabaseError) -> Cow<'_, str>;

    /// What an error of this code means.
    fn kind(code: &str) -> FaultKind;
}

/// A connection that statements can be run on by reference; spelled out as a trait because the bound
/// is about the reference.
pub(crate) trait Runs<'c, DB: Database> {
    type Executor: Executor<'c, Database = DB>;

    fn executor(&'c mut self) -> Self::Executor;
}

impl<'c, DB: Database, C: 'c> Runs<'c, DB> for C
where
    &'c mut C: Executor<'c, Database = DB>,
{
    type Executor = &'c mut C;

    fn executor(&'c mut self) -> &'c mut C {
        self
    }
}
