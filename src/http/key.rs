//! The cache key of a request (RFC 9111 §2): method, scheme, host, path and query, and what the user adds.

use std::fmt::Write;

use arrayvec::ArrayString;
use http::{HeaderMap, HeaderValue, Request, Uri, header, request::Parts, uri::Scheme};
use sha2::{Digest, Sha256};

use super::place::{Place, plain_place};

/// Makes the keys of requests.
#[derive(Clone, Debug, Default)]
pub(super) struct Keys {
    pub(super) query: Query,
    /// For requests that do not say it themselves.
    pub(super) https: bool,
}

/// What of the query belongs to the key.
#[derive(Clone, Debug, Default)]
pub(super) enum Query {
    /// All of it, as sent.
    #[default]
    AsSent,
    /// Parameters in order of their names, without those that are dropped.
    Sorted { without: Vec<String> },
}

/// A key, spelt where it needs no room of its own. A line for each part, which has no line break itself.
pub(super) type Spelt = ArrayString<LONGEST>;

/// Longer keys are hashed.
pub(super) const LONGEST: usize = 256;

impl Keys {
    /// `None` where a request does not say clearly what it asks for.
    pub(super) fn of(&self, request: &Parts, extra: Option<&str>) -> Option<Spelt> {
        let parsed;
        let (scheme, host, port) = match plain_place(request, self.https) {
            Some(plain) => plain,
            None => {
                parsed = Place::of(&request.uri, &request.headers, self.https)?;
                (parsed.scheme, parsed.authority.host(), parsed.port)
            }
        };
        let path = match request.uri.path() {
            "" => "/",
            path => path,
        };
        let mut text = Lines::new();
        // Only GET is stored; what is stored answers HEAD as well.
        text.push("GET");
        // What is stored for an authorized request others may have too, but whether a response may be
        // stored at all is another question for these.
        if request.headers.contains_key(header::AUTHORIZATION) {
            text.push(" authorized");
        }
        text.push("\n");
        text.push_lower(scheme);
        text.push("\n");
        text.push_lower(host);
        if let Some(port) = port {
            text.push_number(port);
        }
        text.push("\n");
        text.push(path);
        match (&self.query, request.uri.query()) {
            (_, None) => {}
            (Query::AsSent, Some(query)) => {
                text.push("?");
                text.push(query);
            }
            (Query::Sorted { without }, Some(query)) => {
                let name = |pair: &str| pair.split('=').next().unwrap_or_default().to_owned();
                let mut pairs: Vec<&str> =
                    query.split('&').filter(|pair| !pair.is_empty()).collect();
                pairs.retain(|pair| !without.contains(&name(pair)));
                // Stable: the order of one name's values may have a meaning.
                pairs.sort_by_key(|pair| name(pair));
                for (at, pair) in pairs.iter().enumerate() {
                    text.push(if at == 0 { "?" } else { "&" });
                    text.push(pair);
                }
            }
        }
        if let Some(extra) = extra {
            // The only part that others than the HTTP parser vouch for.
            text.push("\n");
            for piece in extra.split_inclusive('\n') {
                match piece.strip_suffix('\n') {
                    Some(line) => {
                        text.push(line);
                        text.push("\n+");
                    }
                    None => text.push(piece),
                }
            }
        }
        Some(text.finish())
    }

    /// The keys under which a URL may be stored; a relative one is of `host`.
    pub(super) fn of_url(
        &self,
        url: &Uri,
        host: Option<&str>,
        extra: Option<&str>,
    ) -> Option<[Spelt; 2]> {
        let mut request = Request::builder().uri(url.clone());
        if let Some(host) = host {
            request = request.header(header::HOST, host);
        }
        let mut parts = request.body(()).ok()?.into_parts().0;
        let plain = self.of(&parts, extra)?;
        parts.headers.insert(header::AUTHORIZATION, HeaderValue::from_static(""));
        Some([plain, self.of(&parts, extra)?])
    }

    /// The keys of a URL that a response to `request` names, if it is of the same origin (RFC 9111 §4.4).
    pub(super) fn of_same_origin(
        &self,
        url: &Uri,
        request: &Parts,
        extra: Option<&str>,
    ) -> Option<[Spelt; 2]> {
        let own = Place::of(&request.uri, &request.headers, self.https)?;
        match (url.scheme(), url.authority()) {
            (None, None) => {}
            (Some(_), Some(_)) if Place::of(url, &HeaderMap::new(), self.https)? == own => {}
            _ => return None,
        }
        let mut absolute = url.clone().into_parts();
        absolute.scheme = Some(Scheme::try_from(own.scheme).ok()?);
        absolute.authority = Some(own.authority);
        self.of_url(&Uri::from_parts(absolute).ok()?, None, extra)
    }
}

/// The key of a tag's epoch, or of that of all tags. No URL's key begins like this.
pub(super) fn of_tag(tag: Option<&str>) -> Spelt {
    let mut text = Lines::new();
    text.push("tag");
    if let Some(tag) = tag {
        text.push("\n");
        text.push(tag);
    }
    text.finish()
}

/// The key under which those meet who ask for `primary` anew.
pub(super) fn of_reload(primary: &str) -> Spelt {
    of_variant(primary, 0, b"reload")
}

/// Text that is kept as it is while it is short, and hashed when it gets long.
struct Lines {
    short: Spelt,
    long: Option<Sha256>,
}

impl Lines {
    fn new() -> Self {
        Self { short: Spelt::new(), long: None }
    }

    #[inline]
    fn push(&mut self, text: &str) {
        match &mut self.long {
            Some(hash) => hash.update(text),
            None if self.short.try_push_str(text).is_err() => {
                let mut hash = Sha256::new();
                hash.update(self.short.as_bytes());
                hash.update(text);
                self.long = Some(hash);
            }
            None => {}
        }
    }

    fn push_lower(&mut self, text: &str) {
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            self.push(&text.to_ascii_lowercase());
        } else {
            self.push(text);
        }
    }

    fn push_number(&mut self, port: u16) {
        let mut text = ArrayString::<8>::new();
        // Six characters at most.
        let _ = write!(text, ":{port}");
        self.push(&text);
    }

    fn finish(self) -> Spelt {
        let Some(hash) = self.long else { return self.short };
        let mut spelt = Spelt::new();
        // No key of the other kind begins like this.
        let _ = spelt.try_push_str("#");
        push_hex(&mut spelt, &hash.finalize());
        spelt
    }
}

/// The key of one variant of `primary`, under one of its generations.
pub(super) fn of_variant(primary: &str, generation: u64, selected_by: &[u8]) -> Spelt {
    if let Some(short) = short_variant(primary, generation, selected_by) {
        return short;
    }
    let mut hash = Sha256::new();
    hash.update((primary.len() as u64).to_be_bytes());
    hash.update(primary);
    hash.update(generation.to_be_bytes());
    hash.update(selected_by);
    let mut spelt = Spelt::new();
    let _ = spelt.try_push_str("~");
    push_hex(&mut spelt, &hash.finalize());
    spelt
}

/// Where there is room for all of it: a hit is to make no hash. The first two parts have one length each, and
/// a line break follows them, so nothing runs into another, or looks like a hash.
fn short_variant(primary: &str, generation: u64, selected_by: &[u8]) -> Option<Spelt> {
    let selected_by = std::str::from_utf8(selected_by).ok()?;
    let mut spelt = Spelt::new();
    spelt.try_push('~').ok()?;
    push_hex(&mut spelt, &generation.to_be_bytes());
    push_hex(&mut spelt, &u16::try_from(primary.len()).ok()?.to_be_bytes());
    spelt.try_push('\n').ok()?;
    spelt.try_push_str(primary).ok()?;
    spelt.try_push_str(selected_by).ok()?;
    Some(spelt)
}

/// By hand: a variant's key is made for every hit.
fn push_hex(spelt: &mut Spelt, bytes: &[u8]) {
    let digit = |nibble: u8| b"0123456789abcdef"[usize::from(nibble)];
    let mut text = [0; 64];
    for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
        pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 0xf)]);
    }
    // 32 bytes at most, and digits are text; a hash fits in any case.
    let _ = std::str::from_utf8(&text[..bytes.len() * 2]).map(|text| spelt.try_push_str(text));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(keys: &Keys, uri: &str, host: Option<&str>, extra: Option<&str>) -> Option<String> {
        let mut request = Request::builder().uri(uri);
        if let Some(host) = host {
            request = request.header("host", host);
        }
        let parts = request.body(()).expect("a request").into_parts().0;
        keys.of(&parts, extra).map(|key| key.to_string())
    }

    fn plain(uri: &str, host: Option<&str>) -> Option<String> {
        key(&Keys::default(), uri, host, None)
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
    fn the_short_way_to_a_key_leads_where_the_long_one_does() {
        let keys = Keys::default();
        let ways = [
            "h", "H-1.x", "h:080", "h:80", "h:81", "h:", "h:+81", "h:99999", "[::1]:81", "h_1", "",
        ];
        let mut short = 0;
        for host in ways {
            let request = Request::builder().uri("/").header("host", host).body(());
            let parts = request.expect("a request").into_parts().0;
            let Some((scheme, name, port)) = plain_place(&parts, keys.https) else { continue };
            let long = Place::of(&parts.uri, &parts.headers, keys.https).expect("a place");
            assert_eq!((scheme, name, port), (long.scheme, long.authority.host(), long.port));
            short += 1;
        }
        assert_eq!(short, 5);
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
            key(&Keys::default(), "/a", Some("h"), Some("x")),
            key(&Keys::default(), "/a", Some("h"), Some("x\n")),
            key(&Keys::default(), "/a", Some("h"), Some("")),
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
        assert_eq!(Keys::default().of(&parts, None), None);
    }

    #[test]
    fn only_urls_of_the_same_origin_have_keys_for_a_request() {
        let request = Request::builder().uri("/a").header("host", "h").body(()).expect("a request");
        let parts = request.into_parts().0;
        let keys = |url: &str| {
            let url = url.parse().ok()?;
            Keys::default()
                .of_same_origin(&url, &parts, Some("t"))
                .map(|[plain, _]| plain.to_string())
        };
        let own = key(&Keys::default(), "/b?c", Some("h"), Some("t"));
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
        let keys = Keys {
            query: Query::Sorted { without: vec!["utm_source".to_owned()] },
            ..Keys::default()
        };
        let one = key(&keys, "/a?b=2&a=1&utm_source=x&b=1", Some("h"), None);
        assert_eq!(one.as_deref(), Some("GET\nhttp\nh\n/a?a=1&b=2&b=1"));
        assert_eq!(one, key(&keys, "/a?a=1&&b=2&b=1", Some("h"), None));
        assert_ne!(one, key(&keys, "/a?a=1&b=1&b=2", Some("h"), None));
    }

    #[test]
    fn long_keys_are_bounded_and_still_differ() {
        let long = "x".repeat(10_000);
        let key = |end: &str| plain(&format!("/{long}{end}"), Some("h")).expect("a key");
        assert_eq!(key("a").len(), 65);
        assert_ne!(key("a"), key("b"));
        // The length at which it is hashed makes no difference to what is hashed.
        let at = LONGEST - "GET\nhttp\nh\n/".len();
        let fits = plain(&format!("/{}", "y".repeat(at)), Some("h")).expect("a key");
        let over = plain(&format!("/{}", "y".repeat(at + 1)), Some("h")).expect("a key");
        assert_eq!((fits.len(), over.len()), (LONGEST, 65));
    }

    #[test]
    fn variants_and_generations_differ() {
        let (long, longer) = ("x".repeat(LONGEST), "x".repeat(LONGEST + 1));
        let all = [
            of_variant("p", 1, b"a"),
            of_variant("p", 1, b"b"),
            of_variant("p", 2, b"a"),
            of_variant("q", 1, b"a"),
            of_variant("pa", 1, b""),
            of_variant("", 1, b"pa"),
            of_variant("p", 1, b"\xff"),
            of_variant("p", 1, long.as_bytes()),
            of_variant("p", 1, longer.as_bytes()),
            of_variant("px", 1, long.as_bytes()),
        ];
        assert_eq!(std::collections::HashSet::from(all).len(), 10);
    }
}
