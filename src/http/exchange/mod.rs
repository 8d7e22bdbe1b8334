//! One request that a plain near hit does not answer, from the service to the origin and back.
//!
//! [`Exchange`] carries the request, and sends it straight to the origin where the cache has no part in
//! it. [`Fetch`] answers GET and HEAD through the guard, which loads by an `OriginLoader` on a miss, and by
//! a `Reload` where what is stored will not do.

mod error_response;
#[expect(clippy::module_inception, reason = "the noun that the others are about")]
mod exchange;
mod fetch;
mod loader;
mod origin;
mod passthrough;
mod reload;

pub(super) use self::{exchange::Exchange, fetch::Fetch};
