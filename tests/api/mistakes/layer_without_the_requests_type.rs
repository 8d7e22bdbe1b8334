// says: type annotations needed
// says: consider giving this closure parameter an explicit type
use cattleguard::{Guard, GuardLayer, Loaded};
use tower::{Service, ServiceBuilder, service_fn};

#[derive(Clone)]
pub struct Get(pub u64);

pub fn service(guard: Guard<u64, u32>) -> impl Service<Get> {
    #[cfg(mistake)]
    let layer = GuardLayer::new(guard, |request| Some(request.0));
    #[cfg(not(mistake))]
    let layer = GuardLayer::new(guard, |request: &Get| Some(request.0));
    let load = |_: Get| async { Ok::<_, std::io::Error>(Loaded::found(7, 1)) };
    ServiceBuilder::new().layer(layer).service(service_fn(load))
}
