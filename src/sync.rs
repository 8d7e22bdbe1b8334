//! The atomics that decide about what happens next. `tests/schedules` has shuttle's in their place, at which it lets
//! others run. What only counts (sizes, uses) has those of the standard library.

pub(crate) use std::sync::atomic;
