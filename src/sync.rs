//! What decides which task is next: the atomics at which two may meet, and the hash by which a name has its shard.
//! `tests/schedules` has its own in their place. What only counts (sizes, uses) has the standard library's.

pub(crate) use std::sync::atomic;

pub(crate) use foldhash::quality::RandomState;
