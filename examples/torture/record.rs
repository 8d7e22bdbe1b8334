//! All that was seen, and all that was done.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::{BufRead, BufReader, BufWriter, Write},
    path::Path,
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::{
    act::Act,
    history::{Deed, Event, Fault, Kind, Micros},
    message::Message,
};

#[derive(Default)]
pub struct Record(Mutex<Seen>);

#[derive(Default)]
pub struct Seen {
    pub events: Vec<Event>,
    /// Where what has begun is, by its number.
    open: HashMap<u64, usize>,
    pub faults: Vec<Fault>,
    pub acts: BTreeMap<Act, usize>,
    pub answers: usize,
    pub loads: usize,
    /// What must not be, whatever befalls the run.
    pub fatal: Option<String>,
}

impl Record {
    pub fn take(&self, message: Message) {
        let mut seen = self.0.lock();
        match message {
            Message::Ready => {}
            Message::Began(number, event) => {
                seen.loads += usize::from(matches!(event.deed, Deed::Loaded { .. }));
                let at = seen.events.len();
                seen.open.insert(number, at);
                seen.events.push(event);
            }
            Message::Ended(number, event) => match seen.open.remove(&number) {
                Some(at) => seen.events[at] = event,
                None => seen.fatal = Some("a process ended what it had not begun".into()),
            },
            Message::Seen(events) => {
                let is_answer = |event: &&Event| matches!(event.deed, Deed::Asked { .. });
                seen.answers += events.iter().filter(is_answer).count();
                seen.events.extend(events);
            }
        }
    }

    pub fn befell(&self, act: Act, kinds: &[Kind], process: Option<u32>, span: (Micros, Micros)) {
        let mut seen = self.0.lock();
        *seen.acts.entry(act).or_default() += 1;
        let (begun, ended) = span;
        seen.faults.extend(kinds.iter().map(|&kind| Fault { kind, process, begun, ended }));
    }

    pub fn fatal(&self, what: String) {
        self.0.lock().fatal.get_or_insert(what);
    }

    pub fn with<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.0.lock())
    }
}

/// A line of a file.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Line<Event, Fault> {
    Event(Event),
    Fault(Fault),
}

impl Seen {
    pub fn write(&self, path: &Path) -> std::io::Result<()> {
        let mut file = BufWriter::new(File::create(path)?);
        let faults = self.faults.iter().map(Line::Fault);
        for line in faults.chain(self.events.iter().map(Line::Event)) {
            serde_json::to_writer(&mut file, &line)?;
            file.write_all(b"\n")?;
        }
        file.flush()
    }

    pub fn read(path: &Path) -> std::io::Result<Self> {
        let mut seen = Self::default();
        for line in BufReader::new(File::open(path)?).lines() {
            match serde_json::from_str(&line?)? {
                Line::Event(event) => seen.events.push(event),
                Line::Fault(fault) => seen.faults.push(fault),
            }
        }
        Ok(seen)
    }
}
