use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use pin_project::pin_project;

use crate::{Error, Fetched};

/// The answer of a [`GuardService`](super::GuardService).
///
/// # Cancel safety
///
/// As for [`Guard::fetch`](crate::Guard::fetch): dropping it gives up one caller's place and nothing
/// else.
#[pin_project]
#[must_use = "the request's answer"]
pub struct ResponseFuture<V> {
    #[pin]
    state: State<V>,
}

#[pin_project(project = Projected)]
enum State<V> {
    /// A near hit; `None` after it was taken.
    Ready(Option<Fetched<V>>),
    /// A flight, or the inner service itself. Boxed: the cold path.
    Pending(#[pin] BoxFuture<'static, Result<Fetched<V>, Error>>),
}

impl<V> ResponseFuture<V> {
    pub(super) fn ready(hit: Fetched<V>) -> Self {
        Self { state: State::Ready(Some(hit)) }
    }

    pub(super) fn pending(answer: BoxFuture<'static, Result<Fetched<V>, Error>>) -> Self {
        Self { state: State::Pending(answer) }
    }
}

impl<V> Future for ResponseFuture<V> {
    type Output = Result<Fetched<V>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            Projected::Ready(hit) => {
                Poll::Ready(Ok(hit.take().expect("polled after it was ready")))
            }
            Projected::Pending(answer) => answer.poll(cx),
        }
    }
}

impl<V> fmt::Debug for ResponseFuture<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
