//! The head of a response as it came from the origin.

use std::time::{Duration, SystemTime};

use http::{HeaderName, header, response::Parts};

use super::super::fields::CacheControl;

/// A head, and its directives, which are parsed here and nowhere else.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) parts: Parts,
    pub(crate) cache_control: CacheControl,
    /// The time from the request to the head.
    pub(crate) took: Duration,
    pub(crate) received: SystemTime,
}

impl Head {
    pub(crate) fn new(parts: Parts, took: Duration, received: SystemTime) -> Self {
        let cache_control = CacheControl::of_response(&parts.headers);
        Self { parts, cache_control, took, received }
    }
}

/// The fields by which an origin can tell whether a response is still as it was (RFC 9110 §8.8).
pub(crate) const VALIDATORS: [HeaderName; 2] = [header::ETAG, header::LAST_MODIFIED];
