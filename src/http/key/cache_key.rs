//! Cache keys: a line for each part, hashed if they get long.

use std::{fmt::Write, ops::Deref};

use arrayvec::ArrayString;
use sha2::{Digest, Sha256};

/// The key of a response or of a reload. It stands on the stack.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct CacheKey(ArrayString<MAX_LENGTH>);

/// Longer keys are hashed.
pub(super) const MAX_LENGTH: usize = 256;

impl CacheKey {
    /// Room for a key.
    pub(crate) fn empty() -> Self {
        Self(ArrayString::new())
    }

    /// The key under which reloads of `primary` share one flight.
    pub(crate) fn of_reload(primary: &str) -> Self {
        Self::of_variant(primary, 0, b"reload")
    }

    /// The key of one variant of `primary`, in one of its generations.
    pub(crate) fn of_variant(primary: &str, generation: u64, selected_by: &[u8]) -> Self {
        if let Some(short) = short_variant(primary, generation, selected_by) {
            return Self(short);
        }
        let mut hash = Sha256::new();
        hash.update((primary.len() as u64).to_be_bytes());
        hash.update(primary);
        hash.update(generation.to_be_bytes());
        hash.update(selected_by);
        Self::of_hash("~", hash)
    }

    fn of_hash(prefix: &str, hash: Sha256) -> Self {
        let mut key = Self::empty();
        let _ = key.0.try_push_str(prefix);
        push_hex(&mut key.0, &hash.finalize());
        key
    }
}

impl Deref for CacheKey {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// Writes the text of a key where the key is to stand, and begins to hash it when it gets too long.
pub(crate) struct KeyWriter<'a> {
    key: &'a mut CacheKey,
    long: Option<Sha256>,
}

impl<'a> KeyWriter<'a> {
    pub(crate) fn new(empty: &'a mut CacheKey) -> Self {
        Self { key: empty, long: None }
    }

    #[inline]
    pub(crate) fn push(&mut self, text: &str) {
        match &mut self.long {
            Some(hash) => hash.update(text),
            None if self.key.0.try_push_str(text).is_err() => {
                let mut hash = Sha256::new();
                hash.update(self.key.as_bytes());
                hash.update(text);
                self.long = Some(hash);
            }
            None => {}
        }
    }

    pub(crate) fn push_lowercase(&mut self, text: &str) {
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            self.push(&text.to_ascii_lowercase());
        } else {
            self.push(text);
        }
    }

    pub(crate) fn push_port(&mut self, port: u16) {
        let mut text = ArrayString::<8>::new();
        // Six characters at most.
        let _ = write!(text, ":{port}");
        self.push(&text);
    }

    #[inline]
    pub(crate) fn finish(self) {
        if let Some(hash) = self.long {
            // No unhashed key begins like this.
            *self.key = CacheKey::of_hash("#", hash);
        }
    }
}

/// The key of a variant for which there is room without hashing, so that a hit does not hash. The first
/// two parts have a fixed length and a line break follows them: no part can run into another or look like a
/// hash.
fn short_variant(
    primary: &str,
    generation: u64,
    selected_by: &[u8],
) -> Option<ArrayString<MAX_LENGTH>> {
    let selected_by = std::str::from_utf8(selected_by).ok()?;
    let mut text = ArrayString::new();
    text.try_push('~').ok()?;
    push_hex(&mut text, &generation.to_be_bytes());
    push_hex(&mut text, &u16::try_from(primary.len()).ok()?.to_be_bytes());
    text.try_push('\n').ok()?;
    text.try_push_str(primary).ok()?;
    text.try_push_str(selected_by).ok()?;
    Some(text)
}

/// By hand: every hit of a variant makes a key.
fn push_hex(to: &mut ArrayString<MAX_LENGTH>, bytes: &[u8]) {
    let digit = |nibble: u8| b"0123456789abcdef"[usize::from(nibble)];
    let mut text = [0; 64];
    for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
        pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 0xf)]);
    }
    // 32 bytes at most, so there is room, and digits are valid text.
    let _ = std::str::from_utf8(&text[..bytes.len() * 2]).map(|text| to.try_push_str(text));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_hashed_when_it_no_longer_fits() {
        let key = |length: usize| {
            let mut key = CacheKey::empty();
            let mut text = KeyWriter::new(&mut key);
            text.push("GET\n");
            text.push(&"y".repeat(length - 4));
            text.finish();
            key
        };
        assert_eq!(key(MAX_LENGTH).len(), MAX_LENGTH);
        assert_eq!(key(MAX_LENGTH + 1).len(), 65);
        assert_ne!(key(MAX_LENGTH + 1), key(MAX_LENGTH + 2));
    }

    #[test]
    fn variants_and_generations_differ() {
        let (long, longer) = ("x".repeat(MAX_LENGTH), "x".repeat(MAX_LENGTH + 1));
        let all = [
            CacheKey::of_variant("p", 1, b"a"),
            CacheKey::of_variant("p", 1, b"b"),
            CacheKey::of_variant("p", 2, b"a"),
            CacheKey::of_variant("q", 1, b"a"),
            CacheKey::of_variant("pa", 1, b""),
            CacheKey::of_variant("", 1, b"pa"),
            CacheKey::of_variant("p", 1, b"\xff"),
            CacheKey::of_variant("p", 1, long.as_bytes()),
            CacheKey::of_variant("p", 1, longer.as_bytes()),
            CacheKey::of_variant("px", 1, long.as_bytes()),
        ];
        assert_eq!(std::collections::HashSet::from(all).len(), 10);
    }
}
