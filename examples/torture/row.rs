//! What is cached.

use serde::{Deserialize, Serialize};

/// A value that tells where it came from.
#[derive(Clone, Serialize, Deserialize)]
pub struct Row {
    /// The load or put that made it.
    pub source: u64,
    pub padding: String,
}

/// Rows whose number is smaller are asked for, and changed, all the time.
pub const HOT: u32 = 50;
pub const ALL: u32 = 200_000;

/// Every other row counts from where floating-point numbers have gaps.
pub fn first_version(key: u32) -> u64 {
    if key.is_multiple_of(2) { 1 << 53 } else { 1 }
}

pub fn name(key: u32) -> String {
    format!("row-{key}")
}
