use std::{
    error, fmt,
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::FutureExt;
use shuttle::future;
pub use shuttle::future::{AbortHandle, yield_now};

pub struct JoinHandle<T>(future::JoinHandle<Result<T, JoinError>>);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum JoinError {
    Cancelled,
    Panicked,
}

pub fn spawn<F>(work: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    let work = AssertUnwindSafe(work).catch_unwind();
    JoinHandle(future::spawn(work.map(|done| done.map_err(|_| JoinError::Panicked))))
}

impl<T> JoinHandle<T> {
    pub fn abort(&self) {
        self.0.abort();
    }

    pub fn abort_handle(&self) -> AbortHandle {
        self.0.abort_handle()
    }

    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let joined = ready!(Pin::new(&mut self.0).poll(context));
        Poll::Ready(joined.unwrap_or(Err(JoinError::Cancelled)))
    }
}

impl JoinError {
    pub fn is_panic(self) -> bool {
        self == Self::Panicked
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the task was {self:?}")
    }
}

impl error::Error for JoinError {}
