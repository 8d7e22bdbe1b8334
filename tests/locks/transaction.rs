//! The lock inside a transaction of the caller's, on PostgreSQL.

use std::time::Duration;

use cattleguard::{
    FaultKind,
    lock::{BoxLock, Lock},
    postgres::{Pool, PostgresRowLock},
};
use sqlx::{Connection, PgConnection};
use tokio::time::{Instant, sleep};

use crate::{
    contract::{TTL, fresh_name, granted, soon},
    servers::Postgres,
};

async fn begin(server: &Postgres) -> (PgConnection, PostgresRowLock) {
    let connection = PgConnection::connect(&server.url()).await.expect("a connection");
    let lock = PostgresRowLock::new(Pool::open(&server.url()).expect("a URL"));
    lock.create_table().await.expect("a table");
    (connection, lock)
}

pub async fn a_transaction_and_leases_exclude_each_other() {
    let server = Postgres::start().expect("a server");
    let (mut connection, lock) = begin(&server).await;
    let (leases, name) = (BoxLock::new(lock.clone()), fresh_name());
    for commits in [true, false] {
        let mut transaction = connection.begin().await.expect("a transaction");
        let fence = lock.lock_in(&mut transaction, &name, soon()).await.expect("the lock");
        assert!(granted(&leases, &name, TTL).await.is_none(), "the transaction has it");
        let waiting = tokio::spawn({
            let (leases, name) = (leases.clone(), name.clone());
            async move { leases.acquire(&name, TTL, soon()).await }
        });
        sleep(Duration::from_millis(100)).await;
        assert!(!waiting.is_finished());
        let ended = Instant::now();
        match commits {
            true => transaction.commit().await.expect("a commit"),
            false => transaction.rollback().await.expect("a rollback"),
        }
        let lease = waiting.await.expect("a task").expect("the lock");
        assert!(ended.elapsed() < Duration::from_secs(3), "{:?}", ended.elapsed());
        assert!(lease.fence() > fence);

        // The other way round; what was refused leaves the transaction as it was.
        let mut transaction = connection.begin().await.expect("a transaction");
        let deadline = Instant::now() + Duration::from_millis(200);
        let held = lock.lock_in(&mut transaction, &name, deadline).await.expect_err("leased");
        assert_eq!(held.kind(), FaultKind::Held, "{held:?}");
        sqlx::query("SELECT 1").execute(&mut *transaction).await.expect("a usable transaction");
        lease.release().await.expect("a release");
        let next = lock.lock_in(&mut transaction, &name, soon()).await.expect("the lock");
        assert!(next > fence);
        transaction.rollback().await.expect("a rollback");
    }
}

pub async fn a_connection_that_is_lost_frees_its_transactions_lock() {
    let server = Postgres::start().expect("a server");
    let (mut connection, lock) = begin(&server).await;
    let (leases, name) = (BoxLock::new(lock.clone()), fresh_name());
    let mut transaction = connection.begin().await.expect("a transaction");
    lock.lock_in(&mut transaction, &name, soon()).await.expect("the lock");
    std::mem::forget(transaction);
    drop(connection);
    let begin = Instant::now();
    let lease = leases.acquire(&name, TTL, soon()).await.expect("the lock");
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    lease.release().await.expect("a release");
}
