//! The database that knows the truth: a real one, each load a real query.

use std::{ops::Range, sync::Arc, time::Duration};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sqlx::{
    Connection, PgConnection, PgPool, Row, SqlitePool,
    postgres::PgPoolOptions,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use crate::{
    error::Failure,
    report::{Load, Micros, now},
};

/// What is read and cached: about 250 bytes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Product {
    pub id: u32,
    pub version: u64,
    pub description: String,
}

/// Where the database is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Address {
    Sqlite(String),
    Postgres { url: String, table: String },
}

/// One process's connections to the database, and its record of the queries they ran.
#[derive(Clone)]
pub struct Origin {
    pool: Pool,
    load: Duration,
    loads: Arc<Mutex<Vec<Load>>>,
    /// From when to when it refuses queries for a row.
    refuses: Arc<Mutex<Range<Micros>>>,
}

#[derive(Clone)]
enum Pool {
    Sqlite(SqlitePool),
    Postgres(PgPool, String),
}

impl Address {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "sqlite",
            Self::Postgres { .. } => "postgres",
        }
    }

    /// Creates the table with rows `0..rows`, version 1.
    pub async fn fill(&self, rows: u32) -> Result<(), sqlx::Error> {
        let create = |table: &str| {
            format!(
                "CREATE TABLE {table} (id BIGINT PRIMARY KEY, description TEXT NOT NULL, \
                 version BIGINT NOT NULL)"
            )
        };
        let insert = |table: &str| {
            format!(
                "WITH RECURSIVE ids(id) AS (SELECT 0 UNION ALL SELECT id + 1 FROM ids WHERE id + 1 < {rows}) \
                 INSERT INTO {table} SELECT id, '{}', 1 FROM ids",
                "a product of the shop ".repeat(10)
            )
        };
        match self {
            Self::Sqlite(path) => {
                let pool = SqlitePoolOptions::new()
                    .connect_with(sqlite(path).create_if_missing(true))
                    .await?;
                sqlx::query(&create("product")).execute(&pool).await?;
                sqlx::query(&insert("product")).execute(&pool).await?;
                pool.close().await;
            }
            Self::Postgres { url, table } => {
                // Not a pool: it hides why it cannot connect.
                let connecting = tokio::time::timeout(CONNECT, PgConnection::connect(url));
                let mut connection = connecting.await.map_err(|_| sqlx::Error::PoolTimedOut)??;
                sqlx::query(&create(table)).execute(&mut connection).await?;
                sqlx::query(&insert(table)).execute(&mut connection).await?;
                connection.close().await?;
            }
        }
        Ok(())
    }

    /// Removes the table from a database that is not ours.
    pub async fn clear(&self) {
        if let Self::Postgres { url, table } = self
            && let Ok(mut connection) = PgConnection::connect(url).await
        {
            let _ = sqlx::query(&format!("DROP TABLE {table}")).execute(&mut connection).await;
        }
    }
}

const CONNECT: Duration = Duration::from_secs(5);
const QUEUE: Duration = Duration::from_secs(300);

impl Origin {
    /// Opens all connections, so that no round pays for them.
    pub async fn open(address: &Address, pool: u32, load: Duration) -> Result<Self, sqlx::Error> {
        let pool = match address {
            Address::Sqlite(path) => Pool::Sqlite(
                SqlitePoolOptions::new()
                    .min_connections(pool)
                    .max_connections(pool)
                    .acquire_timeout(QUEUE)
                    .test_before_acquire(false)
                    .connect_with(sqlite(path))
                    .await?,
            ),
            Address::Postgres { url, table } => Pool::Postgres(
                PgPoolOptions::new()
                    .min_connections(pool)
                    .max_connections(pool)
                    .acquire_timeout(QUEUE)
                    .test_before_acquire(false)
                    .connect(url)
                    .await?,
                table.clone(),
            ),
        };
        Ok(Self { pool, load, loads: Arc::default(), refuses: Arc::default() })
    }

    /// One query. It holds its connection for the whole load time, as a slow query does. The time does
    /// not come from the runtime's timer, which would round it up by a millisecond or two.
    pub async fn load(&self, id: u32) -> Result<Product, Failure> {
        let (description, version, begin): (String, i64, _) = match &self.pool {
            Pool::Sqlite(pool) => {
                let mut connection = pool.acquire().await?;
                let begin = now();
                let row = sqlx::query("SELECT description, version FROM product WHERE id = ?")
                    .bind(i64::from(id))
                    .fetch_one(&mut *connection)
                    .await?;
                let load = self.load;
                let slow = tokio::task::spawn_blocking(move || std::thread::sleep(load));
                slow.await.map_err(|_| sqlx::Error::WorkerCrashed)?;
                (row.try_get(0)?, row.try_get(1)?, begin)
            }
            Pool::Postgres(pool, table) => {
                let mut connection = pool.acquire().await?;
                let begin = now();
                // The row is read first, then the server sleeps: a slow query's answer is as old
                // as its beginning.
                let query = format!(
                    "WITH row AS MATERIALIZED (SELECT description, version FROM {table} WHERE id = $1) \
                     SELECT description, version, pg_sleep($2)::text FROM row"
                );
                let row = sqlx::query(&query)
                    .bind(i64::from(id))
                    .bind(self.load.as_secs_f64())
                    .fetch_one(&mut *connection)
                    .await?;
                (row.try_get(0)?, row.try_get(1)?, begin)
            }
        };
        self.loads.lock().push(Load { key: id, begin, end: now() });
        if self.refuses.lock().contains(&begin) {
            return Err("the database refuses".into());
        }
        Ok(Product { id, version: version.unsigned_abs(), description })
    }

    /// From when to when it refuses, after the time that a query takes.
    pub fn refuse(&self, when: Range<Micros>) {
        *self.refuses.lock() = when;
    }

    /// Changes a row; its new version.
    pub async fn update(&self, id: u32) -> Result<u64, sqlx::Error> {
        let set = |table: &str, id: &str| {
            format!("UPDATE {table} SET version = version + 1 WHERE id = {id} RETURNING version")
        };
        let id = i64::from(id);
        let version: i64 = match &self.pool {
            Pool::Sqlite(pool) => {
                let set = set("product", "?");
                sqlx::query(&set).bind(id).fetch_one(pool).await?.try_get(0)?
            }
            Pool::Postgres(pool, table) => {
                let set = set(table, "$1");
                sqlx::query(&set).bind(id).fetch_one(pool).await?.try_get(0)?
            }
        };
        Ok(version.unsigned_abs())
    }

    /// Every load since the last call.
    pub fn take_loads(&self) -> Vec<Load> {
        std::mem::take(&mut *self.loads.lock())
    }
}

fn sqlite(path: &str) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Off)
        .busy_timeout(Duration::from_secs(10))
}
