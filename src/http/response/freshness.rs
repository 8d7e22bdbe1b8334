//! How long a response is fresh, and how old it is on arrival (RFC 9111 §4.2).

use std::time::Duration;

use http::{HeaderMap, StatusCode, header};

use super::{super::fields::date, head::Head};

/// How long a response is fresh from its generation on (§4.2.1), in the order of precedence. `None` if
/// nothing says so.
pub(crate) fn lifetime(
    request: &HeaderMap,
    head: &Head,
    default_ttl: Option<Duration>,
) -> Option<Duration> {
    let (headers, directives) = (&head.parts.headers, &head.cache_control);
    if let Some(lifetime) = directives.s_maxage.or(directives.max_age) {
        return Some(lifetime);
    }
    let generated = || date::first(headers, header::DATE).unwrap_or(head.received);
    if !directives.is_targeted && headers.contains_key(header::EXPIRES) {
        // §5.3: anything but a date, "0" above all, is in the past.
        let expires = date::unanimous(headers, header::EXPIRES);
        let lifetime = expires.and_then(|expires| expires.duration_since(generated()).ok());
        return Some(lifetime.unwrap_or(Duration::ZERO));
    }
    // Stricter than §4.2.2: what a client says of itself may have made the response.
    let is_personal =
        request.contains_key(header::COOKIE) || request.contains_key(header::AUTHORIZATION);
    if !directives.public && (is_personal || !is_heuristically_cacheable(head.parts.status)) {
        return None;
    }
    default_ttl.filter(|_| has_default_ttl(head.parts.status)).or_else(|| {
        let modified = date::first(headers, header::LAST_MODIFIED)?;
        // §4.2.2: a tenth of the time since the last change.
        Some((generated().duration_since(modified).ok()? / 10).min(MAX_HEURISTIC))
    })
}

/// Whether the response says itself how long it is fresh.
pub(crate) fn is_explicit(head: &Head) -> bool {
    let directives = &head.cache_control;
    let expires = !directives.is_targeted && head.parts.headers.contains_key(header::EXPIRES);
    directives.s_maxage.or(directives.max_age).is_some() || expires
}

/// The age of a response on arrival (§4.2.3). A response with neither `Date` nor `Age` comes from a
/// handler in this process, and is generated when the handler is done: the time that it took does not
/// count, or a slow response with a short lifetime would never be stored.
pub(crate) fn initial_age(head: &Head) -> Duration {
    let headers = &head.parts.headers;
    let age = age_field(headers);
    if age.is_none() && !headers.contains_key(header::DATE) {
        return Duration::ZERO;
    }
    let apparent = date::first(headers, header::DATE)
        .and_then(|date| head.received.duration_since(date).ok())
        .unwrap_or(Duration::ZERO);
    apparent.max(age.unwrap_or(Duration::ZERO).saturating_add(head.took))
}

/// §5.1: the first member of a list counts, and a malformed number is ignored. §1.2.2: a number beyond 2³¹
/// counts as that.
fn age_field(headers: &HeaderMap) -> Option<Duration> {
    let first = headers.get(header::AGE)?.to_str().ok()?.split(',').next()?.trim();
    if first.is_empty() || !first.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let seconds: u64 = first.parse().unwrap_or(u64::MAX);
    Some(Duration::from_secs(seconds.min(1 << 31)))
}

/// RFC 9110 §15.1.
pub(crate) fn is_heuristically_cacheable(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
}

/// Whether a status says something about the resource, and not about the request.
fn has_default_ttl(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 301 | 308 | 404 | 410)
}

const MAX_HEURISTIC: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use http::{HeaderName, Response};

    use super::*;

    #[test]
    fn rfc9111_1_2_2_an_age_beyond_any_number_is_as_old_as_can_be() {
        for text in ["2147483649", "18446744073709551615", "18446744073709551616", &"9".repeat(99)]
        {
            let response = Response::builder().header(header::AGE, text).body(());
            let parts = response.expect("a response").into_parts().0;
            let age = initial_age(&Head::new(parts, Duration::MAX, SystemTime::now()));
            assert_eq!(age, Duration::MAX, "{text}");
            let response = Response::builder().header(header::AGE, text).body(());
            let parts = response.expect("a response").into_parts().0;
            let age = initial_age(&Head::new(parts, Duration::ZERO, SystemTime::now()));
            assert_eq!(age, Duration::from_secs(1 << 31), "{text}");
        }
    }

    #[test]
    fn rfc9111_4_2_3_the_transfer_counts_for_responses_from_a_server() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(800_000_000);
        let age = |fields: &[(HeaderName, String)]| {
            let mut response = Response::builder();
            for (name, text) in fields {
                response = response.header(name, text);
            }
            let parts = response.body(()).expect("a response").into_parts().0;
            initial_age(&Head::new(parts, Duration::from_secs(3), now)).as_secs()
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
