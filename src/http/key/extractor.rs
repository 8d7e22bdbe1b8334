//! The cache key of a request: method, scheme, host, path and query, and the part that the user adds.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, Uri, header, request::Parts};

use super::{
    authority::Authority,
    cache_key::{CacheKey, KeyWriter},
    sent_uri::SentUri,
};

/// Makes the keys of requests.
#[derive(Clone)]
pub(crate) struct KeyExtractor {
    pub(crate) sent_uri: SentUri,
    pub(crate) query: Query,
    /// Of requests that do not name their scheme.
    pub(crate) default_scheme: &'static str,
    pub(crate) part: Option<KeyPart>,
}

/// Makes the part of a key that the user adds; `None` if the request has no key.
pub(crate) type KeyPart = Arc<dyn Fn(&Parts) -> Option<String> + Send + Sync>;

/// How the query goes into the key.
#[derive(Clone, Debug)]
pub(crate) enum Query {
    AsSent,
    /// Parameters sorted by name, without the listed ones.
    Sorted {
        without: Vec<String>,
    },
}

/// Responses to authorized requests have keys of their own: others may be served what is stored of
/// them, but other rules decide whether they may be stored at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Access {
    Anonymous,
    Authorized,
}

impl KeyExtractor {
    /// `None` for a request that has no clear authority, or no key by the user's will. Written to `room`: a key is
    /// long to move, and every hit makes one.
    pub(crate) fn key<'a, B: 'static>(
        &self,
        request: &Parts,
        room: &'a mut CacheKey,
    ) -> Option<&'a CacheKey> {
        let sent = self.sent_uri.of(request);
        if !self.sent_uri.is_told::<B>() || !self.sent_uri.is_kept(sent, &request.uri) {
            return None;
        }
        let part = match &self.part {
            Some(part) => Some(part(request)?),
            None => None,
        };
        let authority = self.authority(sent, &request.headers)?;
        let access = Access::of(&request.headers);
        self.write(access, authority, sent, part.as_deref(), room);
        Some(room)
    }

    /// The keys under which the responses of a URL may be stored. `host` completes a relative URL.
    pub(crate) fn keys_of_url(
        &self,
        url: &Uri,
        host: Option<&str>,
        part: Option<&str>,
    ) -> Option<[CacheKey; 2]> {
        let authority = Authority::of_url(url, host, self.default_scheme)?;
        Some(self.write_both(authority, url, part))
    }

    /// The keys of what a request with an unsafe method has changed: its target, and the URLs of the same origin
    /// that the response names (RFC 9111 §4.4).
    pub(crate) fn changed(&self, request: &Parts, response: &HeaderMap) -> Vec<CacheKey> {
        let sent = self.sent_uri.of(request);
        let Some(own) = self.authority(sent, &request.headers) else { return Vec::new() };
        let part = match &self.part {
            Some(part) => match part(request).or_else(|| public_part(&**part, request)) {
                Some(part) => Some(part),
                None => return Vec::new(),
            },
            None => None,
        };
        let named = [header::LOCATION, header::CONTENT_LOCATION].map(|name| {
            let url: Uri = response.get(name)?.to_str().ok()?.parse().ok()?;
            self.is_of(own, &url).then_some(url)
        });
        let urls = named.iter().flatten().chain([sent]);
        urls.flat_map(|url| self.write_both(own, url, part.as_deref())).collect()
    }

    /// Makes the request of a load name its authority as its key does: the response is stored for all who name it
    /// in another way.
    pub(crate) fn name_as_keyed(&self, request: &mut Parts) {
        let authority = self.authority(self.sent_uri.of(request), &request.headers);
        let Some(canonical) = authority.map(|authority| authority.canonical()) else { return };
        rename(&mut request.uri, &canonical);
        self.sent_uri.rename(&mut request.extensions, |uri| rename(uri, &canonical));
        let is_other = |host: &HeaderValue| host.as_bytes() != canonical.as_bytes();
        if request.headers.get(header::HOST).is_some_and(is_other)
            && let Ok(host) = HeaderValue::from_str(&canonical)
        {
            request.headers.insert(header::HOST, host);
        }
    }

    /// Whether a URL in the response of an origin is one of its own.
    fn is_of(&self, origin: Authority<'_>, url: &Uri) -> bool {
        match (url.scheme(), url.authority()) {
            (None, None) => true,
            (Some(_), Some(_)) => {
                Authority::of_url(url, None, self.default_scheme).is_some_and(|url| url == origin)
            }
            _ => false,
        }
    }

    fn authority<'a>(&self, uri: &'a Uri, headers: &'a HeaderMap) -> Option<Authority<'a>> {
        Authority::of_request(uri, headers, self.default_scheme)
    }

    fn write_both(&self, authority: Authority<'_>, url: &Uri, part: Option<&str>) -> [CacheKey; 2] {
        [Access::Anonymous, Access::Authorized].map(|access| {
            let mut key = CacheKey::empty();
            self.write(access, authority, url, part, &mut key);
            key
        })
    }

    /// A line for each part; none can contain a line break.
    fn write(
        &self,
        access: Access,
        authority: Authority<'_>,
        url: &Uri,
        part: Option<&str>,
        to: &mut CacheKey,
    ) {
        let mut text = KeyWriter::new(to);
        // Only the response to a GET is stored; it answers HEAD as well.
        text.push(match access {
            Access::Anonymous => "GET\n",
            Access::Authorized => "GET authorized\n",
        });
        text.push(authority.scheme);
        text.push("\n");
        text.push_lowercase(authority.host);
        if let Some(port) = authority.port {
            text.push_port(port);
        }
        text.push("\n");
        text.push(match url.path() {
            "" => "/",
            path => path,
        });
        if let Some(query) = url.query() {
            self.query.write(query, &mut text);
        }
        if let Some(part) = part {
            write_part(part, &mut text);
        }
        text.finish();
    }
}

impl Default for KeyExtractor {
    fn default() -> Self {
        Self {
            sent_uri: SentUri::default(),
            query: Query::AsSent,
            default_scheme: "http",
            part: None,
        }
    }
}

/// The part that a request would have from a client that nobody knows: without credentials; if that is not enough,
/// also without what middleware has found out; if neither is, without all that it does not need.
fn public_part(part: &dyn Fn(&Parts) -> Option<String>, request: &Parts) -> Option<String> {
    let mut public = request.clone();
    public.method = Method::GET;
    public.headers.remove(header::COOKIE);
    public.headers.remove(header::AUTHORIZATION);
    if let Some(part) = part(&public) {
        return Some(part);
    }
    public.extensions.clear();
    if let Some(part) = part(&public) {
        return Some(part);
    }
    let host = public.headers.remove(header::HOST);
    public.headers.clear();
    public.headers.extend(host.map(|host| (header::HOST, host)));
    part(&public)
}

/// Gives an absolute URI another authority.
fn rename(uri: &mut Uri, authority: &str) {
    if uri.authority().is_none_or(|own| own.as_str() == authority) {
        return;
    }
    let mut parts = uri.clone().into_parts();
    parts.authority = authority.parse().ok();
    if let Ok(renamed) = Uri::from_parts(parts) {
        *uri = renamed;
    }
}

impl Access {
    fn of(request: &HeaderMap) -> Self {
        match request.contains_key(header::AUTHORIZATION) {
            true => Self::Authorized,
            false => Self::Anonymous,
        }
    }
}

impl Query {
    fn write(&self, query: &str, text: &mut KeyWriter<'_>) {
        let without = match self {
            Self::Sorted { without } if is_split_alike(query) => without,
            _ => {
                text.push("?");
                text.push(query);
                return;
            }
        };
        let mut pairs: Vec<&str> = query.split('&').filter(|pair| !pair.is_empty()).collect();
        pairs.retain(|pair| !without.iter().any(|name| name == name_of(pair)));
        // Stable: the order of the values of one name may have a meaning, and to some origins case has none.
        pairs.sort_by_key(|pair| name_of(pair).to_ascii_lowercase());
        for (at, pair) in pairs.iter().enumerate() {
            text.push(if at == 0 { "?" } else { "&" });
            text.push(pair);
        }
    }
}

/// Whether all origins find the same parameters in a query. Some take `;` for a separator, or decode before they
/// split; some read `a%62`, `a[0]` and `a.b` as other names. Such a query counts as sent, or one client could hide a
/// parameter from the key in one that is left out of it, or in the order of others.
fn is_split_alike(query: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let is_separator =
        |three: &[u8]| three.eq_ignore_ascii_case(b"%26") || three.eq_ignore_ascii_case(b"%3b");
    !query.contains(';')
        && !query.as_bytes().windows(3).any(is_separator)
        && query.split('&').all(|pair| name_of(pair).bytes().all(is_plain))
}

fn name_of(pair: &str) -> &str {
    pair.split('=').next().unwrap_or_default()
}

/// The only part that the HTTP parser has not checked, so the only one that may contain line breaks.
fn write_part(part: &str, text: &mut KeyWriter<'_>) {
    text.push("\n");
    for piece in part.split_inclusive('\n') {
        match piece.strip_suffix('\n') {
            Some(line) => {
                text.push(line);
                text.push("\n+");
            }
            None => text.push(piece),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn with_part(part: Option<&str>) -> KeyExtractor {
        let part = part.map(|part| {
            let part = part.to_owned();
            Arc::new(move |_: &Parts| Some(part.clone())) as KeyPart
        });
        KeyExtractor { part, ..KeyExtractor::default() }
    }

    fn key(keys: &KeyExtractor, uri: &str, host: Option<&str>) -> Option<String> {
        let mut request = Request::builder().uri(uri);
        if let Some(host) = host {
            request = request.header("host", host);
        }
        let parts = request.body(()).expect("a request").into_parts().0;
        keys.key::<()>(&parts, &mut CacheKey::empty()).map(|key| key.to_string())
    }

    fn plain(uri: &str, host: Option<&str>) -> Option<String> {
        key(&KeyExtractor::default(), uri, host)
    }

    #[test]
    fn one_resource_has_one_key_whatever_the_form_of_the_request() {
        let one = plain("/a?b=1", Some("Example.com")).expect("a key");
        assert_eq!(one, "GET\nhttp\nexample.com\n/a?b=1");
        for (uri, host) in [
            ("http://example.com/a?b=1", None),
            ("http://EXAMPLE.com:80/a?b=1", Some("example.com")),
            ("/a?b=1", Some("example.com:80")),
        ] {
            assert_eq!(plain(uri, host).as_ref(), Some(&one), "{uri} {host:?}");
        }
        assert_eq!(plain("http://h", None), plain("/", Some("h")));
    }

    #[test]
    fn other_resources_have_other_keys() {
        let all = [
            plain("/a", Some("h")),
            plain("/A", Some("h")),
            plain("/a?", Some("h")),
            plain("/a/", Some("h")),
            plain("/a", Some("h:8080")),
            plain("https://h/a", None),
            key(&with_part(Some("x")), "/a", Some("h")),
            key(&with_part(Some("x\n")), "/a", Some("h")),
            key(&with_part(Some("")), "/a", Some("h")),
        ];
        let distinct: std::collections::HashSet<_> = all.iter().flatten().collect();
        assert_eq!(distinct.len(), all.len());
    }

    #[test]
    fn a_request_without_a_clear_host_has_no_key() {
        assert_eq!(plain("/a", None), None);
        assert_eq!(plain("/a", Some("user@h")), None);
        assert_eq!(plain("/a", Some("h/evil")), None);
        assert_eq!(plain("http://user@h/a", None), None);
        for other in ["other.org", "h:8080", "user@h", ""] {
            assert_eq!(plain("http://h/a", Some(other)), None, "{other}");
        }
        let request = Request::builder().uri("/a").header("host", "a").header("host", "b");
        let parts = request.body(()).expect("a request").into_parts().0;
        assert_eq!(KeyExtractor::default().key::<()>(&parts, &mut CacheKey::empty()), None);
    }

    #[test]
    fn authorized_requests_have_keys_of_their_own() {
        let request = Request::builder().uri("/a").header("host", "h").header("authorization", "x");
        let parts = request.body(()).expect("a request").into_parts().0;
        let keys = KeyExtractor::default();
        let [anonymous, authorized] = keys.keys_of_url(&parts.uri, Some("h"), None).expect("keys");
        assert_eq!(keys.key::<()>(&parts, &mut CacheKey::empty()), Some(&authorized));
        assert_eq!(plain("/a", Some("h")).as_deref(), Some(&*anonymous));
        assert_eq!(&*authorized, "GET authorized\nhttp\nh\n/a");
    }

    #[test]
    fn only_urls_of_the_same_origin_have_keys_for_a_request() {
        let request = Request::builder().uri("/a").header("host", "h").body(()).expect("a request");
        let parts = request.into_parts().0;
        let extractor = with_part(Some("t"));
        let keys = |url: &str| {
            let mut response = HeaderMap::new();
            response.insert(header::LOCATION, url.parse().ok()?);
            let changed = extractor.changed(&parts, &response);
            // The target comes last.
            (changed.len() == 4).then(|| changed[0].to_string())
        };
        let own = key(&extractor, "/b?c", Some("h"));
        for same in ["/b?c", "http://h/b?c", "http://H:80/b?c#d"] {
            assert_eq!(keys(same), own, "{same}");
        }
        for other in
            ["https://h/b?c", "http://h:81/b?c", "http://i/b?c", "h", "i", "", "http://u@h/b?c"]
        {
            assert_eq!(keys(other), None, "{other}");
        }
    }

    #[test]
    fn a_query_may_be_sorted_and_cleaned() {
        let keys = KeyExtractor {
            query: Query::Sorted { without: vec!["utm_source".to_owned()] },
            ..KeyExtractor::default()
        };
        let one = key(&keys, "/a?b=2&a=1&utm_source=x&b=1", Some("h"));
        assert_eq!(one.as_deref(), Some("GET\nhttp\nh\n/a?a=1&b=2&b=1"));
        assert_eq!(one, key(&keys, "/a?a=1&&b=2&b=1", Some("h")));
        assert_ne!(one, key(&keys, "/a?a=1&b=1&b=2", Some("h")));
    }

    #[test]
    fn long_keys_are_bounded_and_still_differ() {
        let long = "x".repeat(10_000);
        let key = |end: &str| plain(&format!("/{long}{end}"), Some("h")).expect("a key");
        assert_eq!(key("a").len(), 65);
        assert_ne!(key("a"), key("b"));
        // Where hashing begins does not change what is hashed.
        let at = 256 - "GET\nhttp\nh\n/".len();
        let fits = plain(&format!("/{}", "y".repeat(at)), Some("h")).expect("a key");
        let over = plain(&format!("/{}", "y".repeat(at + 1)), Some("h")).expect("a key");
        assert_eq!((fits.len(), over.len()), (256, 65));
    }
}
