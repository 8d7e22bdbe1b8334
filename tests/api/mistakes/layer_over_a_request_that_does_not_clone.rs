// says: `Get: Clone`
// says: consider annotating `Get` with `#[derive(Clone)]`
use cattleguard::{Guard, GuardLayer, Loaded};
use tower::{Service, ServiceBuilder, service_fn};

#[cfg_attr(not(mistake), derive(Clone))]
pub struct Get(pub u64);

pub fn service(guard: Guard<u64, u32>) -> impl Service<Get> {
    let load = |_: Get| async { Ok::<_, std::io::Error>(Loaded::found(7, 1)) };
    ServiceBuilder::new()
        .layer(GuardLayer::new(guard, |request: &Get| Some(request.0)))
        .service(service_fn(load))
}
