use std::{fmt, future::Future, sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};

/// Until when, and whether still, a lease can be believed. Clones speak of the same lease.
///
/// Implementers of [`Lock`](super::Lock) keep a clone to [`end`](Self::end) it when their system says so.
#[derive(Clone)]
pub struct Validity(Arc<watch::Sender<State>>);

#[derive(Clone, Copy)]
struct State {
    until: Instant,
    /// Until when the session that it depends on can be believed.
    bound: Option<Instant>,
    ended: bool,
}

impl State {
    fn end(&self) -> Instant {
        self.bound.map_or(self.until, |bound| bound.min(self.until))
    }

    fn is_over(&self) -> bool {
        self.ended || self.end() <= Instant::now()
    }
}

impl Validity {
    /// A lease of this ttl. `asked` is the moment before the system was, whose own time begins later.
    pub fn since(asked: Instant, ttl: Duration) -> Self {
        let until = end_of(asked, ttl);
        Self(Arc::new(watch::Sender::new(State { until, bound: None, ended: false })))
    }

    /// For a lease that depends on a session: it can be believed until then at most, whatever its ttl. To
    /// be called again whenever the session was heard of.
    pub fn bound(&self, until: Instant) {
        self.0.send_if_modified(|state| {
            // One that was over has been lost, whether somebody saw it or not.
            let over = state.is_over();
            state.ended |= over;
            state.bound = Some(until);
            true
        });
    }

    /// The lease can no longer be believed. For good.
    pub fn end(&self) {
        self.0.send_if_modified(|state| !std::mem::replace(&mut state.ended, true));
    }

    /// Ends with the lease: the same as [`Lease::lost`](super::Lease::lost).
    pub fn over(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        let belief = self.clone();
        async move {
            let mut changes = belief.0.subscribe();
            loop {
                let state = *changes.borrow_and_update();
                if state.ended {
                    return;
                }
                tokio::select! {
                    // Never an error: `belief` is a sender.
                    _ = changes.changed() => {}
                    () = tokio::time::sleep_until(state.end()) => {
                        if belief.is_over() {
                            return belief.end();
                        }
                    }
                }
            }
        }
    }

    /// Until when the lease can be believed if nothing more is heard.
    pub(super) fn expires_at(&self) -> Instant {
        self.0.borrow().end()
    }

    /// Whether the lease can no longer be believed.
    pub fn is_over(&self) -> bool {
        self.0.borrow().is_over()
    }

    pub(super) fn shorten(&self, until: Instant) {
        self.0.send_if_modified(|state| {
            let shorter = until < state.until;
            if shorter {
                state.until = until;
            }
            shorter
        });
    }

    /// Whether the lease was still believed, and holds until then now.
    pub(super) fn extend(&self, until: Instant) -> bool {
        let mut extended = false;
        self.0.send_if_modified(|state| {
            extended = !state.is_over();
            if extended {
                state.until = until;
            }
            extended
        });
        extended
    }
}

impl fmt::Debug for Validity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Validity").field("over", &self.is_over()).finish()
    }
}

/// When a lease ends that was asked for then. Nobody means more than a year, and the clock has an end.
pub(crate) fn end_of(asked: Instant, ttl: Duration) -> Instant {
    asked + ttl.min(Duration::from_secs(365 * 24 * 3600))
}
