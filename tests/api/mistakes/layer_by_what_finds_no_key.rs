// says: `ById` finds no key in a `_`
// says: not a `KeyOf<_>`
// says: a closure says what it takes: `|request: &_| Some(request.id)`, and returns an `Option` of a `cattleguard::Key`
// says: use `GuardLayer::by_name(guard, |request: &_| Some(request.path.name()))`
use cattleguard::{Guard, GuardLayer};

pub struct Get(pub u64);
pub struct ById;

#[cfg(not(mistake))]
impl cattleguard::tower::KeyOf<Get> for ById {
    type Key = u64;

    fn key_of(&self, request: &Get) -> Option<u64> {
        Some(request.0)
    }
}

pub fn layer(guard: Guard<u64, u32>) {
    let _layer = GuardLayer::new(guard, ById);
}
