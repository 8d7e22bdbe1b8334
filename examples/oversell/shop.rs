//! The shop: its tables, and the ways to sell a piece.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sqlx::{Connection, PgConnection, PgPool, postgres::PgPoolOptions};

use crate::lock::Kind;

/// How a piece is sold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Method {
    /// Read, decide, write back.
    Unlocked,
    /// The same while holding a lock.
    Locked(Kind),
    /// The same in a transaction that locks the row as it reads it.
    ForUpdate,
    /// One statement that takes only what is there.
    Atomic,
}

impl Method {
    pub fn name(self) -> String {
        match self {
            Self::Unlocked => "no lock".to_owned(),
            Self::Locked(kind) => format!("{} lock", kind.name()),
            Self::ForUpdate => "SELECT … FOR UPDATE".to_owned(),
            Self::Atomic => "UPDATE … WHERE stock >= n".to_owned(),
        }
    }

    pub fn kind(self) -> Option<Kind> {
        match self {
            Self::Locked(kind) => Some(kind),
            _ => None,
        }
    }
}

/// What a buyer goes home with.
pub enum Purchase {
    Sold,
    SoldOut,
}

/// What is true when the shop has closed.
#[derive(Clone, Copy)]
pub struct Books {
    pub stock: i64,
    /// Promised to buyers: one row each, whatever the product's own count says.
    pub sold: i64,
    /// What remains by the shop's own count.
    pub left: i64,
}

impl Books {
    pub fn oversold(&self) -> i64 {
        (self.sold - self.stock).max(0)
    }
}

const CONNECT: Duration = Duration::from_secs(5);
const QUEUE: Duration = Duration::from_secs(300);

/// Every purchase is of one piece.
const N: i32 = 1;

/// Writes the stock back and notes the sale: one statement, so that neither is there without the other.
const WRITE_BACK: &str =
    "WITH noted AS (INSERT INTO sale VALUES ($2)) UPDATE product SET stock = $1";

/// One process's connections to the shop.
#[derive(Clone)]
pub struct Shop {
    pool: PgPool,
}

impl Shop {
    /// Opens all connections, so that no purchase pays for them.
    pub async fn open(url: &str, pool: u32) -> Result<Self, sqlx::Error> {
        let options = PgPoolOptions::new()
            .min_connections(pool)
            .max_connections(pool)
            .acquire_timeout(QUEUE)
            .test_before_acquire(false);
        Ok(Self { pool: options.connect(url).await? })
    }

    pub async fn restock(&self, stock: u32) -> Result<(), sqlx::Error> {
        sqlx::query("TRUNCATE sale").execute(&self.pool).await?;
        let fill = sqlx::query("UPDATE product SET stock = $1").bind(i64::from(stock));
        fill.execute(&self.pool).await.map(drop)
    }

    pub async fn books(&self, stock: u32) -> Result<Books, sqlx::Error> {
        let query =
            "SELECT (SELECT coalesce(sum(pieces), 0) FROM sale), stock::bigint FROM product";
        let (sold, left) = sqlx::query_as(query).fetch_one(&self.pool).await?;
        Ok(Books { stock: i64::from(stock), sold, left })
    }

    /// What most people write first. Right as long as no other buyer is between its two statements.
    pub async fn read_then_write(&self, decide: Duration) -> Result<Purchase, sqlx::Error> {
        let read = sqlx::query_scalar("SELECT stock FROM product");
        let stock: i32 = read.fetch_one(&self.pool).await?;
        if stock < N {
            return Ok(Purchase::SoldOut);
        }
        tokio::time::sleep(decide).await;
        sqlx::query(WRITE_BACK).bind(stock - N).bind(N).execute(&self.pool).await?;
        Ok(Purchase::Sold)
    }

    /// The database as the lock: the row is the transaction's until it ends, and so is a connection.
    pub async fn for_update(&self, decide: Duration) -> Result<Purchase, sqlx::Error> {
        let mut transaction = self.pool.begin().await?;
        let read = sqlx::query_scalar("SELECT stock FROM product FOR UPDATE");
        let stock: i32 = read.fetch_one(&mut *transaction).await?;
        if stock < N {
            return Ok(Purchase::SoldOut);
        }
        tokio::time::sleep(decide).await;
        sqlx::query(WRITE_BACK).bind(stock - N).bind(N).execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(Purchase::Sold)
    }

    /// Without our locks: the decision rests on nothing read before, which could be outdated at the write.
    pub async fn atomic(&self, decide: Duration) -> Result<Purchase, sqlx::Error> {
        tokio::time::sleep(decide).await;
        let take = "WITH taken AS (\
            UPDATE product SET stock = stock - $1 WHERE stock >= $1 RETURNING 1\
            ) INSERT INTO sale SELECT $1 FROM taken";
        let taken = sqlx::query(take).bind(N).execute(&self.pool).await?.rows_affected();
        Ok(if taken == 0 { Purchase::SoldOut } else { Purchase::Sold })
    }

    /// Sends the mail of the day unless it was sent.
    pub async fn send_mail(&self, takes: Duration) -> Result<(), sqlx::Error> {
        let sent = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM mail)");
        if sent.fetch_one(&self.pool).await? {
            return Ok(());
        }
        tokio::time::sleep(takes).await;
        sqlx::query("INSERT INTO mail VALUES (now())").execute(&self.pool).await.map(drop)
    }

    pub async fn mails(&self) -> Result<i64, sqlx::Error> {
        sqlx::query_scalar("SELECT count(*) FROM mail").fetch_one(&self.pool).await
    }

    /// Writes the price as the holder of a lock with this fencing token, which the row does not ask for.
    pub async fn write_price(&self, price: i32) -> Result<(), sqlx::Error> {
        let write = sqlx::query("UPDATE product SET price = $1").bind(price);
        write.execute(&self.pool).await.map(drop)
    }

    /// Writes the price unless the row has seen a newer holder of the lock. Whether it was written.
    pub async fn write_price_fenced(&self, price: i32, fence: u64) -> Result<bool, sqlx::Error> {
        let write = "UPDATE product SET price = $1, fence = $2 WHERE fence <= $2";
        let fence = i64::try_from(fence).map_err(|error| sqlx::Error::Encode(error.into()))?;
        let written = sqlx::query(write).bind(price).bind(fence).execute(&self.pool).await?;
        Ok(written.rows_affected() > 0)
    }

    pub async fn price(&self) -> Result<i32, sqlx::Error> {
        sqlx::query_scalar("SELECT price FROM product").fetch_one(&self.pool).await
    }

    /// No mail sent, no price written: before each story. The fencing tokens of different locks
    /// know nothing of each other.
    pub async fn begin_story(&self) -> Result<(), sqlx::Error> {
        sqlx::query("TRUNCATE mail").execute(&self.pool).await?;
        sqlx::query("UPDATE product SET price = 0, fence = 0").execute(&self.pool).await.map(drop)
    }
}

/// A schema of our own with the empty shop, in a database that may be in use.
pub async fn create(url: &str, schema: &str) -> Result<(), sqlx::Error> {
    // Not a pool: it hides why it cannot connect.
    let connecting = tokio::time::timeout(CONNECT, PgConnection::connect(url));
    let mut connection = connecting.await.map_err(|_| sqlx::Error::PoolTimedOut)??;
    sqlx::query(&format!("CREATE SCHEMA {schema}")).execute(&mut connection).await?;
    connection.close().await?;
    let mut connection = PgConnection::connect(&within_schema(url, schema)).await?;
    for statement in [
        "CREATE TABLE product (stock INT NOT NULL, price INT NOT NULL, fence BIGINT NOT NULL)",
        "CREATE TABLE sale (pieces INT NOT NULL)",
        "CREATE TABLE mail (sent TIMESTAMPTZ NOT NULL)",
        "INSERT INTO product VALUES (0, 0, 0)",
    ] {
        sqlx::query(statement).execute(&mut connection).await?;
    }
    connection.close().await
}

/// Removes the schema from a database that is not ours. Why one cannot be reached has been said.
pub async fn remove(url: &str, schema: &str) {
    let removing = tokio::time::timeout(CONNECT, async {
        let Ok(mut connection) = PgConnection::connect(url).await else { return Ok(()) };
        let drop = format!("DROP SCHEMA IF EXISTS {schema} CASCADE");
        sqlx::query(&drop).execute(&mut connection).await.map(|_| ())
    });
    if !matches!(removing.await, Ok(Ok(()))) {
        eprintln!("oversell: could not remove the schema {schema} from the database");
    }
}

/// The same database, where names without a schema mean this one.
pub fn within_schema(url: &str, schema: &str) -> String {
    let separator = if url.contains('?') { '&' } else { '?' };
    format!("{url}{separator}options[search_path]={schema}")
}
