//! P3, in the process that loads: what it loads while another one invalidates, it gives to callers only that had come before.

use std::collections::{HashMap, HashSet};

use super::{
    event::{Answer, Deed, Event, Micros, Reached},
    faults::Kind,
    record::Record,
    verdict::{Admitted, Promise, Verdict},
    words,
};

pub(super) fn judge(record: &Record<'_>, verdict: &mut Verdict) {
    for events in record.by_key.values() {
        let overtaken = overtaken(record, events);
        let unprotected = super::loads::unprotected(events);
        for asked in events.iter().copied() {
            let Deed::Asked { answer: Answer::Value { source, .. }, .. } = asked.deed else {
                continue;
            };
            let Some((load, invalidation)) = overtaken.get(&source).copied() else { continue };
            verdict.ask(Promise::NoResurrection);
            if record.over(invalidation) < asked.span.begun {
                let admitted = admitted(record, load, asked, &unprotected);
                let story = || words::story(record, [Some(load), Some(invalidation), Some(asked)]);
                verdict.not_kept(Promise::NoResurrection, admitted, story);
            }
        }
    }
}

/// The loads that an acknowledged invalidation fell into from its begin to its end, by their numbers, with the first that did.
fn overtaken<'a>(
    record: &Record<'_>,
    events: &[&'a Event],
) -> HashMap<u64, (&'a Event, &'a Event)> {
    let is_acknowledged = |event: &&&Event| matches!(event.deed, Deed::Invalidated { reached, .. } if reached != Reached::Unacknowledged);
    // By begin, as the events are.
    let invalidations: Vec<&Event> = events.iter().filter(is_acknowledged).copied().collect();
    let mut overtaken = HashMap::new();
    for load in events.iter().copied() {
        let Deed::Loaded { source, brought: Some(brought) } = load.deed else { continue };
        let over: Micros = record.over(load);
        let first = invalidations.partition_point(|one| one.span.begun <= load.span.begun);
        let within = invalidations[first..].iter().take_while(|one| one.span.begun < over);
        let outdates = |one: &&&Event| {
            record.over(one) < over
                && matches!(one.deed, Deed::Invalidated { version, .. } if version.is_none_or(|version| brought < version))
        };
        if let Some(&by) = within.filter(outdates).min_by_key(|one| record.over(one)) {
            overtaken.insert(source, (load, by));
        }
    }
    overtaken
}

/// A load that the far tier did not take is kept for a moment all the same.
fn admitted(
    record: &Record<'_>,
    load: &Event,
    asked: &Event,
    unprotected: &HashSet<u64>,
) -> Option<Admitted> {
    let (from, until) = (load.span.begun, asked.span.begun);
    if record.had_any(&[Kind::Rewound], from, until) {
        return Some(Admitted::LostWrites);
    }
    if record.had_any(&[Kind::Forgot, Kind::Clock], from, until) {
        return Some(Admitted::LostRecord);
    }
    let is_unprotected =
        matches!(load.deed, Deed::Loaded { source, .. } if unprotected.contains(&source));
    let is_away = record.had(&[Kind::Away, Kind::Cut, Kind::Full], load.process, from, until);
    (is_unprotected || is_away).then_some(Admitted::Unreachable)
}
