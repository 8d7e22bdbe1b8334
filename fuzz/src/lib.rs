//! Any bytes for each target of `cattleguard::fuzzing`: see CONTRIBUTING.md.

use cattleguard::fuzzing::Target;

/// Reads the bytes, within the target's bound.
pub fn read(target: &Target, bytes: &[u8]) {
    let held = || allocation_counter::measure(|| _ = (target.read)(bytes)).bytes_max;
    let bound = target.bound(bytes.len()) as u64;
    // Twice, if need be: a table that is made once does not count.
    assert!(held() <= bound || held() <= bound, "more than {bound} bytes for {}", bytes.len());
}
