// says: `Sku` is not a cache key
// says: not a `Key`
// says: implement `cattleguard::Key`: `fn name(&self) -> Name<'_>`, often `self.0.name()` or `Name::of_parts(…)`
use cattleguard::{Guard, LoadingGuard};

#[derive(Clone)]
pub struct Sku(pub u64);

#[cfg(not(mistake))]
impl cattleguard::Key for Sku {
    fn name(&self) -> cattleguard::Name<'_> {
        self.0.name()
    }
}

async fn load(_: Sku) -> std::io::Result<Option<(String, i64)>> {
    Ok(None)
}

pub fn guard() -> LoadingGuard<Sku, String> {
    Guard::builder().loader(load).build()
}
