//! P1 and P6: how many loads run at one time.

use std::collections::{BTreeMap, HashSet};

use super::{
    event::{Answer, Deed, Event, Micros},
    faults::Kind,
    record::Record,
    verdict::{Admitted, Promise, Verdict},
    words,
};

pub(super) fn judge(record: &Record<'_>, verdict: &mut Verdict) {
    for events in record.by_key.values() {
        one_at_a_time(record, events, verdict);
    }
    a_few_in_a_process(record, verdict);
}

fn is_load(event: &Event) -> bool {
    matches!(event.deed, Deed::Loaded { .. })
}

/// P1, and P6 for loads of one key in one process.
fn one_at_a_time(record: &Record<'_>, events: &[&Event], verdict: &mut Verdict) {
    let unprotected = unprotected(events);
    let mut running: Vec<&Event> = Vec::new();
    for load in events.iter().copied().filter(|event| is_load(event)) {
        verdict.ask(Promise::OneLoad);
        running.retain(|other| load.span.begun < record.over(other));
        let is_local = |other: &&&Event| other.process == load.process;
        let local = running.iter().rfind(is_local);
        let remote = running.iter().rfind(|other| !is_local(other));
        for other in local.into_iter().chain(remote).copied() {
            let is_local = other.process == load.process;
            let promise = if is_local { Promise::OriginSafe } else { Promise::OneLoad };
            let why = why_two(record, events, other, load).or_else(|| {
                let of = |event: &Event| matches!(event.deed, Deed::Loaded { source, .. } if unprotected.contains(&source));
                (!is_local && (of(other) || of(load))).then_some(Admitted::Unreachable)
            });
            let two = [Some(other), Some(load), None];
            verdict.not_kept(promise, why, || words::story(record, two));
        }
        running.push(load);
    }
}

/// The loads whose callers were told that the far tier did not answer.
pub(super) fn unprotected(events: &[&Event]) -> HashSet<u64> {
    let told = events.iter().filter_map(|event| match &event.deed {
        Deed::Asked { answer: Answer::Value { source, .. }, outcome, .. }
            if outcome.starts_with("bypassed_far") =>
        {
            Some(*source)
        }
        _ => None,
    });
    told.collect()
}

/// What the docs admit: why a load began while another one ran.
fn why_two(
    record: &Record<'_>,
    events: &[&Event],
    other: &Event,
    load: &Event,
) -> Option<Admitted> {
    use Kind::{Away, Clock, Cut, Deaf, Forgot, Frozen, Full, Killed, Rewound, Slow};
    let bounds = record.bounds;
    let (from, until) = (other.span.begun.saturating_sub(bounds.slack), load.span.begun);
    let writes = events.iter().filter(|event| {
        matches!(event.deed, Deed::Invalidated { .. } | Deed::Put { .. })
            && event.span.begun <= until
    });
    for write in writes {
        let is_in_doubt = match write.deed {
            Deed::Invalidated { reached, .. } => reached == super::event::Reached::Unacknowledged,
            Deed::Put { is_acknowledged, .. } => !is_acknowledged,
            _ => false,
        };
        let over = if is_in_doubt { repeated(record, write) } else { record.over(write) };
        if from <= over {
            return Some(Admitted::WrittenWhileLoading);
        }
    }
    let earlier = from.saturating_sub(bounds.lease_ttl);
    let disturbed = [Away, Cut, Slow, Full, Clock];
    if other.process == load.process {
        let shared = bounds.near_outage_ttl;
        let is_later = load.span.begun >= other.span.begun + shared;
        if is_later && record.had(&[Deaf, Away, Cut, Slow, Frozen], load.process, earlier, until) {
            return Some(Admitted::NotSubscribed);
        }
        if had_a_turn(record, load.process, from, until) {
            return Some(Admitted::SubscribedAgain);
        }
        let is_without_lease = record.had(&disturbed, load.process, earlier, until);
        return (is_without_lease && was_closed(events, other, load))
            .then_some(Admitted::ClosedWhileWaiting);
    }
    if record.had(&[Frozen, Killed], other.process, from, until) {
        return Some(Admitted::HolderStopped);
    }
    if record.had_any(&[Forgot, Rewound], from, until) {
        return Some(Admitted::LostRecord);
    }
    let reached = record.had(&disturbed, other.process, earlier, until)
        || record.had(&disturbed, load.process, earlier, until);
    reached.then_some(Admitted::Unreachable)
}

/// When one that was not acknowledged has been repeated: it is kept for as long as the far tier is not there.
fn repeated(record: &Record<'_>, write: &Event) -> Micros {
    let over = record.over(write);
    let faults = record.faults.iter();
    let during = faults.filter(|fault| fault.begun <= over && write.span.begun <= fault.ended);
    during.map(|fault| fault.ended).fold(over, Micros::max) + record.bounds.slack
}

/// Whether one of the two flights was closed before it loaded: a write came after its first caller.
fn was_closed(events: &[&Event], other: &Event, load: &Event) -> bool {
    let sources = [other, load].map(|event| match event.deed {
        Deed::Loaded { source, .. } => source,
        _ => 0,
    });
    let boarded = events.iter().filter(|event| {
        matches!(&event.deed, Deed::Asked { answer: Answer::Value { source, .. }, .. } if sources.contains(source))
    });
    let Some(first) = boarded.map(|event| event.span.begun).min() else { return false };
    events.iter().any(|event| {
        matches!(event.deed, Deed::Invalidated { .. } | Deed::Put { .. })
            && event.span.begun <= load.span.begun
            && event.span.ended.is_none_or(|ended| first <= ended)
    })
}

/// Whether messages to this process stopped or came back then: flights are closed at both moments, the first of which
/// comes within a second.
fn had_a_turn(record: &Record<'_>, process: u32, from: Micros, until: Micros) -> bool {
    const NOTICED: Micros = 1_000_000;
    let bounds = record.bounds;
    let of_process = |fault: &&super::faults::Fault| fault.process.is_none_or(|who| who == process);
    let mut turning = record.faults.iter().filter(of_process);
    turning.any(|fault| {
        let stops = (fault.begun, fault.begun + NOTICED + bounds.slack);
        let comes_back = (fault.ended.saturating_sub(bounds.settling), fault.ended + bounds.slack);
        let is_then = |(first, last): (Micros, Micros)| first <= until && from <= last;
        matches!(fault.kind, Kind::Deaf | Kind::Away | Kind::Cut)
            && (is_then(stops) || is_then(comes_back))
    })
}

/// P6: loads that have taken less than a second, in one process.
fn a_few_in_a_process(record: &Record<'_>, verdict: &mut Verdict) {
    // Their places are older than they are: on a busy machine by a part of that second.
    const SLOW: Micros = 500_000;
    let mut steps: BTreeMap<u32, Vec<(Micros, bool, &Event)>> = BTreeMap::new();
    let loads = record.by_key.values().flatten().copied().filter(|event| is_load(event));
    for load in loads {
        let begun = load.span.begun;
        let of_process = steps.entry(load.process).or_default();
        of_process.push((begun, true, load));
        of_process.push((record.over(load).min(begun + SLOW), false, load));
    }
    for of_process in steps.values_mut() {
        // At one moment, ends before begins.
        of_process.sort_by_key(|(at, begins, _)| (*at, *begins));
        let mut running = 0;
        for (_, begins, load) in of_process {
            if !*begins {
                running -= 1;
                continue;
            }
            running += 1;
            verdict.ask(Promise::OriginSafe);
            if running > record.bounds.loads_at_once {
                verdict.not_kept(Promise::OriginSafe, None, || {
                    let last = words::story(record, [Some(*load), None, None]);
                    format!("{running} loads of a process at one time; the last:\n{last}")
                });
            }
        }
    }
}
