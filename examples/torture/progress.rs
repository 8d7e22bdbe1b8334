//! How far the run is: a bar on a terminal, a line now and then elsewhere.

use std::{io::IsTerminal, sync::Arc, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::record::Record;

pub struct Progress {
    bar: ProgressBar,
    is_seen: bool,
    begun: Instant,
    seconds: u64,
    befalls: Mutex<String>,
    record: Arc<Record>,
}

const LINE_EVERY: u64 = 10;

impl Progress {
    pub fn new(seconds: u64, record: Arc<Record>) -> Self {
        let is_seen = std::io::stderr().is_terminal();
        let bar = if is_seen { ProgressBar::new(seconds) } else { ProgressBar::hidden() };
        if let Ok(style) =
            ProgressStyle::with_template("{elapsed:>4} {bar:32} {pos}/{len} s  {msg}")
        {
            bar.set_style(style);
        }
        let befalls = Mutex::default();
        Self { bar, is_seen, begun: Instant::now(), seconds, befalls, record }
    }

    /// What happens just now.
    pub fn befalls(&self, what: &str) {
        what.clone_into(&mut self.befalls.lock());
    }

    /// For ever.
    pub async fn run(&self) {
        for second in 1.. {
            tokio::time::sleep_until(self.begun + Duration::from_secs(second)).await;
            let (answers, loads) = self.record.with(|seen| (seen.answers, seen.loads));
            let befalls = self.befalls.lock().clone();
            let line = format!("{answers} answers, {loads} loads; {befalls}");
            if self.is_seen {
                self.bar.set_position(second.min(self.seconds));
                self.bar.set_message(line);
            } else if second % LINE_EVERY == 0 {
                eprintln!("{second}/{} s: {}", self.seconds, line.trim_end_matches("; "));
            }
        }
    }

    pub fn done(&self) {
        self.bar.finish_and_clear();
    }
}
