// says: `Db` does not load `_` by the key `_`
// says: not a `Loader<_, _>`
// says: a function or closure takes the key by value and is `async`: `async fn(u64) -> Result<Option<(User, i64)>, E>`
// says: it returns `Loaded<_>`, or `Option<(_, version)>`; its error is one that `Box<dyn Error + Send + Sync>` is made of
// says: clone a pool into it, and write `move |id: u64| …`
use cattleguard::{Guard, LoadingGuard};

pub struct Db;

#[cfg(not(mistake))]
impl cattleguard::Loader<u64, String> for Db {
    type Error = std::io::Error;

    async fn load(
        &self,
        _: &u64,
        _: Option<&cattleguard::Entry<String>>,
    ) -> std::io::Result<cattleguard::Loaded<String>> {
        Ok(cattleguard::Loaded::absent())
    }
}

pub fn guard(db: Db) -> LoadingGuard<u64, String> {
    Guard::builder().loader(db).build()
}
