// says: `Connection` is not a far tier for `_`
// says: not a `Far<_>`
// says: a connection becomes one with a codec: `RedisFar::new(connection, codec::Json)`; without servers there is `MemoryFar`
use cattleguard::{Guard, redis::Connection};

pub fn guard(redis: Connection) -> Guard<u64, String> {
    #[cfg(not(mistake))]
    let redis = cattleguard::redis::RedisFar::new(redis, cattleguard::codec::Json);
    Guard::builder().far(redis).build()
}
