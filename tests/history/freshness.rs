//! P2, P3 and P4: no answer and no record is older than what it must know.

use std::collections::HashMap;

use super::{
    event::{Answer, Deed, Event, Micros, Reached},
    faults::Kind,
    record::Record,
    verdict::{Admitted, Promise, Verdict},
    words,
};

/// The newest invalidations that an answer must know.
#[derive(Clone, Copy, Default)]
struct Floor<'a> {
    /// With a version: the highest.
    version: Option<(u64, &'a Event)>,
    /// Without one: the one that began last.
    begun: Option<&'a Event>,
}

impl<'a> Floor<'a> {
    fn raise(&mut self, invalidation: &'a Event) {
        match invalidation.deed {
            Deed::Invalidated { version: Some(version), .. }
                if self.version.is_none_or(|(highest, _)| highest < version) =>
            {
                self.version = Some((version, invalidation));
            }
            Deed::Invalidated { version: None, .. }
                if self.begun.is_none_or(|last| last.span.begun < invalidation.span.begun) =>
            {
                self.begun = Some(invalidation);
            }
            _ => {}
        }
    }

    /// The invalidation that this value should not have outlived.
    fn outlived_by(&self, version: u64, source: Option<&Event>) -> Option<&'a Event> {
        if let Some((minimum, invalidation)) = self.version
            && version < minimum
        {
            return Some(invalidation);
        }
        let invalidation = self.begun?;
        // A put that is under way may arrive after it.
        let read = match source?.deed {
            Deed::Put { .. } => source?.span.ended?,
            _ => source?.span.begun,
        };
        (read < invalidation.span.begun).then_some(invalidation)
    }
}

/// That a subscription is down, whatever became of the connection.
const NOTICED_WITHIN: Micros = 1_000_000;

/// What was found: an answer of a process, or the record itself.
#[derive(Clone, Copy)]
struct Found<'a> {
    event: &'a Event,
    source: u64,
    version: u64,
}

/// The invalidations of one key, by when they became binding.
struct Binding<'a> {
    acknowledged: Vec<(Micros, &'a Event)>,
    next: usize,
}

impl<'a> Binding<'a> {
    fn after(acknowledged: &[&'a Event], how_long: Micros) -> Self {
        let ended = |event: &&'a Event| Some((event.span.ended? + how_long, *event));
        let mut acknowledged: Vec<_> = acknowledged.iter().filter_map(ended).collect();
        acknowledged.sort_by_key(|(from, _)| *from);
        Self { acknowledged, next: 0 }
    }

    /// Those that bind whoever begins at `begun`, and did not bind who began before.
    fn until(&mut self, begun: Micros) -> impl Iterator<Item = &'a Event> {
        let first = self.next;
        while self.acknowledged.get(self.next).is_some_and(|(from, _)| *from < begun) {
            self.next += 1;
        }
        self.acknowledged[first..self.next].iter().map(|(_, event)| *event)
    }
}

pub(super) fn judge(record: &Record<'_>, verdict: &mut Verdict) {
    for events in record.by_key.values() {
        invalidations(record, events, verdict);
        records(record, events, verdict);
    }
}

fn found(event: &Event) -> Option<Found<'_>> {
    match event.deed {
        Deed::Asked { answer: Answer::Value { source, version }, .. }
        | Deed::Read { found: Some((source, version)) } => Some(Found { event, source, version }),
        _ => None,
    }
}

fn is_read(event: &Event) -> bool {
    matches!(event.deed, Deed::Read { .. })
}

/// P3 and P4.
fn invalidations(record: &Record<'_>, events: &[&Event], verdict: &mut Verdict) {
    let acknowledged: Vec<&Event> = events
        .iter()
        .copied()
        .filter(|event| {
            matches!(event.deed, Deed::Invalidated { reached, .. } if reached != Reached::Unacknowledged)
        })
        .collect();
    // In its own process it holds whatever it returned.
    let returned: Vec<&Event> = events
        .iter()
        .copied()
        .filter(|event| matches!(event.deed, Deed::Invalidated { .. }))
        .collect();
    let bounds = record.bounds;
    let in_near_tiers = bounds.near_ttl + bounds.longest_load + bounds.slack;
    let mut own = Binding::after(&returned, 0);
    let mut now = Binding::after(&acknowledged, 0);
    let mut late = Binding::after(&acknowledged, in_near_tiers);
    let mut everywhere = Floor::default();
    let mut far = Floor::default();
    let mut at_last = Floor::default();
    let mut here: HashMap<u32, Floor<'_>> = HashMap::new();
    for found in events.iter().filter_map(|event| found(event)) {
        let Event { process, span, .. } = *found.event;
        for invalidation in own.until(span.begun) {
            here.entry(invalidation.process).or_default().raise(invalidation);
        }
        for invalidation in now.until(span.begun) {
            far.raise(invalidation);
            if matches!(invalidation.deed, Deed::Invalidated { reached: Reached::Everywhere, .. }) {
                everywhere.raise(invalidation);
            }
        }
        late.until(span.begun).for_each(|invalidation| at_last.raise(invalidation));
        let floors = if is_read(found.event) {
            vec![(Promise::NoResurrection, far)]
        } else {
            vec![
                (Promise::FreshHere, here.get(&process).copied().unwrap_or_default()),
                (Promise::FreshElsewhere, everywhere),
                (Promise::NoResurrection, at_last),
            ]
        };
        for (promise, floor) in floors {
            if floor.version.is_some() || floor.begun.is_some() {
                verdict.ask(promise);
            }
            let source = record.source(found.source, found.event.key);
            if let Some(invalidation) = floor.outlived_by(found.version, source) {
                let admitted = admitted(record, promise, invalidation, &found, source);
                let is_breach = admitted.is_none();
                let story =
                    || words::story(record, [Some(invalidation), source, Some(found.event)]);
                verdict.not_kept(promise, admitted, story);
                if is_breach {
                    break;
                }
            }
        }
    }
}

/// Whether the docs admit that this is older than the invalidation.
fn admitted(
    record: &Record<'_>,
    promise: Promise,
    invalidation: &Event,
    found: &Found<'_>,
    source: Option<&Event>,
) -> Option<Admitted> {
    use Kind::{Away, Clock, Cut, Deaf, Forgot, Full, OriginLags, Rewound, Slow};
    let (from, until) = (invalidation.span.begun, record.over(found.event));
    let process = found.event.process;
    if record.had_any(&[Rewound], from, until) {
        return Some(Admitted::LostWrites);
    }
    if source.is_some_and(|put| is_late(record, invalidation, put, until)) {
        return Some(Admitted::LatePut);
    }
    let forgot = record.had_any(&[Forgot, Clock], from, until);
    let lags = source.is_some_and(|source| {
        record.had(&[OriginLags], source.process, source.span.begun, record.over(source))
    });
    let read_from = source.map_or(from, |source| source.span.begun);
    if lags && (forgot || record.had_any(&[Away, Cut, Full, Slow], read_from, until)) {
        return Some(Admitted::LaggingRead);
    }
    if promise == Promise::FreshHere || is_read(found.event) {
        return None;
    }
    let before = from.saturating_sub(record.bounds.near_ttl);
    let is_near = found.event.span.begun
        <= record.over(invalidation)
            + record.bounds.near_ttl
            + record.bounds.longest_load
            + record.bounds.slack;
    // Nothing told then that there were older near entries.
    if is_near && record.had_any(&[Forgot], before, record.over(invalidation)) {
        return Some(Admitted::LostRecord);
    }
    // It notices within a second, and keeps what it loads from then on for a moment.
    let noticed = NOTICED_WITHIN + record.bounds.near_outage_ttl + record.bounds.slack;
    let is_soon = found.event.span.begun <= record.over(invalidation) + noticed;
    let since = from.saturating_sub(record.bounds.settling + record.bounds.slack);
    (is_soon && record.had(&[Away, Cut, Deaf], process, since, record.over(invalidation)))
        .then_some(Admitted::NotSubscribed)
}

/// Whether this put may have been carried out after the invalidation, by `until`, where nothing keeps it out.
fn is_late(record: &Record<'_>, invalidation: &Event, put: &Event, until: Micros) -> bool {
    let Deed::Put { is_acknowledged, .. } = put.deed else { return false };
    let carried_out = if is_acknowledged { record.over(put) } else { until };
    let is_without_version = matches!(invalidation.deed, Deed::Invalidated { version: None, .. });
    let forgot = [Kind::Forgot, Kind::Clock];
    (is_without_version && !is_acknowledged)
        || record.had_any(&forgot, invalidation.span.begun, carried_out)
}

/// P2: what is read from the far tier does not go back, and was loaded or put.
fn records(record: &Record<'_>, events: &[&Event], verdict: &mut Verdict) {
    let mut ended: Vec<(Micros, u64, &Event)> = events
        .iter()
        .filter_map(|event| match event.deed {
            Deed::Read { found: Some((_, version)) }
            | Deed::Put { version, is_acknowledged: true, .. } => {
                Some((event.span.ended?, version, *event))
            }
            _ => None,
        })
        .collect();
    ended.sort_by_key(|(ended, ..)| *ended);
    let mut before = ended.into_iter().peekable();
    let mut highest: Option<(u64, &Event)> = None;
    for found in events.iter().filter(|event| is_read(event)).filter_map(|event| found(event)) {
        while let Some((_, version, event)) =
            before.next_if(|(ended, ..)| *ended < found.event.span.begun)
        {
            if highest.is_none_or(|(highest, _)| highest <= version) {
                highest = Some((version, event));
            }
        }
        let source = record.source(found.source, found.event.key);
        if !source.is_some_and(|source| source.brought(found.version)) {
            let story = || words::story(record, [source, Some(found.event), None]);
            verdict.not_kept(Promise::NeverBackwards, None, story);
        }
        let Some((minimum, earlier)) = highest else {
            continue;
        };
        verdict.ask(Promise::NeverBackwards);
        if found.version < minimum {
            let (from, until) = (earlier.span.begun, record.over(found.event));
            let admitted = if record.had_any(&[Kind::Rewound], from, until) {
                Some(Admitted::LostWrites)
            } else {
                record
                    .had_any(&[Kind::Forgot, Kind::Clock], from, until)
                    .then_some(Admitted::LostRecord)
            };
            let story = || words::story(record, [Some(earlier), source, Some(found.event)]);
            verdict.not_kept(Promise::NeverBackwards, admitted, story);
        }
    }
}
