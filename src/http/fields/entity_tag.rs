//! Entity tags (RFC 9110 §8.8.3).

use http::HeaderValue;

/// A tag as it is sent: quoted, with `W/` in front if it is weak. Also the `*` of `If-None-Match`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct EntityTag<'a>(&'a [u8]);

impl<'a> EntityTag<'a> {
    /// The tag that makes up a whole field, as in `ETag`.
    pub(crate) fn new(value: &'a HeaderValue) -> Self {
        Self(value.as_bytes())
    }

    /// The tags of a list, as in `If-None-Match`. Commas may stand inside a tag.
    pub(crate) fn list(value: &'a HeaderValue) -> impl Iterator<Item = Self> {
        let mut rest = value.as_bytes();
        std::iter::from_fn(move || {
            while let [b' ' | b'\t' | b',', after @ ..] = rest {
                rest = after;
            }
            let (tag, after) = rest.split_at(end_of_tag(rest));
            rest = after;
            (!tag.is_empty()).then(|| Self(tag.trim_ascii()))
        })
    }

    pub(crate) fn is_any(self) -> bool {
        self.0 == b"*"
    }

    /// Whether the two are equal by weak comparison (§8.8.3.2).
    pub(crate) fn matches_weakly(self, other: Self) -> bool {
        self.opaque() == other.opaque()
    }

    /// Whether the two are equal by strong comparison: neither may be weak.
    pub(crate) fn matches_strongly(self, other: Self) -> bool {
        !self.is_weak() && self == other
    }

    pub(crate) fn is_weak(self) -> bool {
        self.0.starts_with(b"W/")
    }

    fn opaque(self) -> &'a [u8] {
        self.0.strip_prefix(b"W/").unwrap_or(self.0)
    }
}

fn end_of_tag(list: &[u8]) -> usize {
    match list.iter().position(|byte| matches!(byte, b'"' | b',')) {
        None => list.len(),
        Some(comma) if list[comma] == b',' => comma,
        Some(quote) => match list[quote + 1..].iter().position(|byte| *byte == b'"') {
            Some(length) => quote + length + 2,
            None => list.len(),
        },
    }
}
