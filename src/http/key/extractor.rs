//! The cache key of a request: method, scheme, host, path and query, and the part that the user adds.

use std::sync::Arc;

use http::{HeaderMap, Uri, header, request::Parts};

use super::{
    authority::Authority,
    cache_key::{CacheKey, KeyWriter},
};

/// Makes the keys of requests.
#[derive(Clone)]
pub(crate) struct KeyExtractor {
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
    /// `None` for a request that has no clear authority, or no key by the user's will.
    pub(crate) fn key(&self, request: &Parts) -> Option<CacheKey> {
        let part = match &self.part {
            Some(part) => Some(part(request)?),
            None => None,
        };
        let authority = self.authority(request)?;
        let access = Access::of(&request.headers);
        Some(self.write(access, authority, &request.uri, part.as_deref()))
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

    /// The keys of a URL that the response to `request` names. `None` if the URL is of another origin (RFC
    /// 9111 §4.4).
    pub(crate) fn keys_of_same_origin(&self, url: &Uri, request: &Parts) -> Option<[CacheKey; 2]> {
        let own = self.authority(request)?;
        match (url.scheme(), url.authority()) {
            (None, None) => {}
            (Some(_), Some(_)) if Authority::of_url(url, None, self.default_scheme)? == own => {}
            _ => return None,
        }
        let part = self.part.as_ref().and_then(|part| part(request));
        Some(self.write_both(own, url, part.as_deref()))
    }

    fn authority<'a>(&self, request: &'a Parts) -> Option<Authority<'a>> {
        Authority::of_request(&request.uri, &request.headers, self.default_scheme)
    }

    fn write_both(&self, authority: Authority<'_>, url: &Uri, part: Option<&str>) -> [CacheKey; 2] {
        [Access::Anonymous, Access::Authorized]
            .map(|access| self.write(access, authority, url, part))
    }

    /// A line for each part; none can contain a line break. Inlined: a key is long to move, and every hit makes one.
    #[inline(always)]
    fn write(
        &self,
        access: Access,
        authority: Authority<'_>,
        url: &Uri,
        part: Option<&str>,
    ) -> CacheKey {
        let mut text = KeyWriter::new();
        // Only the response to a GET is stored; it answers HEAD as well.
        text.push(match access {
            Access::Anonymous => "GET\n",
            Access::Authorized => "GET authorized\n",
        });
        text.push_lowercase(authority.scheme);
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
        text.finish()
    }
}

impl Default for KeyExtractor {
    fn default() -> Self {
        Self { query: Query::AsSent, default_scheme: "http", part: None }
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
    fn write(&self, query: &str, text: &mut KeyWriter) {
        let Self::Sorted { without } = self else {
            text.push("?");
            text.push(query);
            return;
        };
        let name = |pair: &str| pair.split('=').next().unwrap_or_default().to_owned();
        let mut pairs: Vec<&str> = query.split('&').filter(|pair| !pair.is_empty()).collect();
        pairs.retain(|pair| !without.contains(&name(pair)));
        // Stable: the order of the values of one name may have a meaning.
        pairs.sort_by_key(|pair| name(pair));
        for (at, pair) in pairs.iter().enumerate() {
            text.push(if at == 0 { "?" } else { "&" });
            text.push(pair);
        }
    }
}

/// The only part that the HTTP parser has not checked, so the only one that may contain line breaks.
fn write_part(part: &str, text: &mut KeyWriter) {
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
        keys.key(&parts).map(|key| key.to_string())
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
        assert_eq!(KeyExtractor::default().key(&parts), None);
    }

    #[test]
    fn authorized_requests_have_keys_of_their_own() {
        let request = Request::builder().uri("/a").header("host", "h").header("authorization", "x");
        let parts = request.body(()).expect("a request").into_parts().0;
        let keys = KeyExtractor::default();
        let [anonymous, authorized] = keys.keys_of_url(&parts.uri, Some("h"), None).expect("keys");
        assert_eq!(keys.key(&parts), Some(authorized));
        assert_eq!(plain("/a", Some("h")).as_deref(), Some(&*anonymous));
        assert_eq!(&*authorized, "GET authorized\nhttp\nh\n/a");
    }

    #[test]
    fn only_urls_of_the_same_origin_have_keys_for_a_request() {
        let request = Request::builder().uri("/a").header("host", "h").body(()).expect("a request");
        let parts = request.into_parts().0;
        let extractor = with_part(Some("t"));
        let keys = |url: &str| {
            let url = url.parse().ok()?;
            extractor.keys_of_same_origin(&url, &parts).map(|[plain, _]| plain.to_string())
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
