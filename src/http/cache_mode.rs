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
    /// As [`Default`](Self::Default), and a stale response will do within these bounds.
    Stale(Freshness),
}

/// The bounds that a request sets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Freshness {
    max_age: Duration,
    min_fresh: Duration,
    /// `None`: nothing stale.
    max_stale: Option<Duration>,
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
            max_stale: directives.max_stale,
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
            Self::Default | Self::Stale(_) => true,
            Self::Bypass => false,
            Self::OnlyIfCached(freshness) | Self::NoStore(freshness) | Self::Reload(freshness) => {
                freshness.includes(cached, now)
            }
        }
    }

    /// Whether the request takes a response that is as stale as this one.
    pub(super) fn accepts_stale(self, cached: &CachedResponse, now: SystemTime) -> bool {
        self.stale_bounds().is_some_and(|freshness| freshness.includes(cached, now))
    }

    /// Whether the request says that something stale will do.
    pub(super) fn takes_stale(self) -> bool {
        self.stale_bounds().is_some()
    }

    fn stale_bounds(self) -> Option<Freshness> {
        match self {
            Self::OnlyIfCached(freshness) | Self::Reload(freshness) | Self::Stale(freshness) => {
                freshness.max_stale.map(|_| freshness)
            }
            Self::Default | Self::Bypass | Self::NoStore(_) => None,
        }
    }

    /// Where a request cannot have a fresher response than the cache would serve.
    pub(super) fn without_reloads(self) -> Self {
        match self {
            Self::Reload(freshness) if freshness.max_stale.is_some() => Self::Stale(freshness),
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
    const ANY: Self = Self { max_age: Duration::MAX, min_fresh: Duration::ZERO, max_stale: None };

    fn includes(self, cached: &CachedResponse, now: SystemTime) -> bool {
        if self == Self::ANY {
            return true;
        }
        let age = cached.age(now);
        let is_fresh_enough = match cached.lifetime.checked_sub(age) {
            Some(left) => left >= self.min_fresh,
            None if !self.min_fresh.is_zero() => false,
            None => self.max_stale.is_some_and(|longest| age - cached.lifetime <= longest),
        };
        age <= self.max_age && !self.max_age.is_zero() && is_fresh_enough
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderValue, StatusCode};

    use super::*;

    /// Whether a response that was generated `age` seconds ago and is fresh for a minute will do.
    fn accepts(ask: &str, age: u64) -> (bool, bool) {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(800_000_000);
        let cached = CachedResponse {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            generated: now - Duration::from_secs(age),
            lifetime: Duration::from_secs(60),
        };
        let ask = HeaderValue::from_str(ask).expect("a value");
        let mode = CacheMode::of(&HeaderMap::from_iter([(header::CACHE_CONTROL, ask)]));
        let ignored = mode.without_reloads();
        let judged =
            |mode: CacheMode| mode.accepts(&cached, now) || mode.accepts_stale(&cached, now);
        assert_eq!(mode.accepts_stale(&cached, now), ignored.accepts_stale(&cached, now));
        (judged(mode), judged(ignored))
    }

    #[test]
    fn rfc9111_5_2_1_each_directive_of_a_request_means_what_it_says() {
        for (ask, age, is_accepted) in [
            ("max-age=40", 40, true),
            ("max-age=40", 41, false),
            ("max-age=0", 0, false),
            ("no-cache", 1, false),
            // Nothing stale, however old it may be.
            ("max-age=100", 60, true),
            ("max-age=100", 61, false),
            ("min-fresh=20", 40, true),
            ("min-fresh=20", 41, false),
            ("min-fresh=0, max-age=100", 61, false),
            ("max-stale=30", 60, true),
            ("max-stale=30", 90, true),
            ("max-stale=30", 91, false),
            ("max-stale", 100_000, true),
            ("max-stale=30, max-stale=10", 71, false),
            ("max-age=80, max-stale=30", 80, true),
            ("max-age=80, max-stale=30", 81, false),
            ("min-fresh=1, max-stale=30", 61, false),
            ("min-fresh=1, max-stale=30", 59, true),
            ("no-cache, max-stale", 1, false),
        ] {
            // Where reloads are ignored, what the cache would serve will do.
            assert_eq!(accepts(ask, age), (is_accepted, true), "{ask} {age}");
        }
        assert!(!accepts("only-if-cached, max-stale=30", 91).1);
        assert!(accepts("only-if-cached, max-stale=30", 90).1);
    }
}
