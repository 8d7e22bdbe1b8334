//! How a request uses the cache (RFC 9111 §5.2.1).

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, header};

use super::{fields::CacheControl, response::CachedResponse};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum CacheMode {
    /// The request asks for nothing in particular.
    Default,
    /// Only the origin can answer the request.
    Bypass,
    /// A stored response will do within these bounds; else a new one, which must not be stored.
    NoStore(Freshness),
    /// Only a stored response will do, and only within these bounds.
    OnlyIfCached(Freshness),
    /// A stored response will do within these bounds; else a new one.
    Reload(Freshness),
}

/// The bounds that a request sets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Freshness {
    max_age: Duration,
    min_fresh: Duration,
}

impl CacheMode {
    pub(super) fn of(request: &HeaderMap) -> Self {
        // Most requests have none of them: one pass over the names is less than a look for each.
        if !request.keys().any(sets_mode) {
            return Self::Default;
        }
        if request.contains_key(header::IF_MATCH)
            || request.contains_key(header::IF_UNMODIFIED_SINCE)
            || (request.contains_key(header::UPGRADE) && leaves_http(request))
        {
            return Self::Bypass;
        }
        let directives = CacheControl::of_request(request);
        let max_age = match directives.no_cache {
            Some(_) => Some(Duration::ZERO),
            None => directives.max_age,
        };
        let freshness = Freshness {
            max_age: max_age.unwrap_or(Freshness::ANY.max_age),
            min_fresh: directives.min_fresh.unwrap_or(Freshness::ANY.min_fresh),
        };
        match freshness {
            freshness if directives.only_if_cached => Self::OnlyIfCached(freshness),
            freshness if directives.no_store => Self::NoStore(freshness),
            Freshness::ANY => Self::Default,
            freshness => Self::Reload(freshness),
        }
    }

    /// Whether a stored response is fresh enough.
    pub(super) fn accepts(self, cached: &CachedResponse, now: SystemTime) -> bool {
        match self {
            Self::Default => true,
            Self::Bypass => false,
            Self::OnlyIfCached(freshness) | Self::NoStore(freshness) | Self::Reload(freshness) => {
                freshness.includes(cached, now)
            }
        }
    }

    /// Where a request cannot have a fresher response than the cache would serve.
    pub(super) fn without_reloads(self) -> Self {
        match self {
            Self::Reload(_) => Self::Default,
            Self::NoStore(_) => Self::NoStore(Freshness::ANY),
            mode => mode,
        }
    }
}

/// Whether a request with this field may need something in particular of the cache.
fn sets_mode(name: &HeaderName) -> bool {
    matches!(
        *name,
        header::CACHE_CONTROL
            | header::IF_MATCH
            | header::IF_UNMODIFIED_SINCE
            | header::PRAGMA
            | header::UPGRADE
    )
}

/// Whether the request asks for another protocol. One for HTTP/2 in cleartext does not: some clients send that
/// with each request, and no server has to take it up (RFC 9113 §3.1).
fn leaves_http(request: &HeaderMap) -> bool {
    let upgrades = request.get_all(header::UPGRADE).iter();
    upgrades
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|protocol| !protocol.trim().is_empty() && !protocol.trim().eq_ignore_ascii_case("h2c"))
}

impl Freshness {
    /// No bounds: whatever the cache may serve, stale responses included.
    const ANY: Self = Self { max_age: Duration::MAX, min_fresh: Duration::ZERO };

    fn includes(self, cached: &CachedResponse, now: SystemTime) -> bool {
        if self == Self::ANY {
            return true;
        }
        let age = cached.age(now);
        let left = cached.lifetime.checked_sub(age);
        age <= self.max_age
            && !self.max_age.is_zero()
            && left.is_some_and(|left| left >= self.min_fresh)
    }
}
