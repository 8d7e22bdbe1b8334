//! What is read from outside, as the fuzz targets in `fuzz/` call it: each takes any bytes, and must neither panic nor
//! loop, nor allocate more than its bound. The tests replay the targets' corpora.

use crate::{
    Key, Name, http,
    key::{name_of, own_name},
    redis,
};

/// Something that reads bytes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Of its program in `fuzz/fuzz_targets`, and of its corpus.
    pub name: &'static str,
    /// Reads bytes, and asserts what holds of them. Whether they were understood.
    pub read: fn(&[u8]) -> bool,
    /// How many bytes that may hold at one time for each that it reads, beside [`ALLOWANCE`](Self::ALLOWANCE).
    pub per_byte: usize,
}

impl Target {
    /// What any target may hold, whatever it reads: the table of LZ4, above all.
    pub const ALLOWANCE: usize = 64 << 10;

    /// How much the target may hold at one time for so many bytes.
    pub const fn bound(&self, bytes: usize) -> usize {
        Self::ALLOWANCE + self.per_byte * bytes
    }
}

/// An entry in Redis, and a lease.
pub const FAR_ENTRY: Target =
    Target { name: "far_entry", read: redis::fuzzing::entry, per_byte: 16 };

/// A message over Redis, to all or to one process.
pub const MESSAGE: Target = Target { name: "message", read: redis::fuzzing::message, per_byte: 8 };

/// A response in a far tier. Its body may be compressed by LZ4, to a 255th.
pub const STORED_RESPONSE: Target =
    Target { name: "stored_response", read: http::fuzzing::stored_response, per_byte: 4 * 255 };

/// Fields that say how a response may be kept.
pub const CACHE_CONTROL: Target =
    Target { name: "cache_control", read: http::fuzzing::cache_control, per_byte: 256 };

/// Names and keys of what a client sends: parts with a byte between them that no text has.
pub const KEY: Target = Target { name: "key", read: key, per_byte: 32 };

fn key(bytes: &[u8]) -> bool {
    let parts = bytes.split(|byte| *byte == 0xff).map(String::from_utf8_lossy);
    let parts: Vec<_> = parts.collect();
    let keys: Vec<&dyn Key> = parts.iter().map(|part| part as _).collect();
    let name = Name::of_parts(&keys);
    assert_eq!(parts_of(&name), parts);
    for part in &parts {
        assert_eq!(own_name(&name_of(part)), Some(&**part));
    }
    let part = |at: usize| parts.get(at).map_or("", |part| part);
    redis::fuzzing::key(part(1), part(0));
    http::fuzzing::key(part(0), part(1), part(2))
}

/// The parts that a name was made of: if every name tells them, different parts have different names.
pub(crate) fn parts_of(name: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut rest = name.chars();
    while let Some(char) = rest.next() {
        let part = parts.last_mut().expect("one at least");
        match char {
            ':' => parts.push(String::new()),
            '\\' => match rest.next() {
                Some(escaped) => part.push(escaped),
                None => return Vec::new(),
            },
            plain => part.push(plain),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fs, path::Path};

    use super::*;

    /// The bytes that were understood, of these.
    fn replay(target: &Target, bytes: &[u8], what: &str) -> bool {
        let mut is_read = false;
        let mut held = || allocation_counter::measure(|| is_read = (target.read)(bytes)).bytes_max;
        let (name, bound) = (target.name, target.bound(bytes.len()) as u64);
        // Twice, if need be: a table that is made once does not count.
        assert!(held() <= bound || held() <= bound, "{name}, {what}: more than {bound} bytes");
        is_read
    }

    /// Each file as it is, each of its beginnings, and each byte changed: inverted, by one, in its case.
    fn replay_all(target: &Target) {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target.name);
        // A package has none.
        if !corpus.ancestors().nth(2).is_some_and(Path::exists) {
            return;
        }
        let mut seen = BTreeMap::new();
        for file in fs::read_dir(corpus).expect("a corpus") {
            let path = file.expect("a file").path();
            let what = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let mut bytes = fs::read(&path).expect("a file");
            *seen.entry(replay(target, &bytes, &what)).or_insert(0) += 1;
            for end in 0..bytes.len() {
                replay(target, &bytes[..end], &format!("{what} to {end}"));
                for change in [0xff, 1, 32] {
                    bytes[end] ^= change;
                    replay(target, &bytes, &format!("{what}, {change} at {end}"));
                    bytes[end] ^= change;
                }
            }
        }
        let (refused, read) = (seen.get(&false), seen.get(&true));
        assert!(refused >= Some(&3) && read >= Some(&3), "{}: {seen:?}", target.name);
    }

    macro_rules! replayed {
        ($($name:ident: $target:expr),* $(,)?) => {$(
            #[test]
            fn $name() {
                replay_all(&$target);
            }
        )*};
    }
    replayed! {
        far_entries_are_read_or_refused: FAR_ENTRY,
        messages_are_read_or_refused: MESSAGE,
        stored_responses_are_read_or_refused: STORED_RESPONSE,
        cache_control_is_read_or_refused: CACHE_CONTROL,
        keys_are_made_or_refused: KEY,
    }
}
