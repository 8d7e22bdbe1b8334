//! How many.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::statistics::median;

/// A count of one round, or the median of several: with an even number of rounds it may end in a half.
#[derive(Clone, Copy, PartialEq, PartialOrd, Debug, Default)]
pub struct Count(f64);

impl Count {
    pub fn median<T: Into<Self>>(counts: impl IntoIterator<Item = T>) -> Option<Self> {
        median(counts.into_iter().map(|count| count.into().0)).map(Self)
    }

    /// With the word for what is counted.
    pub fn of(self, one: &str, many: &str) -> String {
        format!("{self} {}", if self.0 == 1.0 { one } else { many })
    }

    pub fn value(self) -> f64 {
        self.0
    }
}

impl From<u64> for Count {
    fn from(count: u64) -> Self {
        Self(count as f64)
    }
}

impl From<usize> for Count {
    fn from(count: usize) -> Self {
        Self(count as f64)
    }
}

impl std::iter::Sum for Count {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        Self(counts.map(|count| count.0).sum())
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let half = if self.0.fract() == 0.0 { "" } else { ".5" };
        f.pad(&format!("{}{half}", commas(self.0 as usize)))
    }
}

/// As a whole number where it is one.
impl Serialize for Count {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.fract() == 0.0 {
            serializer.serialize_u64(self.0 as u64)
        } else {
            serializer.serialize_f64(self.0)
        }
    }
}

pub fn commas(n: usize) -> String {
    let mut text = n.to_string();
    let mut at = text.len();
    while at > 3 {
        at -= 3;
        text.insert(at, ',');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_of_an_even_number_is_the_mean_of_the_middle_two() {
        let median = |counts: &[u64]| Count::median(counts.iter().copied()).map(|m| m.to_string());
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[7]).as_deref(), Some("7"));
        assert_eq!(median(&[2000, 1]).as_deref(), Some("1,000.5"));
        assert_eq!(median(&[9, 1, 4]).as_deref(), Some("4"));
        assert_eq!(median(&[9, 1, 4, 6]).as_deref(), Some("5"));
    }

    #[test]
    fn json_has_whole_numbers_where_they_are() {
        let json = |counts: [u64; 2]| {
            serde_json::to_string(&Count::median(counts).expect("two rounds")).expect("a number")
        };
        assert_eq!(json([1, 1]), "1");
        assert_eq!(json([1, 2]), "1.5");
    }
}
