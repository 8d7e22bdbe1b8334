use std::{
    collections::BTreeMap,
    future::Future,
    ops::Deref,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use shuttle_engine::runtime::thread::{switch, switch_if_not_stopping};

/// tokio's `Notify`: `notify_waiters` reaches every future that was made before, polled or not; `notify_one` the one
/// that waits for longest, or leaves a permit.
///
/// Others may run before and after each call, never within one.
#[derive(Default)]
pub struct Notify {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    permit: bool,
    /// How many futures there have been.
    made: u64,
    waiting: BTreeMap<u64, Waiting>,
}

#[derive(Default)]
struct Waiting {
    /// Whether `notify_one` may choose it.
    enabled: bool,
    notified: Option<By>,
    waker: Option<Waker>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    One,
    All,
}

pub type Notified<'a> = Notification<&'a Notify>;
pub type OwnedNotified = Notification<Arc<Notify>>;

pub struct Notification<N: Deref<Target = Notify>> {
    notify: N,
    number: u64,
    done: bool,
}

impl Notify {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn notified(&self) -> Notified<'_> {
        Notification::of(self)
    }

    pub fn notified_owned(self: Arc<Self>) -> OwnedNotified {
        Notification::of(self)
    }

    pub fn notify_one(&self) {
        switch_if_not_stopping();
        self.notify_next();
        switch_if_not_stopping();
    }

    pub fn notify_waiters(&self) {
        switch_if_not_stopping();
        let mut state = self.state();
        let unnotified = state.waiting.values_mut().filter(|waiting| waiting.notified.is_none());
        let wakers: Vec<_> = unnotified.filter_map(|waiting| waiting.notify(By::All)).collect();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        switch_if_not_stopping();
    }

    fn notify_next(&self) {
        let mut state = self.state();
        let is_next = |waiting: &&mut Waiting| waiting.enabled && waiting.notified.is_none();
        let waker = match state.waiting.values_mut().find(is_next) {
            Some(next) => next.notify(By::One),
            None => {
                state.permit = true;
                None
            }
        };
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn notify(&mut self, by: By) -> Option<Waker> {
        self.notified = Some(by);
        self.waker.take()
    }
}

impl<N: Deref<Target = Notify>> Notification<N> {
    fn of(notify: N) -> Self {
        switch();
        let mut state = notify.state();
        state.made += 1;
        let number = state.made;
        state.waiting.insert(number, Waiting::default());
        drop(state);
        Self { notify, number, done: false }
    }

    /// Whether it is notified already.
    pub fn enable(mut self: Pin<&mut Self>) -> bool
    where
        Self: Unpin,
    {
        self.look(None).is_ready()
    }

    fn look(&mut self, waker: Option<&Waker>) -> Poll<()> {
        if self.done {
            return Poll::Ready(());
        }
        let mut state = self.notify.state();
        let State { permit, waiting, .. } = &mut *state;
        let this = waiting.entry(self.number).or_default();
        if this.notified.is_none() && *permit {
            *permit = false;
            this.notified = Some(By::One);
        }
        if this.notified.is_none() {
            this.enabled = true;
            this.waker = waker.cloned().or(this.waker.take());
            return Poll::Pending;
        }
        waiting.remove(&self.number);
        drop(state);
        self.done = true;
        Poll::Ready(())
    }
}

impl<N: Deref<Target = Notify> + Unpin> Future for Notification<N> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.look(Some(context.waker()))
    }
}

impl<N: Deref<Target = Notify>> Drop for Notification<N> {
    fn drop(&mut self) {
        let gone = self.notify.state().waiting.remove(&self.number);
        // As tokio has it: what it was told and has not heard is for the next.
        if !self.done && gone.is_some_and(|gone| gone.notified == Some(By::One)) {
            self.notify.notify_next();
        }
    }
}
