//! What `src/sync.rs` of the library is, under shuttle.

pub(crate) use shuttle::sync::atomic;
