//! What comes from clients, origins and a far tier: header fields, URLs and stored responses.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, header};
use http_body::Body as _;
use http_body_util::Empty;

use super::{
    cache_mode::CacheMode,
    fields::{cache_status, connection, cookie},
    key::{CacheKey, KeyExtractor, Query, Variants},
    response::{CachedResponse, Head, Kind, Responses, Storable, StoreSettings, StoredResponse},
};
use crate::codec::Codec;

/// A stored response is written as it was read, and answers requests.
pub(crate) fn stored_response(bytes: &[u8]) -> bool {
    let Some(stored) = read(Bytes::copy_from_slice(bytes)) else { return false };
    if let Some(cached) = stored.to_validate() {
        // As far as LZ4 goes.
        assert!(cached.body.len() <= 255 * bytes.len(), "a body of nothing");
        answers(cached);
    }
    is_kept(stored);
    true
}

fn read(bytes: Bytes) -> Option<StoredResponse> {
    Responses::default().decode(bytes).ok()
}

fn is_kept(stored: StoredResponse) {
    let mut bytes = Vec::new();
    Responses::default().encode(&stored, &mut bytes).expect("it was stored");
    let bytes = Bytes::from(bytes);
    assert!(read(bytes.slice(..bytes.len() - 1)).is_none(), "a part of it is read");
    let again = read(bytes).expect("one of ours");
    assert_eq!(again.size(), stored.size());
    let is_same = match (&again.0, &stored.0) {
        (Kind::Response(again), Kind::Response(stored))
        | (Kind::Unvalidated(again), Kind::Unvalidated(stored)) => again == stored,
        (Kind::Variants(again), Kind::Variants(stored)) => again == stored,
        (again, stored) => matches!((again, stored), (Kind::Unbuffered, Kind::Unbuffered)),
    };
    assert!(is_same, "it changes");
}

fn answers(cached: &CachedResponse) {
    for (name, value) in [
        (header::ACCEPT, "*/*"),
        (header::RANGE, "bytes=1-2"),
        (header::RANGE, "bytes=-9"),
        (header::IF_NONE_MATCH, "W/\"a\", \"b\""),
        (header::IF_MODIFIED_SINCE, "Sun, 06 Nov 1994 08:49:37 GMT"),
    ] {
        let request = HeaderMap::from_iter([(name, HeaderValue::from_static(value))]);
        let answer = cached.respond::<Empty<Bytes>>(
            &Method::GET,
            &request,
            cache_status::HIT,
            SystemTime::UNIX_EPOCH,
        );
        assert!(answer.body().size_hint().exact() <= Some(cached.body.len() as u64));
    }
}

/// Lines of fields, as a request's and as a response's: what they say of caching, and what is stored by that.
pub(crate) fn cache_control(lines: &[u8]) -> bool {
    let fields: HeaderMap = lines.split(|byte| *byte == b'\n').filter_map(field).collect();
    let mut request = fields.clone();
    connection::take_off_named(&mut request);
    cookie::join_crumbs(&mut request);
    let _ = CacheMode::of(&request);

    let mut response = Response::new(());
    *response.headers_mut() = fields;
    let received = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 31);
    let head = Head::new(response.into_parts().0, Duration::from_secs(1), received);
    let read = &head.cache_control;
    let lives = [read.max_age, read.s_maxage, read.stale_while_revalidate, read.stale_if_error];
    assert!(lives.iter().flatten().all(|life| *life <= Duration::from_secs(1 << 31)));
    let settings = StoreSettings { tag_field: Some(header::SERVER), ..StoreSettings::default() };
    let Ok(storable) = Storable::check(&HeaderMap::new(), &head, &settings) else { return false };
    assert!(!read.no_store || read.must_understand);
    let _ = storable.ttl(&settings);
    let cached = CachedResponse::new(&head, Bytes::from_static(b"body"), storable);
    answers(&cached);
    is_kept(StoredResponse(Kind::Response(cached)));
    true
}

fn field(line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    Some((HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value).ok()?))
}

/// A request has one key of at most 256 bytes, with a part that the user adds, and keeps it when it is sent to the
/// origin.
pub(crate) fn key(url: &str, host: &str, part: &str) -> bool {
    let request = Request::builder().uri(url).header(header::HOST, host).body(());
    let Ok((mut request, ())) = request.map(Request::into_parts) else { return false };
    let sorted = Query::Sorted { without: vec!["u".to_owned()] };
    let mut has_key = false;
    for query in [Query::AsSent, sorted] {
        let own = part.to_owned();
        let part = Some(Arc::new(move |_: &_| Some(own.clone())) as _);
        let keys = KeyExtractor { query, part, ..KeyExtractor::default() };
        let [mut room, mut again] = [CacheKey::empty(), CacheKey::empty()];
        let Some(key) = keys.key::<()>(&request, &mut room) else { continue };
        keys.name_as_keyed(&mut request);
        assert_eq!(keys.key::<()>(&request, &mut again), Some(key), "another key at the origin");
        let variants = Variants { generation: 7, fields: vec![header::HOST, header::ACCEPT] };
        for key in [key, &variants.key(key, &request.headers)] {
            assert!((1..=256).contains(&key.len()));
        }
        has_key = true;
    }
    has_key
}
