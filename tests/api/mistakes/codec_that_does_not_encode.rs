// says: `Mine` does not encode `_`
// says: not a `Codec<_>`
// says: `codec::Json` and `codec::Postcard`, of the features `json` and `postcard`, encode what serde serializes
// says: for a format of your own, implement `cattleguard::codec::Codec`
use cattleguard::{
    Guard,
    redis::{Connection, RedisFar},
};

pub struct Mine;

#[cfg(mistake)]
type Chosen = Mine;
#[cfg(not(mistake))]
type Chosen = cattleguard::codec::Json;

pub fn guard(redis: Connection, codec: Chosen) -> Guard<u64, String> {
    Guard::builder().far(RedisFar::new(redis, codec)).build()
}
