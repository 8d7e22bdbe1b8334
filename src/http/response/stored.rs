//! What a guard stores for the HTTP cache.

use std::fmt;

use super::{
    super::key::Variants,
    cached::{CachedResponse, PER_FIELD},
};

/// The value of the guard behind an [`HttpGuardLayer`](crate::http::HttpGuardLayer): a response, or
/// the request fields that tell the variants of a URL apart.
#[derive(Clone)]
pub struct StoredResponse(pub(crate) Kind);

#[derive(Clone)]
pub(crate) enum Kind {
    Response(CachedResponse),
    /// One that answers no request before the origin has confirmed it for that request.
    Unvalidated(CachedResponse),
    Variants(Variants),
    /// In place of a response whose body is too long or too slow to be stored.
    Unbuffered,
}

impl StoredResponse {
    /// A response that may answer a request as it is.
    pub(crate) fn response(&self) -> Option<&CachedResponse> {
        match &self.0 {
            Kind::Response(cached) => Some(cached),
            _ => None,
        }
    }

    /// A response that the origin can confirm.
    pub(crate) fn to_validate(&self) -> Option<&CachedResponse> {
        match &self.0 {
            Kind::Response(cached) | Kind::Unvalidated(cached) => Some(cached),
            Kind::Variants(_) | Kind::Unbuffered => None,
        }
    }

    /// The bytes that it holds: body and fields, and what its maps and lists need for them.
    pub(crate) fn size(&self) -> usize {
        match &self.0 {
            Kind::Response(cached) | Kind::Unvalidated(cached) => cached.size(),
            Kind::Variants(Variants { fields, .. }) => {
                fields.iter().map(|name| name.as_str().len() + PER_FIELD).sum()
            }
            Kind::Unbuffered => 0,
        }
    }
}

impl fmt::Debug for StoredResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredResponse").finish_non_exhaustive()
    }
}
