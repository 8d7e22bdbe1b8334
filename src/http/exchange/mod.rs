//! A request that a plain near hit does not answer, from the service to the origin and back.
//!
//! [`Exchange`] carries the request, and sends it straight to the origin if it bypasses the cache. [`Fetch`]
//! answers GET and HEAD through the guard: an `OriginLoader` loads on a miss, and a `Reload` replaces a
//! stored response that is not fresh enough. A `Validation` asks the origin about one that must be confirmed
//! for each request.

mod error_response;
#[expect(clippy::module_inception, reason = "the noun that the others are about")]
mod exchange;
mod fetch;
mod loader;
mod origin;
mod passthrough;
mod received;
mod reload;
mod validation;

pub(super) use self::{exchange::Exchange, fetch::Fetch, origin::Origin};
