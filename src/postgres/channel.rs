//! The channel on which releases are announced. A message is the hash of the name, so that a name of any
//! length fits; a name with the same hash is notified in vain.

pub(super) const CHANNEL: &str = "cattleguard_lock";

/// The message about a name.
pub(super) fn message(name: &str) -> i64 {
    hash(name).cast_signed()
}

/// FNV-1a: the same in every process of every version.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}
