//! HTTP dates (RFC 9110 §5.6.7).

use std::time::SystemTime;

use http::{HeaderMap, HeaderName, HeaderValue};

/// The date in the first line of a field.
pub(crate) fn first(headers: &HeaderMap, name: HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok()
}

/// The date of a field that has one line; `None` if there are several.
pub(crate) fn single(headers: &HeaderMap, name: HeaderName) -> Option<SystemTime> {
    let mut values = headers.get_all(&name).iter();
    values.next()?;
    values.next().is_none().then(|| first(headers, name)).flatten()
}

/// The date of a field all lines of which are equal; `None` if they differ (RFC 9111 §4.2.1).
pub(crate) fn unanimous(headers: &HeaderMap, name: HeaderName) -> Option<SystemTime> {
    let mut values = headers.get_all(&name).iter();
    let value = values.next()?;
    values.all(|other| other == value).then(|| first(headers, name)).flatten()
}

pub(crate) fn value(at: SystemTime) -> HeaderValue {
    HeaderValue::from_str(&httpdate::fmt_http_date(at))
        .unwrap_or(HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"))
}
