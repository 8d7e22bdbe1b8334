//! `Connection` in a request, and the fields of one connection (RFC 9110 §7.6.1).
//!
//! A client names in `Connection` what the next server must not see. What that server does not see must not
//! have selected what is stored, so the named fields leave the request before its key is made: neither the key
//! nor the variant nor the user's part of the key knows them.

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// Takes off the fields that `Connection` names. What it says of the connection itself stays: a request that
/// only the origin can answer may ask for an upgrade.
#[inline]
pub(crate) fn take_off_named(request: &mut HeaderMap) {
    let is_plain = |value: &HeaderValue| {
        PLAIN.iter().any(|plain| value.as_bytes().eq_ignore_ascii_case(plain.as_bytes()))
    };
    if request.get_all(header::CONNECTION).iter().any(|value| !is_plain(value)) {
        take_off(request);
    }
}

/// Whether a field is for one connection, so that no load sends it.
pub(crate) fn is_of_one(name: &HeaderName) -> bool {
    OF_ONE.contains(name)
}

/// Removes the fields of one connection from the request of a load, which is for all who ask.
pub(crate) fn remove_of_one(request: &mut HeaderMap) {
    for name in &OF_ONE {
        request.remove(name);
    }
}

#[cold]
fn take_off(request: &mut HeaderMap) {
    let values: Vec<_> = request.get_all(header::CONNECTION).iter().cloned().collect();
    request.remove(header::CONNECTION);
    for value in values {
        for option in value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            // What is no token names nothing.
            let Ok(name) = HeaderName::from_bytes(option) else { continue };
            if name.as_str() == "close" || is_of_one(&name) {
                request.append(header::CONNECTION, name.into());
            } else if !is_for_all(&name) {
                request.remove(name);
            }
        }
    }
}

/// Fields that decide who may have a response, and what is asked for. A request without them is another one.
fn is_for_all(name: &HeaderName) -> bool {
    matches!(*name, header::HOST | header::CACHE_CONTROL | header::AUTHORIZATION)
        || name.as_str().starts_with("content-")
}

/// What most clients send.
const PLAIN: [&str; 3] = ["keep-alive", "close", "upgrade"];

const OF_ONE: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

#[cfg(test)]
mod tests {
    use super::*;

    fn left_of(fields: &[(&'static str, &'static str)]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        take_off_named(&mut headers);
        let text = |(name, value): (&HeaderName, &HeaderValue)| {
            format!("{name}: {}", value.to_str().expect("text"))
        };
        headers.iter().map(text).collect()
    }

    #[test]
    fn named_fields_leave_and_options_stay() {
        let fields = [
            ("connection", "Upgrade, X-A"),
            ("connection", "close,,x-b , \"x-d\""),
            ("upgrade", "websocket"),
            ("x-a", "1"),
            ("x-a", "2"),
            ("x-b", "1"),
            ("x-c", "1"),
        ];
        let mut left = left_of(&fields);
        left.sort();
        let expected = ["connection: close", "connection: upgrade", "upgrade: websocket", "x-c: 1"];
        assert_eq!(left, expected);
    }

    #[test]
    fn what_makes_a_request_what_it_is_stays() {
        for name in ["host", "cache-control", "authorization", "content-type", "content-length"] {
            for named in [name.to_owned(), name.to_uppercase()] {
                let named = &*Box::leak(named.into_boxed_str());
                let left = left_of(&[("connection", named), (name, "1")]);
                assert_eq!(left, [format!("{name}: 1")]);
            }
        }
        assert_eq!(left_of(&[("connection", ":authority"), ("x-a", "1")]), ["x-a: 1"]);
        assert_eq!(left_of(&[("connection", "Keep-Alive")]), ["connection: Keep-Alive"]);
    }
}
