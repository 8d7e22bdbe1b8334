//! What is seen to be done, in the order in which it is done.

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::history::{Deed, Event, Fault, Kind, Micros, Span};

pub(crate) struct Record {
    begun: Instant,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    last: Micros,
    sources: u64,
    events: Vec<Event>,
    faults: Vec<Fault>,
}

/// An event that has begun.
#[derive(Clone, Copy)]
pub(crate) struct Begun(usize);

impl Record {
    pub(crate) fn new() -> Self {
        Self { begun: Instant::now(), inner: Mutex::default() }
    }

    /// Each moment is later than the one before, though paused time moves in steps of a millisecond: what was done first
    /// within one has the smaller number.
    pub(crate) fn now(&self) -> Micros {
        let elapsed = self.begun.elapsed().as_micros() as Micros;
        let mut inner = self.inner.lock();
        inner.last = elapsed.max(inner.last + 1);
        inner.last
    }

    /// A number for a load or a put.
    pub(crate) fn source(&self) -> u64 {
        let mut inner = self.inner.lock();
        inner.sources += 1;
        inner.sources
    }

    /// What is not told to end has no end.
    pub(crate) fn begin(&self, process: u32, key: u32, deed: Deed) -> Begun {
        let span = Span { begun: self.now(), ended: None };
        let mut inner = self.inner.lock();
        inner.events.push(Event { process, key, span, deed });
        Begun(inner.events.len() - 1)
    }

    pub(crate) fn end(&self, Begun(index): Begun, with: impl FnOnce(&mut Deed)) {
        let now = self.now();
        // What ends when the run is over is not in the record any more.
        if let Some(event) = self.inner.lock().events.get_mut(index) {
            event.span.ended = Some(now);
            with(&mut event.deed);
        }
    }

    /// Something that has begun then, and ends now.
    pub(crate) fn ended(&self, begun: Micros, process: u32, key: u32, deed: Deed) {
        let span = Span { begun, ended: Some(self.now()) };
        self.inner.lock().events.push(Event { process, key, span, deed });
    }

    /// A fault that has begun then, and ends now.
    pub(crate) fn fault(&self, begun: Micros, kind: Kind, process: Option<u32>) {
        let ended = self.now();
        self.inner.lock().faults.push(Fault { kind, process, begun, ended });
    }

    /// Everything, once it is over.
    pub(crate) fn take(&self) -> (Vec<Event>, Vec<Fault>) {
        let inner = std::mem::take(&mut *self.inner.lock());
        (inner.events, inner.faults)
    }
}
