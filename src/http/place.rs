//! Where a request is to go.

use http::{HeaderMap, HeaderValue, Uri, header, request::Parts, uri::Authority};

/// An origin (RFC 6454): scheme, host and port.
pub(super) struct Place<'a> {
    pub(super) scheme: &'a str,
    pub(super) authority: Authority,
    /// `None`: the scheme's own.
    pub(super) port: Option<u16>,
}

impl<'a> Place<'a> {
    /// Where a request is to go (RFC 9110 §4.3.1). `None` if it does not say so, or several things: RFC 9112
    /// §3.2.2 has the target's authority go over `Host`, but a handler may look at either, and what one
    /// client gets for its `Host` is not for those who ask for the target.
    pub(super) fn of(target: &'a Uri, headers: &HeaderMap, https: bool) -> Option<Self> {
        let scheme = match target.scheme_str() {
            Some(scheme) => scheme,
            None if https => "https",
            None => "http",
        };
        let place = |authority: Authority| {
            let port = port_beside(scheme, authority.port_u16());
            // "user@host" is no host.
            (!authority.as_str().contains('@')).then_some(Place { scheme, authority, port })
        };
        let mut fields = headers.get_all(header::HOST).iter();
        let field = match (fields.next(), fields.next()) {
            (Some(field), None) => Some(place(field.to_str().ok()?.parse().ok()?)?),
            (None, _) => None,
            _ => return None,
        };
        let Some(authority) = target.authority() else { return field };
        let said = place(authority.clone())?;
        field.is_none_or(|field| field == said).then_some(said)
    }
}

impl PartialEq for Place<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.scheme == other.scheme
            && self.authority.host().eq_ignore_ascii_case(other.authority.host())
            && self.port == other.port
    }
}

/// As [`Place::of`], for what most clients send, and without an allocation.
pub(super) fn plain_place(
    request: &Parts,
    https: bool,
) -> Option<(&'static str, &str, Option<u16>)> {
    let mut fields = request.headers.get_all(header::HOST).iter();
    let (None, Some(field), None) = (request.uri.authority(), fields.next(), fields.next()) else {
        return None;
    };
    let scheme = if https { "https" } else { "http" };
    let (host, port) = plain(field)?;
    Some((scheme, host, port_beside(scheme, port)))
}

/// Letters, digits, dots and dashes, and perhaps a port.
fn plain(host: &HeaderValue) -> Option<(&str, Option<u16>)> {
    let text = host.to_str().ok()?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    let (name, port) = match text.bytes().position(|byte| !is_plain(byte)) {
        None => (text, None),
        Some(at) => {
            let port = text[at..].strip_prefix(':')?;
            let digits = port.bytes().all(|byte| byte.is_ascii_digit());
            (&text[..at], Some(port.parse().ok().filter(|_| digits)?))
        }
    };
    (!name.is_empty()).then_some((name, port))
}

/// `None`: the scheme's own.
fn port_beside(scheme: &str, port: Option<u16>) -> Option<u16> {
    match (port, scheme) {
        (Some(80), "http") | (Some(443), "https") => None,
        (port, _) => port,
    }
}
