use std::{
    borrow::Borrow,
    fmt,
    marker::PhantomData,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::{FutureExt, TryFutureExt};
use tokio::time::Instant;
use tower::{BoxError, Service, ServiceExt};

use crate::{
    Error, Fetched, Guard, Key, Loaded, Name, Outcome, Tier, freshness::Found, key::name_of,
    tower::ResponseFuture,
};

/// Finds the key of a request. Implemented for every `Fn(&Request) -> Option<K>`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` finds no key in a `{Request}`",
    label = "not a `KeyOf<{Request}>`",
    note = "a closure says what it takes: `|request: &{Request}| Some(request.id)`, and returns an `Option` of a `cattleguard::Key`",
    note = "for a key that is a part of the request, use `GuardLayer::by_name(guard, |request: &{Request}| Some(request.path.name()))`"
)]
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

/// How a layer comes from a request to the name of its key. Sealed: made by [`GuardLayer`](super::GuardLayer).
pub trait NameOf<K: ?Sized>: sealed::Sealed {
    /// What is asked of the service.
    type Request;

    /// Calls `look` with the name, if the request has one.
    #[doc(hidden)]
    fn with_name<R>(&self, request: &Self::Request, look: impl FnOnce(&str) -> R) -> Option<R>;
}

mod sealed {
    pub trait Sealed {}
}

/// By a [`KeyOf`]: the layer of [`GuardLayer::new`](super::GuardLayer::new).
pub struct ByKey<F, Request>(F, Asked<Request>);

/// By a closure that names a key within the request: the layer of
/// [`GuardLayer::by_name`](super::GuardLayer::by_name).
pub struct ByName<F, Request>(F, Asked<Request>);

/// The request's type is part of a layer's: so a service that does not fit is refused where it is wrapped, and the
/// compiler says why.
type Asked<Request> = PhantomData<fn(&Request)>;

macro_rules! ways {
    ($($Way:ident),*) => {$(
        impl<F, Request> $Way<F, Request> {
            pub(super) fn new(f: F) -> Self {
                Self(f, PhantomData)
            }
        }

        impl<F, Request> sealed::Sealed for $Way<F, Request> {}

        impl<F: Clone, Request> Clone for $Way<F, Request> {
            fn clone(&self) -> Self {
                Self(self.0.clone(), PhantomData)
            }
        }

        impl<F: Copy, Request> Copy for $Way<F, Request> {}

        impl<F, Request> fmt::Debug for $Way<F, Request> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($Way)).finish_non_exhaustive()
            }
        }
    )*};
}
ways!(ByKey, ByName);

impl<Request, K, F> NameOf<K> for ByKey<F, Request>
where
    K: Key + ?Sized,
    F: KeyOf<Request, Key: Borrow<K>>,
{
    type Request = Request;

    fn with_name<R>(&self, request: &Request, look: impl FnOnce(&str) -> R) -> Option<R> {
        self.0.key_of(request).map(|key| look(&name_of(key.borrow())))
    }
}

impl<Request, K: ?Sized, F> NameOf<K> for ByName<F, Request>
where
    F: for<'a> Fn(&'a Request) -> Option<Name<'a>>,
{
    type Request = Request;

    fn with_name<R>(&self, request: &Request, look: impl FnOnce(&str) -> R) -> Option<R> {
        let mut name = (self.0)(request)?;
        name.escape();
        Some(look(&name))
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
    S: Service<Request, Response: Into<Loaded<V>>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError> + 'static,
    F: NameOf<K, Request = Request>,
    K: Key + ?Sized + 'static,
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
        let look = |name: &str| match self.guard.look_near(name) {
            Found::Fresh(entry) => Ok(Fetched::new(entry, Outcome::Hit(Tier::Near))),
            found => Err((found, Arc::from(name))),
        };
        let (found, name) = match self.key_of.with_name(&request, look) {
            Some(Ok(hit)) => return ResponseFuture::ready(hit),
            Some(Err(missed)) => missed,
            None => {
                let loading = inner.oneshot(request).map_ok(Into::into);
                let loading = loading.map_err(|error| Error::Origin(error.into().into()));
                return ResponseFuture::pending(self.guard.bypass(loading).boxed());
            }
        };
        let load = move || inner.clone().oneshot(request.clone());
        let deadline = self.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
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
