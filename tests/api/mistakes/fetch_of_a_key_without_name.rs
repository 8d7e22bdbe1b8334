// says: `Sku: Key`
// says: the trait `Key` must be implemented
use cattleguard::{Error, Guard, Loaded};

pub struct Sku(pub u64);

#[cfg(not(mistake))]
impl cattleguard::Key for Sku {
    fn name(&self) -> cattleguard::Name<'_> {
        self.0.name()
    }
}

pub async fn fetch(guard: &Guard<Sku, String>, sku: Sku) -> Result<(), Error> {
    let load = || async { Ok::<_, std::io::Error>(Loaded::found(String::new(), 1)) };
    guard.fetch(&sku, load).await.map(drop)
}
