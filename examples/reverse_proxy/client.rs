//! A client's connection, and when it ends by itself.
//!
//! A connection is **quiet** while no request is open on it: nothing was sent, or half a head, or nothing
//! after the last answer. It is **stalled** while all its open requests wait for the client: it takes no more of
//! their answers. Both may last for the idle timeout. What waits for the upstream is neither.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::observed::Observer;

/// What happens on a connection.
#[derive(Clone)]
pub struct Activity(Arc<Mutex<State>>);

struct State {
    /// Requests whose answer is not complete.
    open: usize,
    /// Those of them that wait for the upstream.
    waiting: usize,
    /// The last sign that the client takes part.
    last: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It may go on at least until then.
    Until(Instant),
    Quiet,
    Stalled,
}

/// The protocol's own bytes, such as the answer to a ping, are no sign.
const MIN_SIGN: usize = 64;

impl Activity {
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(State { open: 0, waiting: 0, last: Instant::now() })))
    }

    /// A request has come.
    pub fn open(&self) -> Open {
        let mut state = self.0.lock();
        state.open += 1;
        state.waiting += 1;
        state.last = Instant::now();
        Open { activity: self.clone(), is_waiting: true }
    }

    /// Whether the connection may go on, if it may be quiet and stalled for so long.
    pub fn verdict(&self, quiet: Duration, stalled: Duration) -> Verdict {
        let state = self.0.lock();
        let now = Instant::now();
        if state.waiting > 0 {
            return Verdict::Until(now + stalled);
        }
        let (limit, verdict) = match state.open {
            0 => (quiet, Verdict::Quiet),
            _ => (stalled, Verdict::Stalled),
        };
        let until = state.last + limit;
        if now < until { Verdict::Until(until) } else { verdict }
    }

    /// Counts the time from now.
    pub fn restart(&self) {
        self.0.lock().last = Instant::now();
    }
}

impl Observer for Activity {
    fn received(&self, _: usize) {}

    fn sent(&self, bytes: usize) {
        if bytes >= MIN_SIGN {
            self.restart();
        }
    }
}

/// A request from its head to the end of its answer.
pub struct Open {
    activity: Activity,
    is_waiting: bool,
}

impl Open {
    /// The head of the answer is there.
    pub fn answer<B>(mut self, body: B) -> Answer<B> {
        self.wait(false);
        Answer { body, open: self }
    }

    fn wait(&mut self, waits: bool) {
        if self.is_waiting == waits {
            return;
        }
        self.is_waiting = waits;
        let mut state = self.activity.0.lock();
        if waits {
            state.waiting += 1;
        } else {
            state.waiting -= 1;
            state.last = Instant::now();
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.wait(false);
        let mut state = self.activity.0.lock();
        state.open -= 1;
        state.last = Instant::now();
    }
}

/// The body of an answer, on its way to the client.
pub struct Answer<B> {
    body: B,
    open: Open,
}

impl<B: Body<Data = Bytes> + Unpin> Body for Answer<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        self.open.wait(frame.is_pending());
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
