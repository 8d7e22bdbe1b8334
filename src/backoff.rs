//! Pauses between attempts: one home for every doubling back-off of the crate.

use std::{ops::Range, time::Duration};

/// Pauses that double from a first to a longest, each spread at random so that processes that failed
/// together do not come back together.
///
/// The spread is a factor: half to one and a half of the pause, unless [`spread`](Self::spread) says
/// otherwise.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    longest: Duration,
    next: Duration,
    spread: Range<f64>,
}

impl Backoff {
    /// A back-off whose pauses grow from `first` to `longest`. Equal ones make a steady pause.
    pub(crate) const fn new(first: Duration, longest: Duration) -> Self {
        Self { longest, next: first, spread: 0.5..1.5 }
    }

    /// Spreads the pauses by a factor of this range instead.
    pub(crate) const fn spread(mut self, factors: Range<f64>) -> Self {
        self.spread = factors;
        self
    }

    /// The pause before the next attempt.
    pub(crate) fn next(&mut self) -> Duration {
        self.next_of_at_most(Duration::MAX)
    }

    /// As [`next`](Self::next), but the pause is no longer than `limit` before it is spread: for an
    /// attempt that is due then, and must not be made by all at the same moment.
    pub(crate) fn next_of_at_most(&mut self, limit: Duration) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.longest);
        spread(pause.min(limit), self.spread.clone())
    }
}

/// A pause times a random factor of this range.
pub(crate) fn spread(pause: Duration, factors: Range<f64>) -> Duration {
    let factor = factors.start + fastrand::f64() * (factors.end - factors.start);
    pause.mul_f64(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(10);
    const LONGEST: Duration = Duration::from_millis(35);

    fn assert_spread(pause: Duration, of: Duration) {
        assert!(pause >= of / 2 && pause < of * 3 / 2, "{pause:?} is no spread of {of:?}");
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let mut backoff = Backoff::new(FIRST, LONGEST);
        for of in [FIRST, FIRST * 2, LONGEST, LONGEST] {
            assert_spread(backoff.next(), of);
        }
    }

    #[test]
    fn a_limited_pause_is_spread_too() {
        let mut backoff = Backoff::new(LONGEST, LONGEST);
        let pauses: Vec<_> = (0..50).map(|_| backoff.next_of_at_most(FIRST)).collect();
        pauses.iter().for_each(|pause| assert_spread(*pause, FIRST));
        assert!(pauses.iter().any(|pause| *pause != pauses[0]));
    }
}
