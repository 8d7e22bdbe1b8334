//! What belongs to one connection, and how a message ends on it.

use http::{HeaderMap, HeaderName, HeaderValue, Version, header};

/// What `Connection` may not take away: what the message means to the next one, and to the cache (RFC 9110
/// §7.6.1).
const OF_THE_MESSAGE: [HeaderName; 12] = [
    header::HOST,
    header::AUTHORIZATION,
    header::CACHE_CONTROL,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_LOCATION,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    header::COOKIE,
    header::SET_COOKIE,
    header::TRANSFER_ENCODING,
    header::VARY,
];

/// Removes the fields of one connection, but how the body ends (RFC 9110 §7.6.1).
pub fn remove_nominated(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .filter(|name| !OF_THE_MESSAGE.contains(name))
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in [
        header::CONNECTION,
        HeaderName::from_static("keep-alive"),
        HeaderName::from_static("proxy-connection"),
        header::PROXY_AUTHORIZATION,
        header::TE,
        header::UPGRADE,
    ] {
        headers.remove(name);
    }
}

/// Leaves one way to tell the length of a response: by a length, or by the chunks that were read (RFC 9112 §6.3).
/// Beside a `Transfer-Encoding` a length counts for nothing. Neither does a response that is coded further
/// than this proxy can decode, or that has several lengths: it is refused.
pub fn take_framing(headers: &mut HeaderMap) -> Result<(), Unreadable> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        if codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
            return Err(Unreadable);
        }
        headers.remove(header::CONTENT_LENGTH);
        headers.remove(header::TRANSFER_ENCODING);
        return Ok(());
    }
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(length) = lengths.next().cloned() else { return Ok(()) };
    let is_number = !length.is_empty() && length.as_bytes().iter().all(u8::is_ascii_digit);
    if !is_number || lengths.any(|other| other != length) {
        return Err(Unreadable);
    }
    headers.insert(header::CONTENT_LENGTH, length);
    Ok(())
}

/// Nobody can tell where the body ends, or what it is.
#[derive(Debug)]
pub struct Unreadable;

/// RFC 9110 §7.6.3.
pub fn via(headers: &mut HeaderMap, received: Version) {
    let by = match received {
        Version::HTTP_10 => "1.0 cattleguard",
        Version::HTTP_2 => "2 cattleguard",
        _ => "1.1 cattleguard",
    };
    headers.append(header::VIA, HeaderValue::from_static(by));
}
