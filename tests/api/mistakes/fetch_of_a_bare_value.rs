// says: the trait `From<u32>` is not implemented for `cattleguard::Loaded<u32>`
// says: expected `Option<(u32, _)>`, found `u32`
use cattleguard::{Error, Guard};

#[cfg(mistake)]
const ROW: u32 = 7;
#[cfg(not(mistake))]
const ROW: Option<(u32, i64)> = Some((7, 1));

pub async fn fetch(guard: &Guard<u64, u32>) -> Result<(), Error> {
    guard.fetch(&1, || async { Ok::<_, std::io::Error>(ROW) }).await.map(drop)
}
