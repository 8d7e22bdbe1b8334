//! Traces: the keys of requests, big-endian 32-bit integers, one after the other.

use std::{collections::HashMap, path::Path};

/// The keys, numbered from zero in order of appearance, and how many there are.
pub fn read(path: &Path) -> Result<(Vec<u32>, u32), String> {
    let bytes = std::fs::read(path).map_err(|error| {
        let path = path.display();
        format!("cannot read the trace {path}: {error}; name a file of big-endian 32-bit keys")
    })?;
    if bytes.is_empty() || bytes.len() % 4 != 0 {
        return Err(format!(
            "{} is not a trace: {} bytes are not a row of 32-bit keys",
            path.display(),
            bytes.len()
        ));
    }
    let mut numbers: HashMap<&[u8], u32> = HashMap::new();
    let keys = bytes.chunks_exact(4).map(|key| {
        let next = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
        *numbers.entry(key).or_insert(next)
    });
    let keys = keys.collect();
    Ok((keys, u32::try_from(numbers.len()).unwrap_or(u32::MAX)))
}
