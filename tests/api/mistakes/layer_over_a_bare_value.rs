// says: the trait `From<String>` is not implemented for `cattleguard::Loaded<String>`
// says: expected `Option<(String, _)>`, found `String`
use cattleguard::{Guard, GuardLayer};
use tower::{Service, ServiceBuilder, service_fn};

#[derive(Clone)]
pub struct Get(pub u64);

#[cfg(mistake)]
type Row = String;
#[cfg(not(mistake))]
type Row = Option<(String, i64)>;

pub fn service(guard: Guard<u64, String>) -> impl Service<Get> {
    let load = |_: Get| async { Ok::<_, std::io::Error>(Row::default()) };
    ServiceBuilder::new()
        .layer(GuardLayer::new(guard, |request: &Get| Some(request.0)))
        .service(service_fn(load))
}
