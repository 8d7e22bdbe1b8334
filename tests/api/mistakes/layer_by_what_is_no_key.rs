// says: `Sku` is not a cache key
// says: to implement `KeyOf<Get>`
use cattleguard::{Guard, GuardLayer};

#[derive(Clone)]
pub struct Sku(pub u64);

#[cfg(not(mistake))]
impl cattleguard::Key for Sku {
    fn name(&self) -> cattleguard::Name<'_> {
        self.0.name()
    }
}

#[derive(Clone)]
pub struct Get(pub Sku);

pub fn layer(guard: Guard<Sku, u32>) {
    let _layer = GuardLayer::new(guard, |request: &Get| Some(request.0.clone()));
}
