//! What the locks make in the database, and its answers that they share.

use std::time::Duration;

use sqlx::Postgres;

use crate::sql::{Failure, Pooled};

/// Fencing tokens of all names: one sequence, so that they grow also when a name's row was deleted.
const CREATE_SEQUENCE: &str = "CREATE SEQUENCE IF NOT EXISTS cattleguard_fence";

/// What a statement says when the sequence or table is not there.
pub(super) const MISSING: &[&str] = &["42P01"];

/// Made on first use only: most users of a database may not create, and then it is there.
pub(super) async fn create_sequence(connection: &mut Pooled<Postgres>) -> Result<(), Failure> {
    already_there(connection.execute(sqlx::query(CREATE_SEQUENCE)).await.map(drop))
}

/// `IF NOT EXISTS` looks before it writes: two at once meet in the catalogue.
pub(super) fn already_there(created: Result<(), Failure>) -> Result<(), Failure> {
    match created {
        Err(failure) if failure.is(&["23505", "42P07", "42710"]) => Ok(()),
        created => created,
    }
}

/// Milliseconds for a server's setting, where zero would mean "never".
pub(super) fn millis(duration: Duration) -> Result<String, Failure> {
    let millis = duration.as_nanos().div_ceil(1_000_000).max(1);
    match i32::try_from(millis) {
        Ok(millis) => Ok(millis.to_string()),
        Err(_) => Err(Failure::config("the ttl is too long")),
    }
}
