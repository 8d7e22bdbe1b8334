//! What is written to Redis: the header of an entry. The scripts in `lua/`
//! read and write the same layout; `lua/prelude.lua` states it.

use bytes::{Buf, Bytes};

use crate::{
    Version,
    far::{Error, ErrorKind},
};

pub(crate) const HEADER: usize = 34;
const FORMAT: u8 = 1;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Value,
    Absent,
    Tombstone,
}

impl Kind {
    pub(crate) fn letter(self) -> &'static str {
        match self {
            Self::Value => "V",
            Self::Absent => "N",
            Self::Tombstone => "T",
        }
    }
}

pub(crate) struct Header {
    pub(crate) kind: Kind,
    pub(crate) version: Version,
    /// Milliseconds of the server's clock.
    pub(crate) fresh_until: u64,
}

impl Header {
    /// The header and the payload; `None` for bytes that no release of ours wrote.
    pub(crate) fn split(mut bytes: Bytes) -> Option<(Self, Bytes)> {
        if bytes.len() < HEADER || bytes[0] != FORMAT {
            return None;
        }
        let kind = match bytes[1] {
            b'V' => Kind::Value,
            b'N' => Kind::Absent,
            b'T' => Kind::Tombstone,
            _ => return None,
        };
        let version = version(&bytes[2..18])?;
        let fresh_until = u64::from_be_bytes(bytes[26..34].try_into().ok()?);
        bytes.advance(HEADER);
        Some((Self { kind, version, fresh_until }, bytes))
    }
}

pub(crate) fn version(bytes: &[u8]) -> Option<Version> {
    Some(Version::from_bytes(bytes.try_into().ok()?))
}

pub(crate) fn malformed() -> Error {
    Error::new(ErrorKind::Refused, "an answer of a script has an unknown form")
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
}
