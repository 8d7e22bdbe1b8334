use std::{fmt, time::Duration};

use crate::{Guard, tower::GuardService};

/// Puts a [`Guard`] before a service. See the [module](super) for an example.
///
/// Services made by clones of one layer share the guard: its flights, tiers and leases.
pub struct GuardLayer<K: ?Sized, V, F> {
    guard: Guard<K, V>,
    key_of: F,
    timeout: Option<Duration>,
}

impl<K: ?Sized, V, F> GuardLayer<K, V, F> {
    /// A layer that guards the requests for which `key_of` finds a key. `key_of` is a closure
    /// `Fn(&Request) -> Option<K>`, or a type that implements [`KeyOf`](super::KeyOf).
    pub fn new(guard: Guard<K, V>, key_of: F) -> Self {
        Self { guard, key_of, timeout: None }
    }

    /// The deadline of each request, from its call: then it is answered with an expired entry, if there
    /// is one, or [`Error::DeadlineExceeded`](crate::Error::DeadlineExceeded), and its load goes on. As
    /// [`Guard::fetch_by`]. Default: none. Prefer it to `tower::timeout`, which knows of nothing stale.
    /// Requests without a key are not bounded.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

impl<S, K: ?Sized, V, F: Clone> tower::Layer<S> for GuardLayer<K, V, F> {
    type Service = GuardService<S, K, V, F>;

    fn layer(&self, inner: S) -> Self::Service {
        GuardService::new(inner, self.guard.clone(), self.key_of.clone(), self.timeout)
    }
}

impl<K: ?Sized, V, F: Clone> Clone for GuardLayer<K, V, F> {
    fn clone(&self) -> Self {
        Self { guard: self.guard.clone(), key_of: self.key_of.clone(), timeout: self.timeout }
    }
}

impl<K: ?Sized, V, F> fmt::Debug for GuardLayer<K, V, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardLayer").field("guard", &self.guard).finish_non_exhaustive()
    }
}
