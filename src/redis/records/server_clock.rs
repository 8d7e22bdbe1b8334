use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{Clock, Moment};

/// Before the server's first answer.
const UNKNOWN: i64 = i64::MIN;

/// What an estimate may be wrong by: an answer's way.
const DEVIATION: Duration = Duration::from_secs(1);
const DEVIATION_MICROS: i64 = 1_000_000;

/// An estimate of the server's clock, from its answers. A wrong one moves only the moment at which an entry is
/// taken for stale.
pub(crate) struct ServerClock {
    own: Clock,
    /// The server's clock minus ours, in milliseconds; [`UNKNOWN`] at first.
    ahead: AtomicI64,
    /// What was given out last as the server's time, in microseconds: what comes from it must grow.
    given: AtomicI64,
}

impl ServerClock {
    pub(crate) fn new(own: Clock) -> Self {
        Self { own, ahead: AtomicI64::new(UNKNOWN), given: AtomicI64::new(0) }
    }

    pub(super) fn own(&self) -> &Clock {
        &self.own
    }

    pub(super) fn is_known(&self) -> bool {
        self.ahead.load(Ordering::Relaxed) != UNKNOWN
    }

    /// The server's time as an argument of a script: microseconds, a later one at each call unless its clock was set
    /// back.
    pub(super) fn server_micros(&self) -> String {
        let ahead = match self.ahead.load(Ordering::Relaxed) {
            UNKNOWN => system_millis().saturating_sub(millis(self.own.now())),
            ahead => ahead,
        };
        let now = millis(self.own.now()).saturating_add(ahead).saturating_mul(1000);
        let later = |given: i64| {
            let set_back = given.saturating_sub(now) > DEVIATION_MICROS;
            Some(if set_back { now } else { given.max(now).saturating_add(1) })
        };
        let given = self.given.fetch_update(Ordering::Relaxed, Ordering::Relaxed, later);
        given.ok().and_then(later).unwrap_or(now).to_string()
    }

    /// Notes what the server said a moment ago, in milliseconds.
    pub(super) fn note(&self, server: i64) {
        let ahead = server.saturating_sub(millis(self.own.now()));
        self.ahead.store(ahead, Ordering::Relaxed);
    }

    /// The moment of our clock at which the server's shows `server` milliseconds. Now, if that is further away than
    /// `longest`: the server's clock was set back since.
    pub(super) fn moment_of(&self, server: u64, longest: Duration) -> Moment {
        let now = self.own.now();
        let server_now = millis(now).saturating_add(self.ahead.load(Ordering::Relaxed));
        let remaining = i64::try_from(server).unwrap_or(i64::MAX).saturating_sub(server_now);
        let by = Duration::from_millis(remaining.unsigned_abs());
        match remaining {
            ..0 => now.before(by),
            _ if by > longest.saturating_add(DEVIATION) => now,
            _ => now.after(by),
        }
    }
}

/// This machine's time of day, in milliseconds.
pub(super) fn system_millis() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn millis(moment: Moment) -> i64 {
    i64::try_from(moment.nanos() / 1_000_000).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_is_given_out_is_later_each_time() {
        let server = ServerClock::new(Clock::manual());
        server.note(1_700_000_000_000);
        let first: i64 = server.server_micros().parse().expect("a number");
        let second: i64 = server.server_micros().parse().expect("a number");
        assert!(first > 1_700_000_000_000_000 && second > first, "{first} {second}");
        assert!(second < 1_700_000_000_001_000, "{second}");
        server.note(1_699_999_000_000);
        let set_back: i64 = server.server_micros().parse().expect("a number");
        assert!(set_back < 1_699_999_000_001_000, "{set_back}");
    }

    #[test]
    fn moments_follow_the_servers_clock() {
        let own = Clock::manual();
        let server = ServerClock::new(own.clone());
        assert!(!server.is_known());
        server.note(1_700_000_000_000);
        assert!(server.is_known());
        own.advance(Duration::from_secs(2));
        let now = own.now();
        let second = Duration::from_secs(1);
        let moment_of = |millis| server.moment_of(millis, 4 * second);
        assert_eq!(moment_of(1_700_000_003_000), now.after(second));
        assert_eq!(moment_of(1_700_000_001_000), now.before(second));
        assert_eq!(moment_of(1_700_000_007_000), now.after(5 * second));
        assert_eq!(moment_of(1_700_000_007_001), now);
    }
}
