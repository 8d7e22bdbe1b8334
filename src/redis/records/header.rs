//! What is written to Redis: the header of an entry, leases and back-offs. The scripts in `lua/` read and
//! write the same layout; `lua/prelude.lua` states it.

use std::time::Duration;

use bytes::{Buf, Bytes};

use crate::Version;

const HEADER: usize = 42;
const FORMAT: u8 = 2;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Value,
    Absent,
    Tombstone,
}

impl Kind {
    pub(crate) fn letter(self, has_terms: bool) -> &'static str {
        match (self, has_terms) {
            (Self::Value, false) => "V",
            (Self::Value, true) => "v",
            (Self::Absent, false) => "N",
            (Self::Absent, true) => "n",
            (Self::Tombstone, _) => "T",
        }
    }
}

pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) version: Version,
    /// Milliseconds of the server's clock.
    pub(super) fresh_until: u64,
    /// Rounded up to seconds.
    pub(super) ttl: Duration,
    pub(super) load_time: Duration,
    pub(super) terms: Option<Bytes>,
}

impl Header {
    /// The header and the payload; `None` for bytes that no release of this crate wrote.
    pub(super) fn split(mut bytes: Bytes) -> Option<(Self, Bytes)> {
        if bytes.len() < HEADER || bytes[0] != FORMAT {
            return None;
        }
        let kind = match bytes[1] {
            b'V' | b'v' => Kind::Value,
            b'N' | b'n' => Kind::Absent,
            b'T' => Kind::Tombstone,
            _ => return None,
        };
        let version = version(&bytes[2..18])?;
        let fresh_until = u64::from_be_bytes(bytes[26..34].try_into().ok()?);
        let ttl = u32::from_be_bytes(bytes[34..38].try_into().ok()?);
        let ttl = Duration::from_secs(ttl.into());
        let load_time = u32::from_be_bytes(bytes[38..42].try_into().ok()?);
        let load_time = Duration::from_micros(load_time.into());
        let has_terms = bytes[1].is_ascii_lowercase();
        bytes.advance(HEADER);
        let terms = match has_terms {
            true => {
                let length = usize::try_from(bytes.try_get_u32().ok()?).ok()?;
                Some((length <= bytes.len()).then(|| bytes.split_to(length))?)
            }
            false => None,
        };
        Some((Self { kind, version, fresh_until, ttl, load_time, terms }, bytes))
    }
}

/// What a client writes before the value: the header's last field, and the terms.
pub(crate) fn before_value(load_time: Duration, terms: Option<&[u8]>) -> Vec<u8> {
    let load_time = u32::try_from(load_time.as_micros()).unwrap_or(u32::MAX);
    let mut bytes = load_time.to_be_bytes().to_vec();
    if let Some(terms) = terms {
        let length = u32::try_from(terms.len()).unwrap_or(u32::MAX);
        bytes.extend(length.to_be_bytes());
        bytes.extend(terms);
    }
    bytes
}

/// The fencing token, and the failed loads in a row, of a lease that was granted.
pub(crate) fn grant(bytes: &[u8]) -> Option<(u64, u32)> {
    let (fence, failures) = bytes.split_first_chunk()?;
    Some((u64::from_be_bytes(*fence), u32::from_be_bytes(failures.try_into().ok()?)))
}

/// How long a back-off is, and when it ends, in milliseconds of the server's clock; `None` for a lease.
pub(crate) fn back_off(lease: &[u8]) -> Option<(Duration, u64)> {
    let (length, until) = lease.strip_prefix(&[0xff; 16])?.get(12..)?.split_first_chunk()?;
    let length = Duration::from_millis(u64::from_be_bytes(*length));
    Some((length, u64::from_be_bytes(until.try_into().ok()?)))
}

pub(super) fn version(bytes: &[u8]) -> Option<Version> {
    Some(Version::from_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rubbish_is_no_entry() {
        for rubbish in [&b""[..], b"C", b"Cshort", &[0xff; 80], &[b'C'; 40]] {
            assert!(Header::split(Bytes::copy_from_slice(rubbish)).is_none());
        }
    }

    #[test]
    fn a_load_time_is_written_as_far_as_it_fits() {
        for (kept, written) in [(0, 0), (250_001, 250_001), (u64::from(u32::MAX) + 1, u32::MAX)] {
            let bytes = before_value(Duration::from_micros(kept), None);
            assert_eq!(bytes, written.to_be_bytes());
        }
    }

    #[test]
    fn a_back_off_is_told_from_a_lease() {
        let numbers = [5_u64, 7].map(u64::to_be_bytes).concat();
        let written = [&[0xff; 16][..], &[0; 12], &numbers].concat();
        assert_eq!(back_off(&written), Some((Duration::from_millis(5), 7)));
        assert_eq!(back_off(&written[1..]), None);
        assert_eq!(back_off(&[0; 36]), None);
        assert_eq!(back_off(&[0xff; 36]), None);
    }
}
