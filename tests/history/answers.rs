//! P5 and P7: every caller is answered, in time, and with something that was loaded.

use super::{
    event::{Answer, Deed, Event, Micros},
    faults::Kind,
    record::Record,
    verdict::{Promise, Verdict},
    words,
};

pub(super) fn judge(record: &Record<'_>, verdict: &mut Verdict) {
    for events in record.by_key.values() {
        for event in events.iter().copied() {
            if let Deed::Asked { answer, deadline, .. } = event.deed {
                verdict.ask(Promise::EveryCallerAnswered);
                answered(record, event, answer, deadline, verdict);
                if let Some((promise, bound)) = longest_wait(record, events, event) {
                    in_time(record, event, promise, bound, verdict);
                }
            }
        }
    }
}

fn in_time(
    record: &Record<'_>,
    event: &Event,
    promise: Promise,
    bound: Micros,
    verdict: &mut Verdict,
) {
    verdict.ask(promise);
    if record.over(event) - event.span.begun > bound {
        verdict.not_kept(promise, None, || {
            let story = words::story(record, [Some(event), None, None]);
            format!("a caller waited for longer than {}:\n{story}", words::seconds(bound))
        });
    }
}

/// P5.
fn answered(
    record: &Record<'_>,
    event: &Event,
    answer: Answer,
    deadline: Micros,
    verdict: &mut Verdict,
) {
    let Event { process, span, key, .. } = *event;
    let mut broken = |what: &str, also: Option<&Event>| {
        verdict.not_kept(Promise::EveryCallerAnswered, None, || {
            format!("{what}:\n{}", words::story(record, [also, Some(event), None]))
        });
    };
    let Some(ended) = span.ended else {
        if record.death(process).is_none() {
            broken("a caller was never answered", None);
        }
        return;
    };
    let was_frozen = record.had(&[Kind::Frozen], process, span.begun, ended);
    if ended > deadline + record.bounds.slack && !was_frozen {
        broken("an answer came after its caller's deadline", None);
    }
    let lately = span.begun.saturating_sub(30_000_000);
    let excused = |kinds: &[Kind]| record.had_any(kinds, lately, ended);
    match answer {
        Answer::Value { source, version } => match record.source(source, key) {
            None => broken("an answer that nobody loaded or put for this key", None),
            Some(from) if !is_from(from, version, ended) => {
                broken("an answer that is not what its load brought", Some(from));
            }
            Some(_) => {}
        },
        Answer::OriginFailed if excused(&[Kind::OriginFails, Kind::OriginLags]) => {}
        Answer::OriginFailed => broken("an error that the origin did not return", None),
        Answer::TimedOut | Answer::Overloaded if excused(&ALL) => {}
        Answer::TimedOut if was_short(record, event, deadline, ended) => {}
        Answer::TimedOut | Answer::Overloaded => {
            broken("no time or no room, without a fault", None)
        }
        Answer::Failed => broken("an error of the cache's own", None),
    }
}

const ALL: [Kind; 12] = [
    Kind::Killed,
    Kind::Frozen,
    Kind::Cut,
    Kind::Deaf,
    Kind::Slow,
    Kind::Away,
    Kind::Forgot,
    Kind::Rewound,
    Kind::Full,
    Kind::Clock,
    Kind::OriginFails,
    Kind::OriginLags,
];

/// No load had to be over by this deadline.
fn was_short(record: &Record<'_>, asked: &Event, deadline: Micros, ended: Micros) -> bool {
    let slack = record.bounds.slack;
    if ended + slack < deadline {
        return false;
    }
    let is_under_way = |event: &&Event| {
        matches!(event.deed, Deed::Loaded { .. })
            && event.span.begun <= ended
            && ended <= record.over(event) + slack
    };
    deadline.saturating_sub(asked.span.begun) <= slack
        || record.by_key[&asked.key].iter().any(is_under_way)
}

fn is_from(source: &Event, version: u64, ended: Micros) -> bool {
    source.brought(version) && source.span.begun <= ended
}

/// How long this caller may wait where processes only stop: a lease for each that did (P7), and a load for each time
/// that it had to begin anew. Where none did, who waits is woken (P5).
fn longest_wait(
    record: &Record<'_>,
    events: &[&Event],
    asked: &Event,
) -> Option<(Promise, Micros)> {
    let (from, until) = (asked.span.begun, record.over(asked));
    let bounds = record.bounds;
    let begun = from.saturating_sub(bounds.lease_ttl + bounds.longest_load);
    let during = |fault: &&super::faults::Fault| fault.begun <= until && begun <= fault.ended;
    let mut stopped = 0;
    for fault in record.faults.iter().filter(during) {
        match fault.kind {
            Kind::Killed | Kind::Frozen if fault.process != Some(asked.process) => stopped += 1,
            Kind::Deaf => {}
            _ => return None,
        }
    }
    let promise = match stopped {
        0 => Promise::EveryCallerAnswered,
        _ => Promise::CrashCostsOneLease,
    };
    let longest = stopped * bounds.lease_ttl + (1 + stopped) * bounds.longest_load + bounds.slack;
    // Of nearly all that is enough, and to look for writes takes long.
    if until - from <= longest {
        return Some((promise, longest));
    }
    let writes = events.iter().filter(|event| {
        matches!(event.deed, Deed::Invalidated { .. } | Deed::Put { .. })
            && event.span.begun <= until
            && begun <= record.over(event)
    });
    Some((promise, longest + writes.count() as Micros * bounds.longest_load))
}
