use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use crate::{Clock, Moment};

/// An estimate of the server's clock, from its answers. A wrong one moves only the moment at which an entry is
/// taken for stale.
pub(super) struct ServerClock {
    own: Clock,
    /// The server's clock minus ours, in milliseconds; `i64::MIN` before the first answer.
    ahead: AtomicI64,
}

impl ServerClock {
    pub(super) fn new(own: Clock) -> Self {
        Self { own, ahead: AtomicI64::new(i64::MIN) }
    }

    pub(super) fn own(&self) -> &Clock {
        &self.own
    }

    pub(super) fn is_known(&self) -> bool {
        self.ahead.load(Ordering::Relaxed) != i64::MIN
    }

    /// Notes what the server said a moment ago, in milliseconds.
    pub(super) fn note(&self, server: i64) {
        let ahead = server.saturating_sub(millis(self.own.now()));
        self.ahead.store(ahead, Ordering::Relaxed);
    }

    /// The moment of our clock at which the server's shows `server` milliseconds.
    pub(super) fn moment_of(&self, server: u64) -> Moment {
        let now = self.own.now();
        let server_now = millis(now).saturating_add(self.ahead.load(Ordering::Relaxed));
        let remaining = i64::try_from(server).unwrap_or(i64::MAX).saturating_sub(server_now);
        let by = Duration::from_millis(remaining.unsigned_abs());
        if remaining >= 0 { now.after(by) } else { now.before(by) }
    }
}

fn millis(moment: Moment) -> i64 {
    i64::try_from(moment.nanos() / 1_000_000).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(server.moment_of(1_700_000_003_000), now.after(second));
        assert_eq!(server.moment_of(1_700_000_001_000), now.before(second));
    }
}
