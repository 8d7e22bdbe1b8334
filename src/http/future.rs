use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use http::Response;
use http_body::Body as HttpBody;

use super::Body;

/// The response of an [`HttpGuard`](super::HttpGuard).
///
/// # Cancel safety
///
/// Dropping it gives up this client's response and nothing else: a load that it has begun goes on,
/// answers the others and fills the cache.
#[must_use = "the request's answer"]
pub struct ResponseFuture<B: HttpBody, E>(State<B, E>);

enum State<B: HttpBody, E> {
    /// A near hit; `None` after it was taken.
    Ready(Option<Response<Body<B>>>),
    /// Boxed: the cold path.
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

/// What is in it is boxed, or never polled in place.
impl<B: HttpBody, E> Unpin for ResponseFuture<B, E> {}

impl<B: HttpBody, E> Future for ResponseFuture<B, E> {
    type Output = Result<Response<Body<B>>, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            State::Ready(hit) => Poll::Ready(Ok(hit.take().expect("polled after it was ready"))),
            State::Pending(answer) => answer.as_mut().poll(cx),
        }
    }
}

impl<B: HttpBody, E> fmt::Debug for ResponseFuture<B, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
