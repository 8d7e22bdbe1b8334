//! How a process tells what it does.

use std::{
    io::Write,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use parking_lot::Mutex;

use crate::{
    history::{Deed, Event, Span},
    message::Message,
    moment::now,
};

pub struct Teller {
    process: u32,
    next: AtomicU64,
    seen: Mutex<Vec<Event>>,
}

const EVERY: Duration = Duration::from_millis(50);

impl Teller {
    pub fn new(process: u32) -> Self {
        Self { process, next: AtomicU64::new(0), seen: Mutex::default() }
    }

    /// A number that no other load, put or invalidation of the run has.
    pub fn number(&self) -> u64 {
        (u64::from(self.process) << 40) | self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Something that was seen from begin to end, and that nobody else can see before.
    pub fn seen(&self, key: u32, span: Span, deed: Deed) {
        self.seen.lock().push(Event { process: self.process, key, span, deed });
    }

    /// Returns when it is told: from then on this process may be killed.
    pub fn began(&self, number: u64, key: u32, deed: Deed) -> u64 {
        let begun = now();
        let span = Span { begun, ended: None };
        tell(&Message::Began(number, Event { process: self.process, key, span, deed }));
        begun
    }

    pub fn ended(&self, number: u64, key: u32, begun: u64, deed: Deed) {
        let span = Span { begun, ended: Some(now()) };
        tell(&Message::Ended(number, Event { process: self.process, key, span, deed }));
    }

    /// Tells what was seen, again and again.
    pub async fn run(&self) {
        loop {
            tokio::time::sleep(EVERY).await;
            self.flush();
        }
    }

    pub fn flush(&self) {
        let seen = std::mem::take(&mut *self.seen.lock());
        for some in seen.chunks(100) {
            tell(&Message::Seen(some.to_vec()));
        }
    }
}

/// Without a reader there is no run any more.
pub fn tell(message: &Message) {
    let mut out = std::io::stdout().lock();
    let told = serde_json::to_string(message).map_err(std::io::Error::from).and_then(|mut line| {
        line.push('\n');
        out.write_all(line.as_bytes())?;
        out.flush()
    });
    if told.is_err() {
        std::process::exit(0);
    }
}
