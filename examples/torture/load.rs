//! One call to the origin, as the record has it: told before it begins, and again when it ends, also where it is cut
//! off.

use std::sync::Arc;

use cattleguard::Loaded;

use crate::{
    history::Deed,
    origin::{Origin, OriginFailed},
    row::Row,
    teller::Teller,
};

pub struct Load {
    teller: Arc<Teller>,
    key: u32,
    source: u64,
    begun: u64,
    brought: Option<u64>,
}

impl Load {
    pub async fn run(
        teller: Arc<Teller>,
        origin: Origin,
        key: u32,
    ) -> Result<Loaded<Row>, OriginFailed> {
        let source = teller.number();
        let begun = teller.began(source, key, Deed::Loaded { source, brought: None });
        let mut load = Self { teller, key, source, begun, brought: None };
        let version = origin.load(key).await?;
        load.brought = Some(version);
        Ok(value(source, version))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let deed = Deed::Loaded { source: self.source, brought: self.brought };
        self.teller.ended(self.source, self.key, self.begun, deed);
    }
}

pub fn value(source: u64, version: u64) -> Loaded<Row> {
    let padding = "x".repeat(fastrand::usize(..200));
    let ttl = std::time::Duration::from_millis(fastrand::u64(1_000..8_000));
    Loaded::found(Row { source, padding }, version).ttl(ttl)
}
