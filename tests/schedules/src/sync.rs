//! What `src/sync.rs` of the library is, here: atomics that let others run, and a hash that is the same each time.

use std::hash::{BuildHasherDefault, DefaultHasher};

pub(crate) use shuttle::sync::atomic;

pub(crate) type RandomState = BuildHasherDefault<DefaultHasher>;
