// says: the trait `From<User>` is not implemented for `cattleguard::Loaded<_>`
// says: expected `Option<(_, _)>`, found `User`
// says: to implement `Loader<_, _>`
use cattleguard::{Guard, LoadingGuard};

pub struct User;

#[cfg(mistake)]
type Row = User;
#[cfg(not(mistake))]
type Row = Option<(User, i64)>;

async fn load(_: u64) -> std::io::Result<Row> {
    Err(std::io::ErrorKind::Other.into())
}

pub fn guard() -> LoadingGuard<u64, User> {
    Guard::builder().loader(load).build()
}
