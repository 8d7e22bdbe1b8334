//! A complete response in the cache, and the responses that are made of it.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use http_body::Body as HttpBody;

use super::{
    super::{
        body::Body,
        fields::{CacheControl, EntityTag, age, cache_status, date},
    },
    head::{Head, VALIDATORS},
    portion::Portion,
    storable::Storable,
};

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct CachedResponse {
    pub(crate) status: StatusCode,
    /// As a hit sends them: with `Age`, and with the `Cache-Status` of a hit.
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// When its age was zero.
    pub(crate) generated: SystemTime,
    pub(crate) lifetime: Duration,
}

impl CachedResponse {
    pub(crate) fn new(head: &Head, body: Bytes, storable: Storable) -> Self {
        let mut headers = head.parts.headers.clone();
        remove_unstorable(&mut headers, &head.cache_control);
        copy_values(&mut headers);
        // RFC 9110 §6.6.1: a recipient dates a response that has no date.
        headers.entry(header::DATE).or_insert_with(|| date::value(head.received));
        let Storable { age, lifetime, .. } = storable;
        let generated = head.received.checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
        let status = head.parts.status;
        Self { status, headers, body, generated, lifetime }.with_hit_fields()
    }

    /// The bytes that it holds.
    pub(crate) fn size(&self) -> usize {
        let fields = self.headers.iter();
        let fields = fields.map(|(name, value)| name.as_str().len() + value.len() + PER_FIELD);
        self.body.len() + fields.sum::<usize>()
    }

    /// Inserts the fields that differ with every hit, so that the map of a hit does not grow.
    pub(crate) fn with_hit_fields(mut self) -> Self {
        self.headers.insert(header::AGE, HeaderValue::from_static("0"));
        cache_status::add(&mut self.headers, cache_status::HIT);
        self
    }

    /// Whether the origin can be asked if this is still the response.
    pub(crate) fn has_validator(&self) -> bool {
        VALIDATORS.iter().any(|name| self.headers.contains_key(name))
    }

    /// Whether a 304 is about this response (RFC 9111 §4.3.4). Without validators it is: it answers the
    /// condition that was sent.
    pub(crate) fn is_validated_by(&self, update: &HeaderMap) -> bool {
        if let Some(tag) = update.get(header::ETAG).map(EntityTag::new) {
            let own = self.headers.get(header::ETAG).map(EntityTag::new);
            return own.is_some_and(|own| match tag.is_weak() {
                true => own.matches_weakly(tag),
                false => own.matches_strongly(tag),
            });
        }
        let modified = update.get(header::LAST_MODIFIED);
        modified.is_none() || self.headers.get(header::LAST_MODIFIED) == modified
    }

    /// The fields after a 304 (RFC 9111 §3.2): those of the 304 replace the stored ones.
    pub(crate) fn updated_by(&self, update: &Head) -> HeaderMap {
        let mut headers = self.headers.clone();
        let mut update_headers = update.parts.headers.clone();
        remove_unstorable(&mut update_headers, &update.cache_control);
        // The stored bytes depend on these.
        for name in [header::CONTENT_ENCODING, header::CONTENT_RANGE] {
            update_headers.remove(name);
        }
        // The age counts from now on, even if the 304 has no date of its own.
        headers.remove(header::AGE);
        headers.remove(header::DATE);
        cache_status::remove(&mut headers);
        for name in update_headers.keys() {
            headers.remove(name);
        }
        for (name, value) in &update_headers {
            headers.append(name, value.clone());
        }
        headers
    }

    /// The fields of a response that are for its own client alone.
    pub(crate) fn withheld(head: &Head) -> HeaderMap {
        let mut headers = head.parts.headers.clone();
        remove_unstorable(&mut headers, &CacheControl::default());
        let mut withheld = HeaderMap::new();
        for name in head.cache_control.withheld() {
            if let header::Entry::Occupied(entry) = headers.entry(name) {
                let (name, values) = entry.remove_entry_mult();
                values.for_each(|value| {
                    withheld.append(name.clone(), value);
                });
            }
        }
        withheld
    }

    pub(crate) fn age(&self, now: SystemTime) -> Duration {
        now.duration_since(self.generated).unwrap_or(Duration::ZERO)
    }

    /// The response to a request with these fields; `cache_status` tells how it was found.
    pub(crate) fn respond<B: HttpBody<Data = Bytes>>(
        &self,
        method: &Method,
        request: &HeaderMap,
        cache_status: &'static str,
        now: SystemTime,
    ) -> Response<Body<B>> {
        let mut headers = self.headers.clone();
        if let Some(age) = headers.get_mut(header::AGE) {
            *age = age::value(self.age(now).as_secs());
        }
        if cache_status != cache_status::HIT {
            cache_status::replace(&mut headers, cache_status);
        }
        let length = self.body.len() as u64;
        let portion = match self.status {
            // RFC 9110 §13.2.1: conditions and ranges apply to a 200.
            StatusCode::OK => Portion::requested(request, &headers, length),
            _ => Portion::Whole,
        };
        let (status, mut body) = self.select(portion, method, &mut headers);
        if method == Method::HEAD {
            body = Bytes::new();
            if !matches!(status, StatusCode::NOT_MODIFIED | StatusCode::NO_CONTENT) {
                headers.insert(header::CONTENT_LENGTH, length.into());
            }
        }
        let mut response = Response::new(Body::stored(body));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }

    /// The status and body of a portion, whose fields are put into `headers`.
    fn select(
        &self,
        portion: Portion,
        method: &Method,
        headers: &mut HeaderMap,
    ) -> (StatusCode, Bytes) {
        let length = self.body.len();
        match portion {
            Portion::NotModified => {
                // RFC 9110 §15.4.5: the client has these.
                for name in
                    [header::CONTENT_TYPE, header::CONTENT_ENCODING, header::CONTENT_LANGUAGE]
                {
                    headers.remove(name);
                }
                (StatusCode::NOT_MODIFIED, Bytes::new())
            }
            // Ranges apply to GET alone (§14.2).
            Portion::Part(range) if method == Method::GET => {
                let text = format!("bytes {}-{}/{length}", range.start(), range.end());
                set(headers, header::CONTENT_RANGE, &text);
                remove_digests(headers);
                let (start, end) = (*range.start() as usize, *range.end() as usize);
                (StatusCode::PARTIAL_CONTENT, self.body.slice(start..=end))
            }
            Portion::Unsatisfiable if method == Method::GET => {
                set(headers, header::CONTENT_RANGE, &format!("bytes */{length}"));
                remove_digests(headers);
                (StatusCode::RANGE_NOT_SATISFIABLE, Bytes::new())
            }
            _ => (self.status, self.body.clone()),
        }
    }
}

/// What a field needs in a `HeaderMap`, beside its bytes.
pub(super) const PER_FIELD: usize = 112;

/// Removes the fields that are for one connection or must not be stored (RFC 9111 §3.1).
/// Copies the values into one buffer of their size: as they were received they keep the connection's.
fn copy_values(headers: &mut HeaderMap) {
    let all: Vec<u8> = headers.values().flat_map(HeaderValue::as_bytes).copied().collect();
    let mut all = Bytes::from(all.into_boxed_slice());
    for value in headers.values_mut() {
        // The bytes of a value make a value.
        let Ok(mut copy) = HeaderValue::from_maybe_shared(all.split_to(value.len())) else {
            continue;
        };
        copy.set_sensitive(value.is_sensitive());
        *value = copy;
    }
}

fn remove_unstorable(headers: &mut HeaderMap, cache_control: &CacheControl) {
    let nominated: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in nominated.iter().chain(cache_control.withheld()).chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// Removes the digests of the whole body (RFC 9530 §2).
fn remove_digests(headers: &mut HeaderMap) {
    for name in ["content-digest", "content-md5"] {
        headers.remove(name);
    }
}

/// RFC 9110 §7.6.1, RFC 9111 §3.1. `Content-Length` too: the body knows its length.
pub(super) const HOP_BY_HOP: [HeaderName; 11] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-authentication-info"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::CONTENT_LENGTH,
];

fn set(headers: &mut HeaderMap, name: HeaderName, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        headers.insert(name, value);
    }
}
