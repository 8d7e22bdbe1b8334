//! A client's request, made unambiguous before the cache sees it: what is keyed is what is forwarded.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version, header, request::Parts,
    uri::Authority,
};

use crate::hop;

/// What a client is answered whose request goes nowhere.
pub type Refusal = (StatusCode, &'static str);

const NO_HOST: Refusal = (StatusCode::BAD_REQUEST, "not one valid host");

/// Fields by which a client would choose a response that others get from the cache. Whoever stands in front of
/// this proxy and may send them is not known to it.
const OF_STRANGERS: [HeaderName; 7] = [
    header::FORWARDED,
    HeaderName::from_static("x-original-host"),
    HeaderName::from_static("x-original-url"),
    HeaderName::from_static("x-rewrite-url"),
    HeaderName::from_static("x-host"),
    HeaderName::from_static("x-http-host-override"),
    HeaderName::from_static("x-real-ip"),
];

/// A GET is a GET.
const METHOD_OVERRIDES: [HeaderName; 3] = [
    HeaderName::from_static("x-http-method-override"),
    HeaderName::from_static("x-http-method"),
    HeaderName::from_static("x-method-override"),
];

pub fn clarify(request: &mut Parts) -> Result<(), Refusal> {
    // A cache does not tunnel.
    if request.method == Method::CONNECT {
        return Err((StatusCode::NOT_IMPLEMENTED, "no tunnels through this proxy"));
    }
    if let Some(host) = host(request)? {
        request.headers.insert(header::HOST, host);
    }
    // The scheme is that of the connection, whatever a client of HTTP/2 says.
    if request.uri.authority().is_some() {
        let path = request.uri.path_and_query().cloned();
        request.uri = path.map(Uri::from).unwrap_or_default();
    }
    hop::remove_nominated(&mut request.headers);
    join_cookies(&mut request.headers);
    remove_those_of_strangers(request);
    count_forwards(request)
}

/// The one host that a request names, in one spelling. Only HTTP/1.0 may do without.
fn host(request: &Parts) -> Result<Option<HeaderValue>, Refusal> {
    let mut fields = request.headers.get_all(header::HOST).iter();
    let (field, second) = (fields.next(), fields.next());
    if second.is_some() {
        return Err(NO_HOST);
    }
    let field = field.map(|field| field.to_str().ok().and_then(canonical).ok_or(NO_HOST));
    let target = request.uri.authority();
    let target = target.map(|target| canonical(target.as_str()).ok_or(NO_HOST));
    let host = match (target.transpose()?, field.transpose()?) {
        // RFC 9113 §8.3.1. In HTTP/1 the target counts (RFC 9112 §3.2.2).
        (Some(target), Some(field)) if target != field && request.version == Version::HTTP_2 => {
            return Err(NO_HOST);
        }
        (Some(host), _) | (None, Some(host)) => host,
        (None, None) if request.version < Version::HTTP_11 => return Ok(None),
        (None, None) => return Err(NO_HOST),
    };
    HeaderValue::try_from(host).map(Some).map_err(|_| NO_HOST)
}

/// A host and its port in one spelling: in lower case, without the port that is the default.
fn canonical(text: &str) -> Option<String> {
    let authority: Authority = text.parse().ok()?;
    let host = authority.host();
    // Also not after a user.
    let port = text.strip_prefix(host).filter(|_| !host.is_empty())?;
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => 80,
        Some("") => 80,
        Some(digits) if digits.bytes().all(|digit| digit.is_ascii_digit()) => {
            digits.parse::<u16>().ok()?
        }
        _ => return None,
    };
    let host = host.to_ascii_lowercase();
    Some(if port == 80 { host } else { format!("{host}:{port}") })
}

/// RFC 9113 §8.2.3: HTTP/2 may split a cookie field, HTTP/1 may not.
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(header::COOKIE).iter().nth(1).is_none() {
        return;
    }
    let crumbs: Vec<_> =
        headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(header::COOKIE, joined);
    }
}

fn remove_those_of_strangers(request: &mut Parts) {
    let is_forwarded = |name: &&HeaderName| name.as_str().starts_with("x-forwarded-");
    let forwarded: Vec<_> = request.headers.keys().filter(is_forwarded).cloned().collect();
    for name in forwarded.iter().chain(&OF_STRANGERS) {
        request.headers.remove(name);
    }
    if request.method == Method::GET || request.method == Method::HEAD {
        for name in METHOD_OVERRIDES {
            request.headers.remove(name);
        }
    }
}

/// RFC 9110 §7.6.2.
fn count_forwards(request: &mut Parts) -> Result<(), Refusal> {
    if request.method != Method::TRACE && request.method != Method::OPTIONS {
        return Ok(());
    }
    let Some(left) = request.headers.get(header::MAX_FORWARDS) else { return Ok(()) };
    let left: Option<u64> = left.to_str().ok().and_then(|left| left.parse().ok());
    match left {
        None => Err((StatusCode::BAD_REQUEST, "not a number of forwards")),
        Some(0) if request.method == Method::OPTIONS => Err((StatusCode::OK, "a caching proxy")),
        Some(0) => Err((StatusCode::METHOD_NOT_ALLOWED, "this proxy does not trace")),
        Some(left) => {
            request.headers.insert(header::MAX_FORWARDS, HeaderValue::from(left - 1));
            Ok(())
        }
    }
}
