//! The README's quick start, run.

use cattleguard::{
    Guard, LoadingGuard,
    codec::Json,
    redis::{Connection, RedisFar},
};
use sqlx::PgPool;

use crate::servers;

// README
/// The origin: a row with its version, or none.
async fn read_user(db: PgPool, id: i64) -> sqlx::Result<Option<(String, i64)>> {
    let query = sqlx::query_as("SELECT name, version FROM users WHERE id = $1");
    query.bind(id).fetch_optional(&db).await
}

async fn quick_start(db: PgPool, redis: Connection) -> Result<(), cattleguard::Error> {
    let far = RedisFar::new(redis, Json).namespace("users"); // shared by all processes
    let users: LoadingGuard<i64, String> =
        Guard::builder().far(far).loader(move |id: i64| read_user(db.clone(), id)).build();
    let ada = users.get(&42).await?; // one query, however many ask, in however many processes
    println!("{:?}, {}", ada.value(), ada.outcome()); // Some("Ada"), loaded
    users.invalidate_at(&42, 2_i64).await?; // after UPDATE … RETURNING version has committed
    Ok(())
}
// README

pub async fn the_quick_start_of_the_readme_runs() {
    let source =
        include_str!("quick_start.rs").split("// README\n").nth(1).expect("the quick start");
    assert!(include_str!("../../README.md").contains(source), "the README shows another one");
    let (postgres, redis) = (servers::Postgres::start(), servers::Redis::start());
    let (postgres, redis) = (postgres.expect("a PostgreSQL"), redis.expect("a Redis"));
    let db = PgPool::connect(&postgres.url()).await.expect("a connection");
    let create =
        "CREATE TABLE users (id BIGINT PRIMARY KEY, name TEXT NOT NULL, version BIGINT NOT NULL);
        INSERT INTO users VALUES (42, 'Ada', 1)";
    sqlx::raw_sql(create).execute(&db).await.expect("a table");
    let connection = Connection::open(&redis.url()).await.expect("a connection");
    quick_start(db.clone(), connection.clone()).await.expect("as the README says");

    // The old row is refused from now on, as from a lagging replica; the new one is read.
    sqlx::query("UPDATE users SET name = 'Grace', version = 2").execute(&db).await.expect("a row");
    let far = RedisFar::new(connection, Json).namespace("users");
    let users: LoadingGuard<i64, String> =
        Guard::builder().far(far).loader(move |id: i64| read_user(db.clone(), id)).build();
    let user = users.get(&42).await.expect("the row");
    assert_eq!((user.version().high(), user.into_value().as_deref()), (2, Some("Grace")));
    assert_eq!(users.get(&7).await.expect("no row").value(), None);
}
