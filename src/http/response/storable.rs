//! Whether a response may be stored (RFC 9111 §3).

use std::time::Duration;

use http::{HeaderMap, HeaderName, StatusCode, header};

use super::{
    super::fields::{CacheControl, Scope, vary},
    freshness::{self, is_heuristically_cacheable},
    head::{Head, VALIDATORS},
    tag::tag_names,
};
use crate::{policy::StaleFor, terms::are_too_many};

/// How long a response that may be stored can be served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Storable {
    /// On arrival (§4.2.3).
    pub(crate) age: Duration,
    /// From its generation on (§4.2.1).
    pub(crate) lifetime: Duration,
    pub(crate) stale: StaleFor,
    pub(crate) reuse: Reuse,
}

/// When a stored response answers a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reuse {
    WhileFresh,
    /// Once the origin has confirmed it for that request (§4.3).
    Validated,
}

/// What the user has set about storing.
#[derive(Clone, Debug)]
pub(crate) struct StoreSettings {
    pub(crate) default_ttl: Option<Duration>,
    /// How long a response with a validator is kept only to validate it.
    pub(crate) validation_window: Duration,
    /// Whether an explicitly fresh response is stored with its `Set-Cookie`.
    pub(crate) cookies: bool,
    /// Where a response names its tags.
    pub(crate) tag_field: Option<HeaderName>,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self {
            default_ttl: None,
            validation_window: Duration::from_secs(3600),
            cookies: false,
            tag_field: None,
        }
    }
}

/// Why a response is not stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NotStorable {
    NoStore,
    /// For one user alone.
    Private,
    /// It would have to be validated for every request, and cannot be.
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
    /// More tags than an entry may have, or longer ones.
    TooManyTags,
    /// Stale on arrival, or nothing says how long it is fresh.
    NotFresh,
}

impl Storable {
    /// Applies the rules of §3 to the response to a request with these fields. A request with `no-store`
    /// never gets as far as this.
    pub(crate) fn check(
        request: &HeaderMap,
        head: &Head,
        settings: &StoreSettings,
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
        let tags = settings.tag_field.iter().flat_map(|field| tag_names(field, headers));
        if are_too_many(tags) {
            return Err(NotStorable::TooManyTags);
        }
        let age = freshness::initial_age(head);
        let lifetime = freshness::lifetime(request, head, settings.default_ttl).unwrap_or_default();
        let is_no_cache = matches!(directives.no_cache, Some(Scope::Response));
        let reuse = match lifetime > age && !is_no_cache {
            true => Reuse::WhileFresh,
            false if can_be_validated(request, head, settings) => Reuse::Validated,
            false if is_no_cache => return Err(NotStorable::NoCache),
            false => return Err(NotStorable::NotFresh),
        };
        Ok(Self { age, lifetime, stale: stale_for(head), reuse })
    }

    /// How long the response is stored for requests from now on.
    pub(crate) fn ttl(&self, settings: &StoreSettings) -> Duration {
        match self.reuse {
            Reuse::WhileFresh => self.lifetime.saturating_sub(self.age),
            Reuse::Validated => settings.validation_window,
        }
    }
}

/// Whether a response that no request may have as it is can be confirmed for each. It says so itself, or it would
/// not be stored.
fn can_be_validated(request: &HeaderMap, head: &Head, settings: &StoreSettings) -> bool {
    let (directives, headers) = (&head.cache_control, &head.parts.headers);
    head.parts.status == StatusCode::OK
        && (directives.no_cache.is_some() || freshness::is_explicit(head))
        && VALIDATORS.iter().any(|name| headers.contains_key(name))
        && !settings.validation_window.is_zero()
        && !may_be_of_one_client(request, directives)
}

/// Whether the page of one client may have the validator of another's: one that is changed by what a cookie says, and
/// dated by its template. Stricter than §4.3.
pub(crate) fn may_be_of_one_client(request: &HeaderMap, response: &CacheControl) -> bool {
    let is_open = response.public || response.s_maxage.is_some();
    request.contains_key(header::COOKIE) && !is_open
}

/// RFC 5861.
fn stale_for(head: &Head) -> StaleFor {
    let directives = &head.cache_control;
    match directives.forbids_stale() {
        true => StaleFor::NEVER,
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
