//! The database of a run.

use crate::{
    args::{Args, OriginArg},
    console,
    error::Error,
    origin::Address,
    servers,
};

/// Filled with rows of version 1. A private server stops when this is dropped.
pub struct Database {
    pub origin: Address,
    is_theirs: bool,
    _postgres: Option<servers::Postgres>,
    _folder: tempfile::TempDir,
}

impl Database {
    pub async fn prepare(args: &Args, rows: u32) -> Result<Self, Error> {
        let folder = tempfile::tempdir()?;
        let postgres = match args.origin {
            OriginArg::PrivatePostgres => {
                Some(servers::Postgres::start().map_err(Error::BadInput)?)
            }
            _ => None,
        };
        let url = match (&args.origin, &postgres) {
            (OriginArg::Postgres(url), _) => Some(url.clone()),
            (_, Some(postgres)) => Some(postgres.url()),
            _ => None,
        };
        let origin = match url {
            None => Address::Sqlite(folder.path().join("origin.db").to_string_lossy().into_owned()),
            Some(url) => Address::Postgres { url, table: format!("herd_{}", std::process::id()) },
        };
        let is_theirs = matches!(args.origin, OriginArg::Postgres(_));
        origin.fill(rows).await.map_err(|error| {
            let (why, advice) = (console::chain(&error), "; `--origin postgres` starts one");
            let advice = if is_theirs { advice } else { "" };
            Error::BadInput(format!("cannot use the database of --origin: {why}{advice}"))
        })?;
        Ok(Self { origin, is_theirs, _postgres: postgres, _folder: folder })
    }

    /// Leaves nothing in a database that is not ours.
    pub async fn clear(&self) {
        if self.is_theirs {
            self.origin.clear().await;
        }
    }
}
