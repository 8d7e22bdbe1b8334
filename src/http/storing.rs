//! Whether a response may be stored, and for how long it is fresh (RFC 9111 §3, §4.2).

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, StatusCode, header};

use super::{
    cache_control::{CacheControl, Fields},
    variant,
};
use crate::policy::StaleFor;

/// What a cache may do with a response.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Storable {
    /// How old it is already (§4.2.3).
    pub(super) age: Duration,
    /// How long it is fresh from its generation on (§4.2.1).
    pub(super) lifetime: Duration,
    pub(super) stale: StaleFor,
}

/// Why a response is not stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refusal {
    /// The request or the response says `no-store`.
    NoStore,
    /// For one user alone.
    Private,
    /// To be asked for again every time.
    NoCache,
    /// It sets a cookie.
    SetCookie,
    /// The request was authorized, and nothing says that others may see the answer.
    Authorization,
    /// A part, a failure, or a status that must be understood and is not.
    Status,
    /// `Vary: *`, or it names what is no field.
    VaryAll,
    /// More fields than anybody sends in good faith.
    TooManyFields,
    /// Nothing says how long it is fresh, or it is stale already.
    NotFresh,
}

impl Storable {
    /// `took` is the time from the request to the response.
    pub(super) fn judge(
        request: &HeaderMap,
        status: StatusCode,
        response: &HeaderMap,
        default_ttl: Option<Duration>,
        took: Duration,
        now: SystemTime,
    ) -> Result<Self, Refusal> {
        let asked = CacheControl::of_request(request);
        let said = CacheControl::of_response(response);
        // §5.2.2.3: who understands the status need not heed the no-store that comes with it.
        let no_store = said.no_store && !(said.must_understand && understands(status));
        if asked.no_store || no_store {
            return Err(Refusal::NoStore);
        }
        if (said.must_understand && !understands(status)) || never_stored(status) {
            return Err(Refusal::Status);
        }
        if matches!(said.private, Some(Fields::All)) {
            return Err(Refusal::Private);
        }
        if matches!(said.no_cache, Some(Fields::All)) {
            return Err(Refusal::NoCache);
        }
        // §3.5.
        if request.contains_key(header::AUTHORIZATION)
            && !(said.public || said.must_revalidate || said.s_maxage.is_some())
        {
            return Err(Refusal::Authorization);
        }
        // More than §3 asks for: a cookie is for one user, unless it is withheld.
        let withheld = said.withheld().any(|name| name == header::SET_COOKIE);
        if response.contains_key(header::SET_COOKIE) && !withheld {
            return Err(Refusal::SetCookie);
        }
        if variant::selecting_fields(response).is_none() {
            return Err(Refusal::VaryAll);
        }
        let lengths = response.iter().map(|(name, value)| name.as_str().len() + value.len() + 32);
        if lengths.sum::<usize>() > MOST_FIELDS {
            return Err(Refusal::TooManyFields);
        }
        let targeted = CacheControl::targeted(response).is_some();
        let lifetime = lifetime(&said, targeted, status, response, default_ttl, now);
        let age = initial_age(response, took, now);
        let Some(lifetime) = lifetime.filter(|lifetime| *lifetime > age) else {
            return Err(Refusal::NotFresh);
        };
        let stale = match said.forbids_stale() {
            true => StaleFor { grace: Some(Duration::ZERO), if_error: Some(Duration::ZERO) },
            false => StaleFor { grace: said.stale_while_revalidate, if_error: said.stale_if_error },
        };
        Ok(Self { age, lifetime, stale })
    }

    /// How long it is fresh from now on.
    pub(super) fn ttl(&self) -> Duration {
        self.lifetime.saturating_sub(self.age)
    }
}

/// §4.2.1, in the order of precedence.
fn lifetime(
    said: &CacheControl,
    targeted: bool,
    status: StatusCode,
    response: &HeaderMap,
    default_ttl: Option<Duration>,
    now: SystemTime,
) -> Option<Duration> {
    if let Some(lifetime) = said.s_maxage.or(said.max_age) {
        return Some(lifetime);
    }
    // RFC 9213 §2.2: a targeted field overrules also Expires.
    if !targeted && response.contains_key(header::EXPIRES) {
        let date = date(response, header::DATE).unwrap_or(now);
        // §5.3: what is no date, "0" above all, is in the past.
        let expires = date_of_one(response, header::EXPIRES);
        return Some(expires.and_then(|at| at.duration_since(date).ok()).unwrap_or(Duration::ZERO));
    }
    if !said.public && !is_heuristically_cacheable(status) {
        return None;
    }
    let tenth = || {
        let modified = date(response, header::LAST_MODIFIED)?;
        let date = date(response, header::DATE).unwrap_or(now);
        // §4.2.2: a tenth of the time in which it has not changed.
        Some((date.duration_since(modified).ok()? / 10).min(LONGEST_GUESS))
    };
    default_ttl.or_else(tenth)
}

/// §4.2.3. What has neither field comes from no server but from a handler of this process, and is
/// generated when that is done: then what it took is no part of the age, or what is slow and short-lived
/// would never be stored.
fn initial_age(response: &HeaderMap, took: Duration, now: SystemTime) -> Duration {
    let age = age_field(response);
    if age.is_none() && !response.contains_key(header::DATE) {
        return Duration::ZERO;
    }
    let apparent = date(response, header::DATE)
        .and_then(|date| now.duration_since(date).ok())
        .unwrap_or(Duration::ZERO);
    apparent.max(age.unwrap_or(Duration::ZERO) + took)
}

/// §5.1: the first member of a list counts, and what is no number is ignored.
fn age_field(headers: &HeaderMap) -> Option<Duration> {
    let first = headers.get(header::AGE)?.to_str().ok()?.split(',').next()?.trim();
    if first.is_empty() || !first.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(Duration::from_secs(first.parse().unwrap_or(1 << 31)))
}

/// The date that a field has, if it has one.
pub(super) fn date(headers: &HeaderMap, name: HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok()
}

/// None if there are several that differ (§4.2.1).
fn date_of_one(headers: &HeaderMap, name: HeaderName) -> Option<SystemTime> {
    let mut values = headers.get_all(&name).iter();
    let first = values.next()?;
    values.all(|value| value == first).then(|| date(headers, name)).flatten()
}

/// RFC 9110 §15.1.
fn is_heuristically_cacheable(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
}

/// Whether this cache knows what there is to know of caching a status.
fn understands(status: StatusCode) -> bool {
    is_heuristically_cacheable(status) || matches!(status.as_u16(), 302 | 303 | 307)
}

/// Parts (206), news of something stored (304), what comes before the answer (1xx), and failures of the
/// origin, which RFC 5861 §4 names: those pause the key instead.
fn never_stored(status: StatusCode) -> bool {
    status.is_informational() || matches!(status.as_u16(), 206 | 304) || is_failure(status)
}

/// RFC 5861 §4.
pub(super) fn is_failure(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502 | 503 | 504)
}

const LONGEST_GUESS: Duration = Duration::from_secs(24 * 3600);

/// In bytes, counted as RFC 9113 §6.5.2 has it.
const MOST_FIELDS: usize = 64 << 10;

/// Takes out of a response's fields what is for one connection or may not be stored (§3.1).
pub(super) fn strip(headers: &mut HeaderMap) {
    let nominated: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    let withheld: Vec<HeaderName> =
        CacheControl::of_response(headers).withheld().cloned().collect();
    for name in nominated.iter().chain(&withheld).chain(&OF_ONE_CONNECTION) {
        headers.remove(name);
    }
}

/// RFC 9110 §7.6.1, RFC 9111 §3.1. `Content-Length` too: the body's own is what counts.
const OF_ONE_CONNECTION: [HeaderName; 11] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-authentication-info"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::CONTENT_LENGTH,
];

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn rfc9111_4_2_3_the_way_here_counts_for_what_has_come_from_a_server() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(800_000_000);
        let took = Duration::from_secs(3);
        let age = |fields: &[(HeaderName, String)]| {
            let field = |(name, text): &(HeaderName, String)| {
                (name.clone(), HeaderValue::from_str(text).expect("a value"))
            };
            initial_age(&fields.iter().map(field).collect(), took, now).as_secs()
        };
        let date = |ago| (header::DATE, httpdate::fmt_http_date(now - Duration::from_secs(ago)));
        let told = |age: &str| (header::AGE, age.to_owned());
        assert_eq!(age(&[]), 0);
        assert_eq!(age(&[date(0)]), 3);
        assert_eq!(age(&[date(10)]), 10);
        assert_eq!(age(&[told("10")]), 13);
        assert_eq!(age(&[told("10"), date(20)]), 20);
        assert_eq!(age(&[told("x"), date(0)]), 3);
        let ahead = httpdate::fmt_http_date(now + Duration::from_secs(60));
        assert_eq!(age(&[(header::DATE, ahead)]), 3);
        assert!(age(&[told("99999999999999999999")]) > 1 << 30);
    }
}
