// says: expected `LoadingGuard<u64, User>`, found `LoadingGuard<_, Product>`
use cattleguard::{Guard, LoadingGuard};

pub struct User;
pub struct Product;

#[cfg(mistake)]
type Value = Product;
#[cfg(not(mistake))]
type Value = User;

async fn load(_: u64) -> std::io::Result<Option<(Value, i64)>> {
    Ok(None)
}

pub fn guard() -> LoadingGuard<u64, User> {
    Guard::builder().loader(load).build()
}
