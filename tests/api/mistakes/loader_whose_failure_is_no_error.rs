// says: the trait bound `Failure: std::error::Error` is not satisfied
// says: to implement `Loader<_, String>`
use cattleguard::{Guard, LoadingGuard};

#[derive(Debug)]
pub struct Failure;

#[cfg(not(mistake))]
impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("failed")
    }
}

#[cfg(not(mistake))]
impl std::error::Error for Failure {}

async fn load(_: u64) -> Result<Option<(String, i64)>, Failure> {
    Err(Failure)
}

pub fn guard() -> LoadingGuard<u64, String> {
    Guard::builder().loader(load).build()
}
