//! What a request asks of a cache (RFC 9111 §5.2.1).

use std::time::{Duration, SystemTime};

use http::{HeaderMap, header};

use super::{cache_control::CacheControl, stored::Whole};

/// The freshness that a request asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wants {
    /// Nothing in particular.
    Anything,
    /// To have nothing to do with a cache, or it asks what only the origin can answer.
    TheOrigin,
    /// Only what is stored, and only such.
    OnlyCached(Freshness),
    /// Only what is as fresh as this.
    Fresher(Freshness),
}

/// Not older than this, and fresh for as long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Freshness {
    age: Duration,
    left: Duration,
}

impl Wants {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        if headers.contains_key(header::UPGRADE)
            || headers.contains_key(header::IF_MATCH)
            || headers.contains_key(header::IF_UNMODIFIED_SINCE)
        {
            return Self::TheOrigin;
        }
        // Most requests say nothing.
        if !headers.contains_key(header::CACHE_CONTROL) && !headers.contains_key(header::PRAGMA) {
            return Self::Anything;
        }
        let asked = CacheControl::of_request(headers);
        if asked.no_store {
            return Self::TheOrigin;
        }
        let age = match asked.no_cache {
            Some(_) => Some(Duration::ZERO),
            None => asked.max_age,
        };
        let freshness = Freshness {
            age: age.unwrap_or(Freshness::ANY.age),
            left: asked.min_fresh.unwrap_or(Freshness::ANY.left),
        };
        match freshness {
            freshness if asked.only_if_cached => Self::OnlyCached(freshness),
            Freshness::ANY => Self::Anything,
            freshness => Self::Fresher(freshness),
        }
    }

    pub(super) fn is_content_with(self, whole: &Whole, now: SystemTime) -> bool {
        match self {
            Self::Anything => true,
            Self::TheOrigin => false,
            Self::OnlyCached(freshness) | Self::Fresher(freshness) => freshness.is_of(whole, now),
        }
    }
}

impl Freshness {
    /// Also of what the cache serves stale.
    const ANY: Self = Self { age: Duration::MAX, left: Duration::ZERO };

    fn is_of(self, whole: &Whole, now: SystemTime) -> bool {
        let age = whole.age(now);
        let is_left = || whole.lifetime.checked_sub(age).is_some_and(|left| left >= self.left);
        self == Self::ANY || (age <= self.age && !self.age.is_zero() && is_left())
    }
}
