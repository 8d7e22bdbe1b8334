use std::{
    any::Any,
    cell::RefCell,
    error, fmt,
    future::{Future, poll_fn},
    panic::AssertUnwindSafe,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

use futures::FutureExt;
use shuttle::future;
pub use shuttle::future::{AbortHandle, yield_now};

thread_local! {
    static ALIVE: RefCell<(usize, Option<Waker>)> = const { RefCell::new((0, None)) };
}

/// A task that is counted until its future is dropped.
pub struct Alive(());

impl Alive {
    #[expect(clippy::new_without_default, reason = "it counts")]
    pub fn new() -> Self {
        ALIVE.with_borrow_mut(|(alive, _)| *alive += 1);
        Self(())
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        let waker = ALIVE.with_borrow_mut(|(alive, waker)| {
            *alive -= 1;
            if *alive == 0 { waker.take() } else { None }
        });
        waker.into_iter().for_each(Waker::wake);
    }
}

/// Waits until no task is left.
pub async fn none_left() {
    let count = |context: &mut Context<'_>| {
        ALIVE.with_borrow_mut(|(alive, waker)| match alive {
            0 => Poll::Ready(()),
            _ => {
                *waker = Some(context.waker().clone());
                Poll::Pending
            }
        })
    };
    poll_fn(count).await;
}

pub(crate) fn forget_all() {
    drop(ALIVE.take());
}

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
    let alive = Alive::new();
    let work = AssertUnwindSafe(work).catch_unwind().inspect(move |_| drop(alive));
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

    pub fn into_panic(self) -> Box<dyn Any + Send> {
        Box::new(self)
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the task was {self:?}")
    }
}

impl error::Error for JoinError {}
