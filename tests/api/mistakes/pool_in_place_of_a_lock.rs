// says: `cattleguard::postgres::Pool` is not a lock
// says: not a `Lock`
// says: a connection or pool becomes one: `RedisLock::new(connection)`, `PostgresSessionLock::new(pool)`
use cattleguard::{lock::BoxLock, postgres::Pool};

pub fn lock(pool: Pool) -> BoxLock {
    #[cfg(not(mistake))]
    let pool = cattleguard::postgres::PostgresSessionLock::new(pool);
    BoxLock::new(pool)
}
