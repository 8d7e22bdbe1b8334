use std::{
    fmt,
    time::{SystemTime, UNIX_EPOCH},
};

/// Which of two values of one key is newer: the origin's timestamp or row counter, never a
/// client's clock.
///
/// `high` comes from the origin; `low` breaks ties between values that share it. Versions are
/// compared as two unsigned 64-bit integers, in every tier.
///
/// A good version is a row counter (`version = version + 1` in each update) or
/// `GREATEST(clock_timestamp(), updated_at + interval '1 microsecond')`. A plain
/// `updated_at = now()` is *not* one: transactions commit in another order than they start, and
/// the last writer can carry the smaller stamp.
///
/// ```
/// use cattleguard::Version;
///
/// assert!(Version::new(2) > Version::new(1));
/// assert!(Version::with_tie(2, 1) > Version::new(2));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Version {
    high: u64,
    low: u64,
}

impl Version {
    /// The version below all others: what a value without a version has.
    pub const ZERO: Self = Self { high: 0, low: 0 };

    /// A version from the origin's counter or timestamp.
    pub const fn new(high: u64) -> Self {
        Self { high, low: 0 }
    }

    /// A version whose ties on `high` are broken by `low`.
    pub const fn with_tie(high: u64, low: u64) -> Self {
        Self { high, low }
    }

    /// The part that comes from the origin.
    pub const fn high(self) -> u64 {
        self.high
    }

    /// The tie-breaker.
    pub const fn low(self) -> u64 {
        self.low
    }

    /// Sixteen bytes, big-endian, as kept in shared stores.
    pub const fn to_bytes(self) -> [u8; 16] {
        (((self.high as u128) << 64) | self.low as u128).to_be_bytes()
    }

    /// The reverse of [`to_bytes`](Self::to_bytes).
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        let both = u128::from_be_bytes(bytes);
        Self { high: (both >> 64) as u64, low: both as u64 }
    }
}

impl From<u64> for Version {
    fn from(high: u64) -> Self {
        Self::new(high)
    }
}

/// Microseconds since 1970; moments before that become [`Version::ZERO`].
impl From<SystemTime> for Version {
    fn from(time: SystemTime) -> Self {
        let micros = time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros());
        Self::new(u64::try_from(micros).unwrap_or(u64::MAX))
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Version({self})")
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.low {
            0 => write!(f, "{}", self.high),
            low => write!(f, "{}.{low}", self.high),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_keep_order_and_value() {
        let versions = [
            Version::ZERO,
            Version::with_tie(0, u64::MAX),
            Version::new(1 << 53),
            Version::new((1 << 53) + 1),
            Version::with_tie(1 << 60, 1),
            Version::new(u64::MAX),
        ];
        for pair in versions.windows(2) {
            assert!(pair[0] < pair[1] && pair[0].to_bytes() < pair[1].to_bytes());
            assert_eq!(Version::from_bytes(pair[1].to_bytes()), pair[1]);
        }
    }
}
