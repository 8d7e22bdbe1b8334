//! Whether a response may be stored (RFC 9111 §3).

use std::time::Duration;

use http::{HeaderMap, StatusCode, header};

use super::{
    super::fields::{Scope, vary},
    freshness::{self, is_heuristically_cacheable},
    head::Head,
};
use crate::policy::StaleFor;

/// How long a response that may be stored can be served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Storable {
    /// On arrival (§4.2.3).
    pub(crate) age: Duration,
    /// From its generation on (§4.2.1).
    pub(crate) lifetime: Duration,
    pub(crate) stale: StaleFor,
}

/// What the user has set about storing.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct StoreSettings {
    pub(crate) default_ttl: Option<Duration>,
    /// Whether an explicitly fresh response is stored with its `Set-Cookie`.
    pub(crate) cookies: bool,
}

/// Why a response is not stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NotStorable {
    NoStore,
    /// For one user alone.
    Private,
    /// It would have to be validated for every request.
    NoCache,
    SetCookie,
    /// The request was authorized, and the response does not permit sharing.
    Authorization,
    /// Partial, a failure that does not say how long it holds, or a status that must be understood and is not.
    Status,
    /// It ends when its client goes away.
    EventStream,
    /// `Vary: *`, or an invalid field name.
    Vary,
    /// The fields are longer than [`MAX_FIELDS`].
    TooManyFields,
    /// Stale on arrival, or nothing says how long it is fresh.
    NotFresh,
}

impl Storable {
    /// Applies the rules of §3 to the response to a request with these fields. A request with `no-store`
    /// never gets as far as this.
    pub(crate) fn check(
        request: &HeaderMap,
        head: &Head,
        settings: StoreSettings,
    ) -> Result<Self, NotStorable> {
        let (status, headers) = (head.parts.status, &head.parts.headers);
        let directives = &head.cache_control;
        // §5.2.2.3: a cache that understands the status ignores the no-store beside must-understand.
        if directives.no_store && !(directives.must_understand && understands(status)) {
            return Err(NotStorable::NoStore);
        }
        if (directives.must_understand && !understands(status))
            || never_stored(status)
            || (is_failure(status) && !freshness::is_explicit(head))
        {
            return Err(NotStorable::Status);
        }
        if is_event_stream(headers) {
            return Err(NotStorable::EventStream);
        }
        if matches!(directives.private, Some(Scope::Response)) {
            return Err(NotStorable::Private);
        }
        if matches!(directives.no_cache, Some(Scope::Response)) {
            return Err(NotStorable::NoCache);
        }
        let is_shareable =
            directives.public || directives.must_revalidate || directives.s_maxage.is_some();
        // §3.5.
        if request.contains_key(header::AUTHORIZATION) && !is_shareable {
            return Err(NotStorable::Authorization);
        }
        // Stricter than §3: a cookie is for one user, unless it is withheld.
        let is_withheld = directives.withheld().any(|name| name == header::SET_COOKIE);
        let is_shared = settings.cookies && freshness::is_explicit(head);
        if headers.contains_key(header::SET_COOKIE) && !is_withheld && !is_shared {
            return Err(NotStorable::SetCookie);
        }
        if vary::selecting_fields(headers).is_none() {
            return Err(NotStorable::Vary);
        }
        if length_of(headers) > MAX_FIELDS {
            return Err(NotStorable::TooManyFields);
        }
        let age = freshness::initial_age(head);
        match freshness::lifetime(request, head, settings.default_ttl) {
            Some(lifetime) if lifetime > age => Ok(Self { age, lifetime, stale: stale_for(head) }),
            _ => Err(NotStorable::NotFresh),
        }
    }

    /// How long the response is fresh from now on.
    pub(crate) fn ttl(&self) -> Duration {
        self.lifetime.saturating_sub(self.age)
    }
}

/// RFC 5861.
fn stale_for(head: &Head) -> StaleFor {
    let directives = &head.cache_control;
    match directives.forbids_stale() {
        true => StaleFor { grace: Some(Duration::ZERO), if_error: Some(Duration::ZERO) },
        false => StaleFor {
            grace: directives.stale_while_revalidate,
            if_error: directives.stale_if_error,
        },
    }
}

/// Whether this cache implements what there is to know about caching a status.
fn understands(status: StatusCode) -> bool {
    is_heuristically_cacheable(status) || matches!(status.as_u16(), 302 | 303 | 307)
}

/// Interim responses (1xx), partial ones (206) and the update of a stored one (304).
fn never_stored(status: StatusCode) -> bool {
    status.is_informational() || matches!(status.as_u16(), 206 | 304)
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map(|kind| kind.as_bytes());
    let name = kind.and_then(|kind| kind.split(|byte| matches!(byte, b';' | b' ')).next());
    name.is_some_and(|name| name.eq_ignore_ascii_case(b"text/event-stream"))
}

/// The statuses on which a stale response may be served (RFC 5861 §4). They fail the load, and the key
/// backs off.
pub(crate) fn is_failure(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502 | 503 | 504)
}

/// Counted as in RFC 9113 §6.5.2.
fn length_of(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum()
}

/// In bytes: more than any honest response has.
const MAX_FIELDS: usize = 64 << 10;
