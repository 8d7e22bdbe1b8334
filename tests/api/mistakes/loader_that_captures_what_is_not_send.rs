// says: `Rc<u64>` cannot be sent between threads safely
// says: to implement `Loader<u64, String>`
use cattleguard::{Guard, LoadingGuard};

#[cfg(mistake)]
type Shared = std::rc::Rc<u64>;
#[cfg(not(mistake))]
type Shared = std::sync::Arc<u64>;

pub fn guard(version: Shared) -> LoadingGuard<u64, String> {
    let load = move |_: u64| {
        let version = *version;
        async move { Ok::<_, std::io::Error>(Some((String::new(), version))) }
    };
    Guard::builder().loader(load).build()
}
