use std::{fmt, future::Future, sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};

/// Until when a lease is valid, and whether it still is. Clones speak of the same lease.
///
/// Implementers of [`Lock`](super::Lock) keep a clone, to [`end`](Self::end) it when their system says that
/// the lease is gone. A lease that has ended never becomes valid again.
#[derive(Clone)]
pub struct Validity(Arc<watch::Sender<State>>);

#[derive(Clone, Copy)]
struct State {
    until: Instant,
    /// Until when the session that it depends on is surely alive.
    bound: Option<Instant>,
    ended: bool,
}

impl State {
    fn expires_at(&self) -> Instant {
        self.bound.map_or(self.until, |bound| bound.min(self.until))
    }

    fn has_ended(&self) -> bool {
        self.ended || self.expires_at() <= Instant::now()
    }
}

impl Validity {
    /// The validity of a lease of this ttl. `asked` is the moment before the system was asked, which counts
    /// the ttl from later.
    pub fn since(asked: Instant, ttl: Duration) -> Self {
        let until = end_of(asked, ttl);
        Self(Arc::new(watch::Sender::new(State { until, bound: None, ended: false })))
    }

    /// For a lease that depends on a session: it is valid until then at most, whatever its ttl. Call it again
    /// whenever the session has proved to be alive.
    pub fn bound(&self, until: Instant) {
        self.0.send_if_modified(|state| {
            // What had ended stays so, whether it was noticed or not.
            state.ended |= state.has_ended();
            state.bound = Some(until);
            true
        });
    }

    /// Ends the lease, for good.
    pub fn end(&self) {
        self.0.send_if_modified(|state| !std::mem::replace(&mut state.ended, true));
    }

    /// Resolves when the lease has ended, as [`Lease::lost`](super::Lease::lost) does.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost: call it again.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        let validity = self.clone();
        async move {
            let mut changes = validity.0.subscribe();
            loop {
                let state = *changes.borrow_and_update();
                if state.ended {
                    return;
                }
                // A change is never an error: `validity` is a sender.
                let changed = tokio::time::timeout_at(state.expires_at(), changes.changed()).await;
                if changed.is_err() && validity.has_ended() {
                    return validity.end();
                }
            }
        }
    }

    /// Whether the lease has ended.
    pub fn has_ended(&self) -> bool {
        self.0.borrow().has_ended()
    }

    /// When the lease ends unless it is renewed, or its session proves to be alive.
    pub(super) fn expires_at(&self) -> Instant {
        self.0.borrow().expires_at()
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

    /// Moves the end to `until`, unless the lease has ended. Whether it was moved.
    pub(super) fn extend(&self, until: Instant) -> bool {
        let mut extended = false;
        self.0.send_if_modified(|state| {
            extended = !state.has_ended();
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
        f.debug_struct("Validity").field("ended", &self.has_ended()).finish()
    }
}

/// When a lease of this ttl ends that was asked for then. At most a year later: the clock has an end.
pub(crate) fn end_of(asked: Instant, ttl: Duration) -> Instant {
    asked + ttl.min(Duration::from_secs(365 * 24 * 3600))
}
