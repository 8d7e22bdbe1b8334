//! A stored response as bytes.
//!
//! ```text
//! format (1) · kind (1: response, 2: variants, 3: response to validate each time,
//!           4: one whose body cannot be stored)
//! 1, 3:     status (2) · generated, µs (8) · lifetime, µs (8)
//!           · fields: count (4), each name (4 + n) and value (4 + n)
//!           · encoding (1: plain, 2: LZ4) · length (4) · body
//! variants: generation (8) · count (4), each name (4 + n)
//! ```
//!
//! Numbers are big-endian. A release that cannot read an entry of
//! another release treats it as missing and loads it again.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use tower::BoxError;

use super::{
    super::{fields::cache_status, key::Variants},
    cached::{CachedResponse, HOP_BY_HOP},
    stored::{Kind, StoredResponse},
};
use crate::codec::Codec;

/// The codec for a far tier that stores the responses of an
/// [`HttpGuardLayer`](crate::http::HttpGuardLayer). It compresses long bodies by LZ4, unless they have a
/// `Content-Encoding`.
#[derive(Clone, Copy, Debug)]
pub struct Responses {
    compress_above: usize,
    max_body_size: usize,
}

impl Default for Responses {
    fn default() -> Self {
        Self { compress_above: 1024, max_body_size: 1 << 20 }
    }
}

impl Responses {
    /// The size in bytes above which a body is compressed. Default 1 KiB; `usize::MAX` turns compression
    /// off. Raise it where the processor is scarcer than the memory of the far tier.
    pub fn compress_above(mut self, bytes: usize) -> Self {
        self.compress_above = bytes;
        self
    }

    /// The size in bytes up to which a body is compressed, and beyond which nothing that the far tier holds is
    /// decompressed. Default 1 MiB, as that of the layer: raise it with
    /// [`max_body_size`](crate::http::HttpGuardLayer::max_body_size). A longer body is stored as it is.
    pub fn max_body_size(mut self, bytes: usize) -> Self {
        self.max_body_size = bytes;
        self
    }
}

impl Codec<StoredResponse> for Responses {
    fn encode(&self, stored: &StoredResponse, bytes: &mut Vec<u8>) -> Result<(), BoxError> {
        bytes.push(FORMAT);
        match &stored.0 {
            Kind::Response(cached) => {
                bytes.push(RESPONSE);
                self.encode_response(cached, bytes)
            }
            Kind::Unvalidated(cached) => {
                bytes.push(UNVALIDATED);
                self.encode_response(cached, bytes)
            }
            Kind::Variants(Variants { generation, fields }) => {
                bytes.push(VARIANTS);
                bytes.extend(generation.to_be_bytes());
                put_length(bytes, fields.len())?;
                fields.iter().try_for_each(|name| put(bytes, name.as_str().as_bytes()))
            }
            Kind::Unbuffered => {
                bytes.push(UNBUFFERED);
                Ok(())
            }
        }
    }

    fn decode(&self, mut bytes: Bytes) -> Result<StoredResponse, BoxError> {
        let bytes = &mut bytes;
        if bytes.try_get_u8()? != FORMAT {
            return Err(Malformed.into());
        }
        let kind = match bytes.try_get_u8()? {
            RESPONSE => Kind::Response(self.decode_response(bytes)?),
            UNVALIDATED => Kind::Unvalidated(self.decode_response(bytes)?),
            UNBUFFERED => Kind::Unbuffered,
            VARIANTS => {
                let generation = bytes.try_get_u64()?;
                let count = count(bytes)?;
                let fields = (0..count).map(|_| name(bytes)).collect::<Result<_, _>>()?;
                Kind::Variants(Variants { generation, fields })
            }
            _ => return Err(Malformed.into()),
        };
        if bytes.has_remaining() {
            return Err(Malformed.into());
        }
        Ok(StoredResponse(kind))
    }
}

impl Responses {
    fn encode_response(
        &self,
        cached: &CachedResponse,
        bytes: &mut Vec<u8>,
    ) -> Result<(), BoxError> {
        bytes.extend(cached.status.as_u16().to_be_bytes());
        let generated = cached.generated.duration_since(SystemTime::UNIX_EPOCH)?;
        for time in [generated, cached.lifetime] {
            bytes.extend(u64::try_from(time.as_micros()).unwrap_or(u64::MAX).to_be_bytes());
        }
        // Decoding inserts these again.
        let mut headers = cached.headers.clone();
        headers.remove(header::AGE);
        cache_status::remove(&mut headers);
        put_length(bytes, headers.len())?;
        for (name, value) in &headers {
            put(bytes, name.as_str().as_bytes())?;
            put(bytes, value.as_bytes())?;
        }
        let body = &cached.body;
        let is_compressible = body.len() > self.compress_above
            && body.len() <= self.max_body_size
            && !cached.headers.contains_key(header::CONTENT_ENCODING);
        let compressed = is_compressible.then(|| lz4_flex::block::compress(body));
        match compressed.filter(|compressed| compressed.len() < body.len()) {
            Some(compressed) => {
                bytes.push(LZ4);
                put_length(bytes, body.len())?;
                bytes.extend_from_slice(&compressed);
            }
            None => {
                bytes.push(PLAIN);
                put_length(bytes, body.len())?;
                bytes.extend_from_slice(body);
            }
        }
        Ok(())
    }

    fn decode_response(&self, bytes: &mut Bytes) -> Result<CachedResponse, BoxError> {
        let status = StatusCode::from_u16(bytes.try_get_u16()?)?;
        if !is_ever_stored(status) {
            return Err(Malformed.into());
        }
        let generated = Duration::from_micros(bytes.try_get_u64()?);
        let generated = SystemTime::UNIX_EPOCH.checked_add(generated).ok_or(Malformed)?;
        let lifetime = Duration::from_micros(bytes.try_get_u64()?);
        let fields = count(bytes)?;
        let mut headers = HeaderMap::with_capacity(fields + 2);
        for _ in 0..fields {
            let (name, value) = (name(bytes)?, take(bytes)?);
            // The connection of a client is framed by what serves it, never by what is stored.
            if HOP_BY_HOP.contains(&name) {
                return Err(Malformed.into());
            }
            headers.append(name, HeaderValue::from_maybe_shared(value)?);
        }
        let encoding = bytes.try_get_u8()?;
        let length = bytes.try_get_u32()? as usize;
        let rest = bytes.split_to(bytes.len());
        let body = match encoding {
            PLAIN => rest,
            // A forged length must not allocate more than is ever compressed, nor than these bytes can hold: in LZ4
            // no byte stands for more than 255.
            LZ4 if length <= self.max_body_size && length / 255 <= rest.len() => {
                lz4_flex::block::decompress(&rest, length)?.into()
            }
            _ => return Err(Malformed.into()),
        };
        if body.len() != length {
            return Err(Malformed.into());
        }
        Ok(CachedResponse { status, headers, body, generated, lifetime }.with_hit_fields())
    }
}

/// The final statuses that stand for a whole response.
fn is_ever_stored(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200..=599) && !matches!(status.as_u16(), 206 | 304)
}

fn put(bytes: &mut Vec<u8>, piece: &[u8]) -> Result<(), BoxError> {
    put_length(bytes, piece.len())?;
    bytes.extend_from_slice(piece);
    Ok(())
}

fn put_length(bytes: &mut Vec<u8>, length: usize) -> Result<(), BoxError> {
    bytes.extend(u32::try_from(length)?.to_be_bytes());
    Ok(())
}

fn take(bytes: &mut Bytes) -> Result<Bytes, BoxError> {
    let length = bytes.try_get_u32()? as usize;
    if length > bytes.len() {
        return Err(Malformed.into());
    }
    Ok(bytes.split_to(length))
}

fn name(bytes: &mut Bytes) -> Result<HeaderName, BoxError> {
    Ok(HeaderName::from_bytes(&take(bytes)?)?)
}

/// At most what the remaining bytes can hold, four bytes each, and what a header map takes.
fn count(bytes: &mut Bytes) -> Result<usize, BoxError> {
    let count = bytes.try_get_u32()? as usize;
    if count > bytes.len() / 4 || count > 1 << 14 {
        return Err(Malformed.into());
    }
    Ok(count)
}

#[derive(Debug)]
struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a stored response of this release")
    }
}

impl std::error::Error for Malformed {}

const FORMAT: u8 = 2;
const RESPONSE: u8 = 1;
const VARIANTS: u8 = 2;
const UNVALIDATED: u8 = 3;
const UNBUFFERED: u8 = 4;
const PLAIN: u8 = 1;
const LZ4: u8 = 2;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cached(body: Bytes, fields: &[(&'static str, &'static str)]) -> CachedResponse {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let generated = SystemTime::UNIX_EPOCH + Duration::from_micros(1_234_567);
        let (status, lifetime) = (StatusCode::NOT_FOUND, Duration::from_secs(60));
        CachedResponse { status, headers, body, generated, lifetime }.with_hit_fields()
    }

    fn encoded(kind: Kind) -> Vec<u8> {
        let mut bytes = Vec::new();
        Responses::default().encode(&StoredResponse(kind), &mut bytes).expect("encodes");
        bytes
    }

    fn round_trip(cached: &CachedResponse) -> usize {
        let bytes = encoded(Kind::Response(cached.clone()));
        let length = bytes.len();
        let back = Responses::default().decode(bytes.into()).expect("decodes");
        let Kind::Response(back) = back.0 else { panic!("a response") };
        assert_eq!(&back, cached);
        length
    }

    #[test]
    fn responses_come_back_as_they_were() {
        let fields = [("set-x", "1"), ("set-x", "2"), ("cache-status", "up; hit")];
        round_trip(&cached(Bytes::from_static(b"hello"), &fields));
        round_trip(&cached(Bytes::new(), &[]));
    }

    #[test]
    fn long_bodies_are_compressed_unless_they_are_already() {
        let body = Bytes::from("all work and no play ".repeat(1_000));
        assert!(round_trip(&cached(body.clone(), &[])) < 1_000);
        assert!(round_trip(&cached(body.clone(), &[("content-encoding", "gzip")])) > body.len());
    }

    #[test]
    fn variants_come_back_as_they_were() {
        let variants =
            Variants { generation: u64::MAX, fields: vec![header::ACCEPT, header::COOKIE] };
        let back = Responses::default().decode(encoded(Kind::Variants(variants.clone())).into());
        let Kind::Variants(back) = back.expect("decodes").0 else { panic!("variants") };
        assert_eq!(back, variants);
    }

    #[test]
    fn what_answers_no_request_as_it_is_comes_back_as_that() {
        let stored = cached(Bytes::from_static(b"body"), &[("etag", "1")]);
        let back = Responses::default().decode(encoded(Kind::Unvalidated(stored.clone())).into());
        let back = back.expect("decodes");
        assert_eq!((back.response(), back.to_validate()), (None, Some(&stored)));
        let back = Responses::default().decode(encoded(Kind::Unbuffered).into()).expect("decodes");
        assert!(matches!(back.0, Kind::Unbuffered));
    }

    #[test]
    fn a_forged_length_allocates_nothing() {
        let zeros = cached(Bytes::from(vec![0; 100_000]), &[]);
        let mut bytes = encoded(Kind::Response(zeros));
        let at = bytes.len() - lz4_flex::block::compress(&[0; 100_000]).len() - 4;
        bytes[at..at + 4].copy_from_slice(&u32::MAX.to_be_bytes());
        assert!(Responses::default().decode(bytes.into()).is_err());
    }

    #[test]
    fn a_length_that_the_bytes_cannot_hold_allocates_nothing() {
        let mut bytes = encoded(Kind::Response(cached(Bytes::from(vec![0; 2_000]), &[])));
        let at = bytes.len() - lz4_flex::block::compress(&[0; 2_000]).len() - 4;
        bytes[at..at + 4].copy_from_slice(&u32::to_be_bytes(1 << 20));
        let bytes = Bytes::from(bytes);
        let decode = || assert!(Responses::default().decode(bytes.clone()).is_err());
        let held = allocation_counter::measure(decode).bytes_max;
        assert!(held < 4_096, "{held}");
    }

    #[test]
    fn nothing_is_decompressed_beyond_the_longest_body() {
        let responses = Responses::default().max_body_size(10_000);
        let forged = |length: u32| {
            let zeros = cached(Bytes::from(vec![0; 100_000]), &[]);
            let packed = lz4_flex::block::compress(&[0; 100_000]);
            let mut bytes = encoded(Kind::Response(zeros));
            let at = bytes.len() - packed.len() - 4;
            bytes[at..at + 4].copy_from_slice(&length.to_be_bytes());
            responses.decode(bytes.into())
        };
        for length in [100_000, 10_001, 10_000, 1, 0] {
            assert!(forged(length).is_err(), "{length}");
        }
        // As long as may be, and longer: compressed and not.
        for (length, is_packed) in [(10_000, true), (10_001, false)] {
            let long = StoredResponse(Kind::Response(cached(vec![0; length].into(), &[])));
            let mut bytes = Vec::new();
            responses.encode(&long, &mut bytes).expect("encodes");
            assert_eq!(bytes.len() < 1_000, is_packed, "{length}");
            let back = responses.decode(bytes.into()).expect("decodes");
            assert_eq!(back.response().map(|cached| cached.body.len()), Some(length));
        }
    }

    #[test]
    fn a_forged_status_is_refused() {
        for (status, is_read) in [
            (100, false),
            (101, false),
            (103, false),
            (199, false),
            (200, true),
            (206, false),
            (304, false),
            (404, true),
            (501, true),
            (600, false),
            (999, false),
            (1_000, false),
            (0, false),
        ] {
            let mut bytes = encoded(Kind::Response(cached(Bytes::new(), &[])));
            bytes[2..4].copy_from_slice(&u16::to_be_bytes(status));
            assert_eq!(Responses::default().decode(bytes.into()).is_ok(), is_read, "{status}");
        }
    }

    #[test]
    fn forged_framing_is_refused() {
        for name in HOP_BY_HOP {
            let mut forged = cached(Bytes::from_static(b"body"), &[]);
            forged.headers.insert(name.clone(), HeaderValue::from_static("3"));
            let bytes = encoded(Kind::Response(forged));
            assert!(Responses::default().decode(bytes.into()).is_err(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn garbage_is_refused_without_a_panic(
            garbage in proptest::collection::vec(any::<u8>(), 0..200),
            at in 0usize..100,
            byte in any::<u8>(),
        ) {
            let _ = Responses::default().decode(garbage.into());
            let mut bytes = encoded(Kind::Response(cached(
                Bytes::from(vec![b'x'; 2_000]),
                &[("x-a", "1"), ("x-b", "2")],
            )));
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = Responses::default().decode(bytes.clone().into());
            bytes.truncate(at);
            prop_assert!(Responses::default().decode(bytes.into()).is_err());
        }
    }
}
