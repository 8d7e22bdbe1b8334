use std::{
    fmt,
    task::{Context, Poll},
    time::Duration,
};

use futures::{FutureExt, TryFutureExt};
use tokio::time::Instant;
use tower::{BoxError, Service, ServiceExt};

use crate::{
    Error, Fetched, Guard, Key, Loaded, Outcome, Tier, freshness::Found, tower::ResponseFuture,
};

/// Finds the key of a request. Implemented for every `Fn(&Request) -> Option<K>`.
pub trait KeyOf<Request> {
    /// The key, or a type that borrows as it.
    type Key: Key;

    /// The request's key; `None` sends the request past the guard.
    fn key_of(&self, request: &Request) -> Option<Self::Key>;
}

impl<Request, K: Key, F: Fn(&Request) -> Option<K>> KeyOf<Request> for F {
    type Key = K;

    fn key_of(&self, request: &Request) -> Option<K> {
        self(request)
    }
}

/// The service that [`GuardLayer`](super::GuardLayer) makes.
///
/// It is always ready: a hit needs nothing of the inner service, and a load drives its own clone of it
/// to readiness.
pub struct GuardService<S, K: ?Sized, V, F> {
    inner: S,
    guard: Guard<K, V>,
    key_of: F,
    timeout: Option<Duration>,
}

impl<S, K: ?Sized, V, F> GuardService<S, K, V, F> {
    pub(super) fn new(inner: S, guard: Guard<K, V>, key_of: F, timeout: Option<Duration>) -> Self {
        Self { inner, guard, key_of, timeout }
    }
}

impl<S, K, V, F, Request> Service<Request> for GuardService<S, K, V, F>
where
    S: Service<Request, Response = Loaded<V>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError> + 'static,
    F: KeyOf<Request, Key = K>,
    K: Key + 'static,
    V: Send + Sync + 'static,
    Request: Clone + Send + 'static,
{
    type Response = Fetched<V>;
    type Error = Error;
    type Future = ResponseFuture<V>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> ResponseFuture<V> {
        let inner = self.inner.clone();
        let Some(key) = self.key_of.key_of(&request) else {
            let loading = inner.oneshot(request);
            let loading = loading.map_err(|error| Error::Origin(error.into().into()));
            return ResponseFuture::pending(self.guard.bypass(loading).boxed());
        };
        let name = key.name();
        let found = match self.guard.look_near(&name) {
            Found::Fresh(entry) => {
                return ResponseFuture::ready(Fetched::new(entry, Outcome::Hit(Tier::Near)));
            }
            found => found,
        };
        let load = move || inner.clone().oneshot(request.clone());
        let deadline = self.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let name = (*name).into();
        ResponseFuture::pending(self.guard.resolve_miss(found, name, deadline, load).boxed())
    }
}

impl<S: Clone, K: ?Sized, V, F: Clone> Clone for GuardService<S, K, V, F> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            guard: self.guard.clone(),
            key_of: self.key_of.clone(),
            timeout: self.timeout,
        }
    }
}

impl<S: fmt::Debug, K: ?Sized, V, F> fmt::Debug for GuardService<S, K, V, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardService")
            .field("inner", &self.inner)
            .field("guard", &self.guard)
            .finish_non_exhaustive()
    }
}
