//! What is kept of a response, and the responses made of it.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use http_body::Body as HttpBody;

use super::{
    body::Body,
    cache_status,
    conditional::{Portion, opaque},
    storing::{Storable, strip},
    tags::Tag,
};
use crate::policy::StaleFor;

/// What a guard keeps for an [`HttpGuardLayer`](super::HttpGuardLayer): a response, or the request fields
/// that tell the responses of a URL apart.
#[derive(Clone)]
pub struct StoredResponse(pub(super) Kind);

#[derive(Clone)]
pub(super) enum Kind {
    Response(Whole),
    Variants(Variants),
    /// That of a tag.
    Epoch(u64),
}

/// The variants of a URL.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Variants {
    /// Variants are kept under this; another one, and they are forgotten.
    pub(super) generation: u64,
    /// The request fields that select one.
    pub(super) fields: Vec<HeaderName>,
}

/// A whole response.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Whole {
    pub(super) status: StatusCode,
    /// As they are sent with a hit: `Age` has its place, and `Cache-Status` says so.
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// When its age was zero.
    pub(super) generated: SystemTime,
    pub(super) lifetime: Duration,
    pub(super) stale: StaleFor,
    pub(super) tags: Vec<Tag>,
}

impl StoredResponse {
    /// What it says itself of being served stale. The word that there is nothing to be stored is never
    /// stale: it would be looked after by a load that nobody waits for.
    pub(super) fn stale_for(stored: Option<&Self>) -> StaleFor {
        let never = StaleFor { grace: Some(Duration::ZERO), if_error: Some(Duration::ZERO) };
        match stored.map(|stored| &stored.0) {
            Some(Kind::Response(whole)) => whole.stale,
            Some(Kind::Variants(_) | Kind::Epoch(_)) | None => never,
        }
    }
}

impl fmt::Debug for StoredResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredResponse").finish_non_exhaustive()
    }
}

impl Whole {
    pub(super) fn new(
        status: StatusCode,
        mut headers: HeaderMap,
        body: Bytes,
        storable: Storable,
        now: SystemTime,
    ) -> Self {
        strip(&mut headers);
        // RFC 9110 §6.6.1: who receives a response without a date gives it one.
        headers.entry(header::DATE).or_insert_with(|| date_value(now));
        let Storable { age, lifetime, stale } = storable;
        let generated = now.checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
        Self { status, headers, body, generated, lifetime, stale, tags: Vec::new() }.with_places()
    }

    /// Room for what differs with every hit, so that no map grows on its way.
    pub(super) fn with_places(mut self) -> Self {
        self.headers.insert(header::AGE, HeaderValue::from_static("0"));
        cache_status::add(&mut self.headers, cache_status::HIT);
        self
    }

    /// Whether a 304 is about this (RFC 9111 §4.3.4). One without validators is: it answers the condition
    /// that was sent.
    pub(super) fn is_meant_by(&self, news: &HeaderMap) -> bool {
        let known = |name: HeaderName| self.headers.get(name).map(HeaderValue::as_bytes);
        if let Some(tag) = news.get(header::ETAG).map(HeaderValue::as_bytes) {
            // By strong comparison if it is strong.
            return match tag.starts_with(b"W/") {
                true => known(header::ETAG).map(opaque) == Some(opaque(tag)),
                false => known(header::ETAG) == Some(tag),
            };
        }
        let modified = news.get(header::LAST_MODIFIED).map(HeaderValue::as_bytes);
        modified.is_none() || known(header::LAST_MODIFIED) == modified
    }

    /// The fields after such a 304: its own replace those stored.
    pub(super) fn freshened(&self, news: &HeaderMap) -> HeaderMap {
        let mut headers = self.headers.clone();
        let mut news = news.clone();
        strip(&mut news);
        // §3.2: what the stored bytes depend on stays as it is.
        for name in [header::CONTENT_ENCODING, header::CONTENT_RANGE] {
            news.remove(name);
        }
        // Its age counts from now on, also where the 304 has no date of its own.
        headers.remove(header::AGE);
        headers.remove(header::DATE);
        cache_status::remove(&mut headers);
        for name in news.keys() {
            headers.remove(name);
        }
        for (name, value) in &news {
            headers.append(name, value.clone());
        }
        headers
    }

    pub(super) fn age(&self, now: SystemTime) -> Duration {
        now.duration_since(self.generated).unwrap_or(Duration::ZERO)
    }

    /// The response to a request for it.
    pub(super) fn respond<B: HttpBody<Data = Bytes>>(
        &self,
        method: &Method,
        request: &HeaderMap,
        how: &'static str,
        now: SystemTime,
    ) -> Response<Body<B>> {
        let mut headers = self.headers.clone();
        if let Some(age) = headers.get_mut(header::AGE) {
            // Its own conversion from numbers allocates twice.
            let mut digits = itoa::Buffer::new();
            let text = digits.format(self.age(now).as_secs());
            *age = HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("0"));
        }
        if how != cache_status::HIT {
            cache_status::replace(&mut headers, how);
        }
        let length = self.body.len() as u64;
        // RFC 9110 §13.2.1: conditions and ranges are for a 200.
        let portion = match self.status {
            StatusCode::OK => Portion::asked_for(request, &headers, length),
            _ => Portion::Whole,
        };
        let (status, body) = match portion {
            Portion::NotModified => {
                // RFC 9110 §15.4.5: what a client has already is not sent again.
                for name in
                    [header::CONTENT_TYPE, header::CONTENT_ENCODING, header::CONTENT_LANGUAGE]
                {
                    headers.remove(name);
                }
                (StatusCode::NOT_MODIFIED, Bytes::new())
            }
            // Ranges are for GET alone (§14.2).
            Portion::Part(range) if method == Method::GET => {
                let text = format!("bytes {}-{}/{length}", range.start(), range.end());
                set(&mut headers, header::CONTENT_RANGE, &text);
                let (start, end) = (*range.start() as usize, *range.end() as usize);
                (StatusCode::PARTIAL_CONTENT, self.body.slice(start..=end))
            }
            Portion::Unsatisfiable if method == Method::GET => {
                set(&mut headers, header::CONTENT_RANGE, &format!("bytes */{length}"));
                (StatusCode::RANGE_NOT_SATISFIABLE, Bytes::new())
            }
            _ => (self.status, self.body.clone()),
        };
        let body = match *method {
            Method::HEAD => {
                if !matches!(status, StatusCode::NOT_MODIFIED | StatusCode::NO_CONTENT) {
                    headers.insert(header::CONTENT_LENGTH, length.into());
                }
                Bytes::new()
            }
            _ => body,
        };
        let mut response = Response::new(Body::stored(body));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }
}

fn set(headers: &mut HeaderMap, name: HeaderName, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        headers.insert(name, value);
    }
}

fn date_value(at: SystemTime) -> HeaderValue {
    HeaderValue::from_str(&httpdate::fmt_http_date(at))
        .unwrap_or(HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"))
}
