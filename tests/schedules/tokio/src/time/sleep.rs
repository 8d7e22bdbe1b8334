use std::{
    future::{Future, IntoFuture},
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use super::{Instant, Timers, error::Elapsed};

pub struct Sleep {
    until: Instant,
    number: u64,
}

pub fn sleep(duration: Duration) -> Sleep {
    // tokio has the far future, too.
    const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 3600);
    sleep_until(Instant::now() + duration.min(FAR))
}

pub fn sleep_until(until: Instant) -> Sleep {
    let number = Timers::with(|timers| {
        timers.begun += 1;
        timers.begun
    });
    Sleep { until, number }
}

impl Sleep {
    pub fn is_elapsed(&self) -> bool {
        self.until <= Instant::now()
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.is_elapsed() {
            return Poll::Ready(());
        }
        let (before, keeper) = Timers::with(|timers| {
            let waker = Some(context.waker().clone());
            let before = timers.sleeping.insert((self.until, self.number), waker);
            (before, timers.keeper.take())
        });
        drop(before);
        keeper.into_iter().for_each(Waker::wake);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        drop(Timers::with(|timers| timers.sleeping.remove(&(self.until, self.number))));
    }
}

pub struct Timeout<F> {
    work: Pin<Box<F>>,
    sleep: Sleep,
}

pub fn timeout<F: IntoFuture>(duration: Duration, work: F) -> Timeout<F::IntoFuture> {
    Timeout { work: Box::pin(work.into_future()), sleep: sleep(duration) }
}

pub fn timeout_at<F: IntoFuture>(deadline: Instant, work: F) -> Timeout<F::IntoFuture> {
    Timeout { work: Box::pin(work.into_future()), sleep: sleep_until(deadline) }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.work.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(Ok(done)),
            Poll::Pending => Pin::new(&mut self.sleep).poll(context).map(|()| Err(Elapsed)),
        }
    }
}
