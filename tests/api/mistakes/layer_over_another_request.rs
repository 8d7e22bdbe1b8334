// says: expected closure signature `fn(Get) -> _`
// says: found closure signature `fn(Put) -> _`
use cattleguard::{Guard, GuardLayer, Loaded};
use tower::{Service, ServiceBuilder, service_fn};

#[derive(Clone)]
pub struct Get(pub u64);
#[derive(Clone)]
pub struct Put(pub u64);

#[cfg(mistake)]
type Asked = Put;
#[cfg(not(mistake))]
type Asked = Get;

pub fn service(guard: Guard<u64, u32>) -> impl Service<Get> {
    let load = |_: Asked| async { Ok::<_, std::io::Error>(Loaded::found(7, 1)) };
    ServiceBuilder::new()
        .layer(GuardLayer::new(guard, |request: &Get| Some(request.0)))
        .service(service_fn(load))
}
