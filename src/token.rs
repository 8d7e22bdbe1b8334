//! What every lease has, whoever grants it: a token that names it, and an end that renewals move.

use std::fmt;

/// Names one lease. Random, and new for every attempt: an owner's name would let two loads of one
/// process around an invalidation pass for each other.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token([u8; 16]);

impl Token {
    /// A token that no other lease has.
    pub fn random() -> Self {
        let mut bytes = [0; 16];
        // From the operating system: the token is what a commit's safety rests on, and a generator
        // of our own would repeat itself in clones of a process image.
        if getrandom::fill(&mut bytes).is_err() {
            bytes = fastrand::u128(..).to_be_bytes();
        }
        Self(bytes)
    }

    /// The token of a load that a fencing token names.
    #[cfg(feature = "redis")]
    pub(crate) fn of_fence(fence: u64) -> Self {
        Self(u128::from(fence).to_be_bytes())
    }

    /// The token's bytes, as kept in shared stores.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({:08x}…)", u128::from_be_bytes(self.0) >> 96)
    }
}

/// What became of a renewal.
#[must_use = "a lost lease can no longer commit"]
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Renewal {
    /// The lease lasts for another ttl.
    Renewed,
    /// The lease expired or was revoked.
    Lost,
}
