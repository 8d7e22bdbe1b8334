use std::{
    convert::Infallible,
    error, fmt,
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
/// A version is made of `u64`, `u32`, or of what a SQL driver returns for a counter, `i64` and `i32`; a
/// negative one is an error. A timestamp needs [`from_timestamp`](Self::from_timestamp), so that no local clock
/// becomes a version by accident.
///
/// ```
/// use cattleguard::Version;
///
/// assert!(Version::new(2) > Version::new(1));
/// assert!(Version::with_tie(2, 1) > Version::new(2));
/// assert!(Version::try_from(-1_i64).is_err());
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

    /// A version from a timestamp of the origin, in microseconds since 1970. Takes what converts into a
    /// `SystemTime`: `chrono::DateTime<Utc>`, `time::OffsetDateTime`.
    ///
    /// The column must be set by the database, in the statement that writes the row, and must grow with each
    /// write: `GREATEST(clock_timestamp(), updated_at + interval '1 microsecond')`. Two writes within one
    /// microsecond, or one of an earlier transaction, would be the same version or an older one. Never give it the
    /// clock of this process.
    ///
    /// # Errors
    ///
    /// [`NegativeVersion`] for a moment before 1970.
    ///
    /// ```
    /// use std::time::{Duration, UNIX_EPOCH};
    /// use cattleguard::Version;
    ///
    /// let updated_at = UNIX_EPOCH + Duration::from_micros(1_700_000_000_000_000); // of the row
    /// assert_eq!(Version::from_timestamp(updated_at), Ok(Version::new(1_700_000_000_000_000)));
    /// ```
    pub fn from_timestamp(time: impl Into<SystemTime>) -> Result<Self, NegativeVersion> {
        let since = time.into().duration_since(UNIX_EPOCH).map_err(|_| NegativeVersion(()))?;
        Ok(Self::new(u64::try_from(since.as_micros()).unwrap_or(u64::MAX)))
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

/// It never fails. As `From`, a literal could be of two types.
impl TryFrom<u32> for Version {
    type Error = NegativeVersion;

    fn try_from(high: u32) -> Result<Self, NegativeVersion> {
        Ok(Self::new(high.into()))
    }
}

impl TryFrom<i64> for Version {
    type Error = NegativeVersion;

    fn try_from(high: i64) -> Result<Self, NegativeVersion> {
        high.try_into().map(Self::new).map_err(|_| NegativeVersion(()))
    }
}

impl TryFrom<i32> for Version {
    type Error = NegativeVersion;

    fn try_from(high: i32) -> Result<Self, NegativeVersion> {
        i64::from(high).try_into()
    }
}

/// A version below zero: a negative counter, or a timestamp before 1970. Versions are compared as unsigned
/// integers; a column that can be negative is not one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NegativeVersion(());

impl NegativeVersion {
    pub(crate) const ADVICE: &str =
        "a version must not be negative: count from zero, or use a timestamp after 1970";
}

impl From<Infallible> for NegativeVersion {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

impl fmt::Display for NegativeVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::ADVICE)
    }
}

impl error::Error for NegativeVersion {}

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
    use proptest::prelude::*;

    use super::*;

    /// All of `u64`, and often what lies around the ends of 32 bits, of exact floats, of `i64` and of `u64`.
    fn number() -> impl Strategy<Value = u64> {
        let ends = prop::sample::select(vec![0, 1 << 32, 1 << 53, 1 << 63]);
        prop_oneof![
            any::<u64>(),
            (ends, -2_i64..3).prop_map(|(end, by): (u64, _)| end.wrapping_add_signed(by)),
        ]
    }

    /// Often with the same `high`.
    fn two() -> impl Strategy<Value = [Version; 2]> {
        (number(), number(), number(), number(), any::<bool>()).prop_map(|(a, b, c, d, is_tie)| {
            [Version::with_tie(a, c), Version::with_tie(if is_tie { a } else { b }, d)]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_096))]

        #[test]
        fn any_two_versions_have_the_order_of_their_numbers_and_of_their_bytes([one, other] in two()) {
            let by_high = one.high().cmp(&other.high());
            let order = by_high.then(one.low().cmp(&other.low()));
            prop_assert_eq!(one.cmp(&other), order);
            prop_assert_eq!(one.to_bytes().cmp(&other.to_bytes()), order);
            prop_assert_eq!(one == other, order.is_eq());
            let high = one.high().to_be_bytes();
            let both = [high, one.low().to_be_bytes()].concat();
            prop_assert_eq!(one.to_bytes().to_vec(), both);
            prop_assert_eq!(Version::from_bytes(one.to_bytes()), one);
        }

        #[test]
        fn a_number_is_a_version_unless_it_is_negative(number in any::<i64>()) {
            let expected = u64::try_from(number).ok().map(Version::new);
            prop_assert_eq!(Version::try_from(number).ok(), expected);
        }
    }

    #[test]
    fn a_negative_version_is_an_error_and_never_wraps() {
        assert_eq!(Version::try_from(7_i64), Ok(Version::new(7)));
        assert_eq!(Version::try_from(i64::MAX).map(Version::high), Ok(i64::MAX as u64));
        assert!(Version::try_from(-1_i64).is_err() && Version::try_from(-1_i32).is_err());
        let before_1970 = UNIX_EPOCH - std::time::Duration::from_secs(1);
        assert!(Version::from_timestamp(before_1970).is_err());
    }

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
