use std::{borrow::Borrow, fmt, time::Duration};

use tower::{BoxError, Service};

use super::{
    GuardService,
    service::{ByKey, ByName, KeyOf, NameOf},
};
use crate::{Guard, Key, Loaded, Name};

/// Puts a [`Guard`] before a service. See the [module](super) for an example.
///
/// Services made by clones of one layer share the guard: its flights, tiers and leases.
pub struct GuardLayer<K: ?Sized, V, F> {
    guard: Guard<K, V>,
    key_of: F,
    timeout: Option<Duration>,
}

impl<K: ?Sized, V, F, Request> GuardLayer<K, V, ByKey<F, Request>> {
    /// A layer that guards the requests for which `key_of` finds a key. `key_of` is a closure
    /// `Fn(&Request) -> Option<K>`, or a type that implements [`KeyOf`](super::KeyOf). For a key that is a part of the
    /// request there is [`by_name`](Self::by_name).
    pub fn new(guard: Guard<K, V>, key_of: F) -> Self
    where
        F: KeyOf<Request, Key: Borrow<K>>,
    {
        Self { guard, key_of: ByKey::new(key_of), timeout: None }
    }
}

impl<K: ?Sized, V, F, Request> GuardLayer<K, V, ByName<F, Request>> {
    /// A layer that guards the requests for which `name_of` finds the [`Name`] of a key of the guard, which may be
    /// a part of the request: nothing is copied for a hit.
    ///
    /// ```
    /// use cattleguard::{Guard, GuardLayer, Key};
    ///
    /// #[derive(Clone)]
    /// struct GetPage { path: String }
    ///
    /// let pages: Guard<str, String> = Guard::builder().build();
    /// let layer = GuardLayer::by_name(pages, |request: &GetPage| Some(request.path.name()));
    /// # let _ = layer;
    /// ```
    pub fn by_name(guard: Guard<K, V>, name_of: F) -> Self
    where
        F: for<'a> Fn(&'a Request) -> Option<Name<'a>>,
    {
        Self { guard, key_of: ByName::new(name_of), timeout: None }
    }
}

impl<K: ?Sized, V, F> GuardLayer<K, V, F> {
    /// The deadline of each request, from its call: then it is answered with an expired entry, if there
    /// is one, or [`Error::DeadlineExceeded`](crate::Error::DeadlineExceeded), and its load continues. As
    /// [`Guard::fetch_by`]. Default: none. Prefer it to `tower::timeout`, which knows of nothing stale.
    /// Requests without a key are not bounded.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

/// Bounds as those of the service, though wrapping needs none: of a bound that a call does not meet, the compiler
/// says no more than that there is no such method.
impl<S, K, V, F> tower::Layer<S> for GuardLayer<K, V, F>
where
    S: Service<F::Request, Response: Into<Loaded<V>>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError> + 'static,
    F: NameOf<K, Request: Clone + Send + 'static> + Clone,
    K: Key + ?Sized + 'static,
    V: Send + Sync + 'static,
{
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
