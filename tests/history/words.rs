//! Events as sentences.

use std::fmt::Write;

use super::{
    event::{Answer, Deed, Event, Micros, Reached},
    record::Record,
};

/// These events in the order of their begin, and the faults among them.
pub(super) fn story<const N: usize>(record: &Record<'_>, events: [Option<&Event>; N]) -> String {
    let mut events: Vec<&Event> = events.into_iter().flatten().collect();
    events.sort_by_key(|event| event.span.begun);
    let mut story = String::new();
    for event in &events {
        let _ = writeln!(story, "  {}", sentence(event));
    }
    let from = events.first().map_or(0, |event| event.span.begun);
    let until = events.iter().map(|event| record.over(event)).max().unwrap_or(from);
    let during = |fault: &&super::faults::Fault| fault.begun <= until && from <= fault.ended;
    for fault in record.faults.iter().filter(during) {
        let who = fault.process.map_or("all".to_owned(), |process| format!("process {process}"));
        let (begun, ended) = (seconds(fault.begun), seconds(fault.ended));
        let _ = writeln!(story, "  fault {begun} to {ended}: {:?}, {who}", fault.kind);
    }
    story
}

pub(super) fn seconds(at: Micros) -> String {
    format!("{}.{:06} s", at / 1_000_000, at % 1_000_000)
}

fn sentence(event: &Event) -> String {
    let Event { process, key, span, deed } = event;
    let ended =
        span.ended.map_or("was not seen to end".to_owned(), |at| format!("to {}", seconds(at)));
    format!("{} {ended}: process {process}, key {key}: {}", seconds(span.begun), what(deed))
}

fn what(deed: &Deed) -> String {
    match deed {
        Deed::Loaded { source, brought: Some(version) } => {
            format!("load {source} read version {version}")
        }
        Deed::Loaded { source, brought: None } => format!("load {source} brought nothing"),
        Deed::Put { source, version, is_acknowledged } => {
            let how = if *is_acknowledged { "" } else { ", not acknowledged" };
            format!("put {source} of version {version}{how}")
        }
        Deed::Invalidated { version, reached } => {
            let what = version.map_or("invalidate".to_owned(), |v| format!("invalidate_at {v}"));
            let how = match reached {
                Reached::Everywhere => "everywhere",
                Reached::Unconfirmed => "unconfirmed",
                Reached::Unacknowledged => "not acknowledged",
            };
            format!("{what}, {how}")
        }
        Deed::Asked { answer: Answer::Value { source, version }, outcome, .. } => {
            format!("a caller got version {version} of {source}, {outcome}")
        }
        Deed::Asked { answer, outcome, .. } => format!("a caller got {answer:?}, {outcome}"),
        Deed::Read { found: Some((source, version)) } => {
            format!("the far tier has version {version} of {source}")
        }
        Deed::Read { found: None } => "the far tier has nothing".to_owned(),
    }
}
