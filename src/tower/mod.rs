//! A [`tower::Service`] behind a guard.
//!
//! [`GuardLayer`] wraps a service that reads the origin and answers with
//! [`Loaded<V>`](crate::Loaded), or what converts into it; what comes out answers with [`Fetched<V>`](crate::Fetched) and
//! calls the inner service once per miss, however many ask. A closure takes the key from the
//! request; where it finds none, the request goes straight through.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), cattleguard::Error> {
//! use cattleguard::{Guard, GuardLayer, Loaded};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! #[derive(Clone)]
//! struct GetUser(u64);
//!
//! let guard: Guard<u64, String> = Guard::builder().build();
//! let users = ServiceBuilder::new()
//!     .layer(GuardLayer::new(guard, |request: &GetUser| Some(request.0)))
//!     .service(service_fn(|GetUser(id)| async move {
//!         // SELECT name, version FROM users WHERE id = …
//!         Ok::<_, std::io::Error>(Loaded::found(format!("user {id}"), 1))
//!     }));
//!
//! let ada = users.oneshot(GetUser(42)).await?;
//! assert_eq!(ada.value().map(String::as_str), Some("user 42"));
//! # Ok(()) }
//! ```
//!
//! The traits are those of `tower` 0.5 (`tower-service` 0.3, `tower-layer` 0.3).

mod future;
mod layer;
mod service;

pub use self::{
    future::ResponseFuture,
    layer::GuardLayer,
    service::{ByKey, ByName, GuardService, KeyOf, NameOf},
};
