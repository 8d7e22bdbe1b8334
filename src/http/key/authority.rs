//! The scheme, host and port that a request addresses.

use http::{HeaderMap, Uri, header, uri};

/// What makes up an origin (RFC 6454).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Authority<'a> {
    pub(crate) scheme: &'a str,
    /// In the case in which it was sent.
    pub(crate) host: &'a str,
    /// `None`: the scheme's default.
    pub(crate) port: Option<u16>,
}

impl<'a> Authority<'a> {
    /// The authority of a request (RFC 9110 §4.3.1). `None` if it is missing or ambiguous: RFC 9112 §3.2.2
    /// prefers the target's authority to `Host`, but a handler may read either, and a response chosen by one
    /// client's `Host` must not be served to clients of the target.
    #[inline]
    pub(crate) fn of_request(
        target: &'a Uri,
        headers: &'a HeaderMap,
        default_scheme: &'a str,
    ) -> Option<Self> {
        let mut fields = headers.get_all(header::HOST).iter();
        let host = match (fields.next(), fields.next()) {
            (None, _) => None,
            (Some(field), None) => Some(field.to_str().ok()?),
            _ => return None,
        };
        Self::of_url(target, host, default_scheme)
    }

    /// The authority of a URL. `host` completes a relative one, and must be that of an absolute one.
    #[inline]
    pub(crate) fn of_url(
        url: &'a Uri,
        host: Option<&'a str>,
        default_scheme: &'a str,
    ) -> Option<Self> {
        let scheme = url.scheme_str().unwrap_or(default_scheme);
        let host = match host {
            Some(host) => Some(Self::new(scheme, host)?),
            None => None,
        };
        let Some(own) = url.authority() else { return host };
        let own = Self::new(scheme, own.as_str())?;
        host.is_none_or(|host| host == own).then_some(own)
    }

    /// As it stands in a key, and in the request of a load.
    pub(crate) fn canonical(&self) -> String {
        let host = self.host.to_ascii_lowercase();
        match self.port {
            Some(port) => format!("{host}:{port}"),
            None => host,
        }
    }

    /// Clients choose the scheme in HTTP/2, and in absolute URLs: others than these are of no resource here.
    #[inline]
    fn new(scheme: &'a str, text: &'a str) -> Option<Self> {
        if !matches!(scheme, "http" | "https") {
            return None;
        }
        let (host, port) = plain(text).or_else(|| parsed(text))?;
        let is_default = matches!((port, scheme), (Some(80), "http") | (Some(443), "https"));
        Some(Self { scheme, host, port: port.filter(|_| !is_default) })
    }
}

impl PartialEq for Authority<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.scheme == other.scheme
            && self.host.eq_ignore_ascii_case(other.host)
            && self.port == other.port
    }
}

/// As [`parsed`], for letters, digits, dots and dashes, perhaps with a port: what most clients send. It
/// allocates nothing, and is on the path of a hit.
fn plain(text: &str) -> Option<(&str, Option<u16>)> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    let (host, port) = match text.bytes().position(|byte| !is_plain(byte)) {
        None => (text, None),
        Some(at) => (&text[..at], Some(port(&text[at..])?)),
    };
    (!host.is_empty()).then_some((host, port))
}

fn parsed(text: &str) -> Option<(&str, Option<u16>)> {
    let authority: uri::Authority = text.parse().ok()?;
    // "user@host" is not a host.
    let host = text.get(..authority.host().len()).filter(|_| !text.contains('@'))?;
    match &text[host.len()..] {
        "" => Some((host, None)),
        rest => Some((host, Some(port(rest)?))),
    }
}

/// A port after its colon, in the one form that every server reads alike: others are no ports, or ports of which
/// each server makes what it likes.
fn port(text: &str) -> Option<u16> {
    let digits = text.strip_prefix(':')?;
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
    digits.parse().ok().filter(|_| is_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_hosts_are_read_as_the_parser_reads_them() {
        let texts = [
            "h", "H-1.x", "h:080", "h:80", "h:81", "h:", "h:+81", "h:99999", "[::1]:81", "h_1", "",
        ];
        let mut count = 0;
        for text in texts {
            let Some(plain) = plain(text) else { continue };
            assert_eq!(Some(plain), parsed(text), "{text}");
            count += 1;
        }
        assert_eq!(count, 4);
    }

    #[test]
    fn the_parser_reads_what_is_not_plain() {
        for (text, read) in [
            ("[::1]:81", Some(("[::1]", Some(81)))),
            ("h_1", Some(("h_1", None))),
            ("user@h", None),
            ("h/evil", None),
            ("h_1:99999", None),
            ("h_1:081", None),
            ("h_1:", None),
            ("[::1]:+81", None),
            ("", None),
        ] {
            assert_eq!(parsed(text), read, "{text}");
        }
    }
}
