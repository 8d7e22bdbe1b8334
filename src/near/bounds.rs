use std::{num::NonZero, thread::available_parallelism};

use quick_cache::OptionsBuilder;

/// How much the near tier holds.
#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) entries: usize,
    pub(crate) bytes: Option<usize>,
}

/// An entry may take a part of the bytes, one in so many. The map has at most half as many shards,
/// each with its share of the bound, so every entry that may stay fits into a shard.
const LARGEST_PART: usize = 16;

impl Bounds {
    /// The weight of an entry. Both bounds in one: no entry weighs less than its share of the bytes.
    pub(super) fn weight(self, bytes: usize) -> u64 {
        // One more, for an entry that weighed as much as the whole would not be let in.
        let share = |all: usize| all / self.entries.saturating_add(1);
        self.bytes.map_or(1, |all| bytes.max(share(all)).max(1)) as u64
    }

    pub(super) fn is_too_large(self, bytes: usize) -> bool {
        bytes > self.largest(bytes)
    }

    /// These bytes, or the most that an entry may take.
    pub(super) fn largest(self, bytes: usize) -> usize {
        self.bytes.map_or(bytes, |all| bytes.min(all / LARGEST_PART))
    }

    pub(super) fn exceeded_by(self, bytes: u64) -> bool {
        self.bytes.is_some_and(|all| bytes > all as u64)
    }

    pub(super) fn options(self) -> quick_cache::Options {
        let mut options = OptionsBuilder::new();
        options.estimated_items_capacity(self.entries);
        options.weight_capacity(self.bytes.unwrap_or(self.entries) as u64);
        if self.bytes.is_some() {
            let usual = 4 * available_parallelism().map_or(1, NonZero::get);
            options.shards(usual.min(LARGEST_PART / 2));
        }
        options.build().expect("both capacities are set")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_weighs_its_bytes_and_its_share_at_least() {
        let entries = Bounds { entries: 100, bytes: None };
        assert_eq!((entries.weight(0), entries.weight(1 << 30)), (1, 1));
        let both = Bounds { entries: 99, bytes: Some(1_000) };
        assert_eq!((both.weight(0), both.weight(10), both.weight(400)), (10, 10, 400));
        let tiny = Bounds { entries: 100, bytes: Some(10) };
        assert_eq!(tiny.weight(0), 1);
        assert!(both.is_too_large(63) && !both.is_too_large(62) && !entries.is_too_large(1 << 40));
    }
}
