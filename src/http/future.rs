use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{FutureExt, future::BoxFuture};
use http::Response;
use http_body::Body as HttpBody;

use super::{body::Body, fields::cache_status};

/// The future of an [`HttpGuard`](crate::http::HttpGuard): the response to one request.
///
/// # Cancel safety
///
/// Dropping it loses this client's response only. A load that it has started continues, answers the other
/// clients and fills the cache; a request that bypasses the cache is cancelled at the origin.
///
/// # Errors
///
/// The error of the inner service, for the one client whose request met it.
#[must_use = "the request's answer"]
pub struct ResponseFuture<B: HttpBody, E>(State<B, E>);

enum State<B: HttpBody, E> {
    /// A near hit; `None` once it is taken.
    Ready(Option<Response<Body<B>>>),
    /// Boxed: not on the path of a hit.
    Pending(BoxFuture<'static, Result<Response<Body<B>>, E>>),
}

impl<B: HttpBody, E> ResponseFuture<B, E> {
    pub(super) fn ready(hit: Response<Body<B>>) -> Self {
        Self(State::Ready(Some(hit)))
    }

    pub(super) fn pending(answer: BoxFuture<'static, Result<Response<Body<B>>, E>>) -> Self {
        Self(State::Pending(answer))
    }
}

impl<B: HttpBody + Send + 'static, E: Send + 'static> ResponseFuture<B, E>
where
    B::Data: Send,
{
    /// Has the cache go by this name in `Cache-Status`.
    pub(super) fn named(self, name: Arc<str>) -> Self {
        let named = move |mut response: Response<Body<B>>| {
            cache_status::rename(response.headers_mut(), &name);
            response
        };
        match self.0 {
            State::Ready(hit) => Self(State::Ready(hit.map(named))),
            State::Pending(answer) => Self::pending(answer.map(|answer| answer.map(named)).boxed()),
        }
    }
}

/// Nothing inside is polled in place, except through a box.
impl<B: HttpBody, E> Unpin for ResponseFuture<B, E> {}

impl<B: HttpBody, E> Future for ResponseFuture<B, E> {
    type Output = Result<Response<Body<B>>, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            State::Ready(hit) => {
                Poll::Ready(Ok(hit.take().expect("a future is not polled after it was ready")))
            }
            State::Pending(answer) => answer.as_mut().poll(cx),
        }
    }
}

impl<B: HttpBody, E> fmt::Debug for ResponseFuture<B, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
