//! Histories made by hand: each lie is found, and what the docs admit is told apart.

use super::{
    Admitted, Answer, Bounds, Deed, Event, Fault, Kind, Micros, Promise, Reached, Span, Verdict,
    judge,
};

const BOUNDS: Bounds = Bounds {
    lease_ttl: 2_000_000,
    near_ttl: 5_000_000,
    near_outage_ttl: 500_000,
    longest_load: 1_000_000,
    loads_at_once: 2,
    settling: 0,
    slack: 100_000,
};

fn event(process: u32, begun: Micros, ended: Micros, deed: Deed) -> Event {
    Event { process, key: 7, span: Span { begun, ended: Some(ended) }, deed }
}

fn load(process: u32, begun: Micros, ended: Micros, source: u64, version: u64) -> Event {
    event(process, begun, ended, Deed::Loaded { source, brought: Some(version) })
}

fn invalidated(process: u32, at: Micros, version: Option<u64>, reached: Reached) -> Event {
    event(process, at, at + 10, Deed::Invalidated { version, reached })
}

fn asked(process: u32, begun: Micros, source: u64, version: u64) -> Event {
    answered(process, begun, begun + 10, Answer::Value { source, version })
}

fn answered(process: u32, begun: Micros, ended: Micros, answer: Answer) -> Event {
    event(
        process,
        begun,
        ended,
        Deed::Asked { answer, outcome: "-".into(), deadline: begun + 1_000_000 },
    )
}

fn read(begun: Micros, source: u64, version: u64) -> Event {
    event(99, begun, begun + 10, Deed::Read { found: Some((source, version)) })
}

fn fault(kind: Kind, process: Option<u32>, begun: Micros, ended: Micros) -> Fault {
    Fault { kind, process, begun, ended }
}

fn verdict(events: &[Event], faults: &[Fault]) -> Verdict {
    judge(events, faults, &BOUNDS)
}

#[track_caller]
fn breaks(promise: Promise, events: &[Event], faults: &[Fault]) {
    let verdict = verdict(events, faults);
    assert_eq!(verdict.broken.keys().copied().collect::<Vec<_>>(), [promise], "{verdict:?}");
    assert!(verdict.admitted.is_empty(), "{verdict:?}");
}

#[track_caller]
fn admits(promise: Promise, admitted: Admitted, events: &[Event], faults: &[Fault]) {
    let verdict = verdict(events, faults);
    assert!(verdict.is_kept(), "{verdict:?}");
    assert_eq!(verdict.admitted.keys().copied().collect::<Vec<_>>(), [(promise, admitted)]);
}

#[track_caller]
fn keeps(events: &[Event], faults: &[Fault]) {
    let verdict = verdict(events, faults);
    assert!(verdict.is_kept() && verdict.admitted.is_empty(), "{verdict:?}");
}

#[test]
fn an_answer_older_than_an_invalidation_in_its_own_process_is_a_breach() {
    for version in [Some(2), None] {
        let events = [
            load(1, 0, 10, 11, 1),
            invalidated(1, 100, version, Reached::Unconfirmed),
            asked(1, 200, 11, 1),
        ];
        breaks(Promise::FreshHere, &events, &[]);
        // A caller that began before it returned may have it.
        keeps(&[events[0].clone(), events[1].clone(), asked(1, 110, 11, 1)], &[]);
        admits(
            Promise::FreshHere,
            Admitted::LostWrites,
            &events,
            &[fault(Kind::Rewound, None, 150, 160)],
        );
    }
}

#[test]
fn elsewhere_it_is_one_if_all_had_confirmed() {
    let of = |reached, asked_at| {
        [load(2, 0, 10, 11, 1), invalidated(1, 100, Some(2), reached), asked(2, asked_at, 11, 1)]
    };
    breaks(Promise::FreshElsewhere, &of(Reached::Everywhere, 200), &[]);
    keeps(&of(Reached::Unconfirmed, 200), &[]);
    keeps(&of(Reached::Unacknowledged, 20_000_000), &[]);
    admits(
        Promise::FreshElsewhere,
        Admitted::NotSubscribed,
        &of(Reached::Everywhere, 200),
        &[fault(Kind::Deaf, Some(2), 50, 300)],
    );
    // Of another process: no excuse.
    breaks(
        Promise::FreshElsewhere,
        &of(Reached::Everywhere, 200),
        &[fault(Kind::Deaf, Some(3), 50, 300)],
    );
    // No near entry is as old as that, whoever confirmed.
    breaks(Promise::NoResurrection, &of(Reached::Unconfirmed, 20_000_000), &[]);
    breaks(
        Promise::NoResurrection,
        &of(Reached::Unconfirmed, 20_000_000),
        &[fault(Kind::Deaf, Some(2), 50, 20_000_000)],
    );
}

#[test]
fn the_far_tier_neither_brings_back_nor_goes_back() {
    let resurrected =
        [load(2, 0, 10, 11, 1), invalidated(1, 100, None, Reached::Unconfirmed), read(200, 11, 1)];
    breaks(Promise::NoResurrection, &resurrected, &[]);
    let back = [load(1, 0, 10, 11, 2), load(2, 20, 30, 12, 1), read(100, 11, 2), read(200, 12, 1)];
    breaks(Promise::NeverBackwards, &back, &[]);
    admits(
        Promise::NeverBackwards,
        Admitted::LostRecord,
        &back,
        &[fault(Kind::Forgot, None, 150, 160)],
    );
    let put = |is_acknowledged| {
        let put = Deed::Put { source: 12, version: 2, is_acknowledged };
        [load(1, 0, 10, 11, 1), event(1, 20, 30, put), read(100, 11, 1)]
    };
    breaks(Promise::NeverBackwards, &put(true), &[]);
    keeps(&put(false), &[]);
}

#[test]
fn a_lagging_read_is_admitted_only_while_the_far_tier_is_away() {
    let events = [
        invalidated(1, 100, Some(2), Reached::Unconfirmed),
        load(1, 200, 210, 11, 1),
        asked(1, 190, 11, 1),
    ];
    let lags = fault(Kind::OriginLags, None, 0, 1_000);
    breaks(Promise::FreshHere, &events, &[lags]);
    admits(
        Promise::FreshHere,
        Admitted::LaggingRead,
        &events,
        &[lags, fault(Kind::Away, None, 0, 1_000)],
    );
}

#[test]
fn two_loads_of_a_key_at_one_time_are_a_breach() {
    let two = [load(1, 0, 100, 11, 1), load(2, 50, 150, 12, 1)];
    breaks(Promise::OneLoad, &two, &[]);
    keeps(&[load(1, 0, 100, 11, 1), load(2, 100, 150, 12, 1)], &[]);
    let frozen = |process| fault(Kind::Frozen, Some(process), 10, 20);
    admits(Promise::OneLoad, Admitted::HolderStopped, &two, &[frozen(1)]);
    breaks(Promise::OneLoad, &two, &[frozen(2)]);
    let mut written = two.to_vec();
    written.push(invalidated(3, 20, Some(1), Reached::Unconfirmed));
    admits(Promise::OneLoad, Admitted::WrittenWhileLoading, &written, &[]);
    // In one process not even an outage excuses it, but for its beginning and its end.
    let at = 10_000_000;
    let here = [load(1, at, at + 100, 11, 1), load(1, at + 50, at + 150, 12, 1)];
    breaks(Promise::OriginSafe, &here, &[fault(Kind::Away, None, 0, 2 * at)]);
    for away in [fault(Kind::Away, None, at - 900_000, 2 * at), fault(Kind::Deaf, Some(1), 0, at)] {
        admits(Promise::OriginSafe, Admitted::SubscribedAgain, &here, &[away]);
        let shared = [here[0].clone(), load(1, at + 200, at + 300, 12, 1)];
        keeps(&shared, &[away]);
    }
}

#[test]
fn flights_that_a_write_told_apart_load_each_where_there_is_no_lease() {
    let full = [fault(Kind::Full, None, 0, 1_000)];
    let waiting = [
        load(1, 500, 600, 11, 1),
        load(1, 550, 650, 12, 1),
        Event { span: Span { begun: 100, ended: Some(700) }, ..asked(1, 100, 11, 1) },
    ];
    breaks(Promise::OriginSafe, &waiting, &full);
    let write = invalidated(1, 200, Some(1), Reached::Unconfirmed);
    // Long before the loads; the window of a write while they run has no part in it.
    let at = 1_000_000;
    let later = |event: &Event| Event {
        span: Span { begun: event.span.begun + at, ended: event.span.ended.map(|end| end + at) },
        ..event.clone()
    };
    let mut closed: Vec<Event> = waiting[..2].iter().map(later).collect();
    let Deed::Asked { answer, outcome, .. } = waiting[2].deed.clone() else { panic!() };
    let deed = Deed::Asked { answer, outcome, deadline: 2 * at };
    closed.extend([event(1, 100, at + 700, deed), write]);
    let full = [fault(Kind::Full, None, 0, 2 * at)];
    admits(Promise::OriginSafe, Admitted::ClosedWhileWaiting, &closed, &full);
    closed.pop();
    breaks(Promise::OriginSafe, &closed, &full);
}

#[test]
fn more_loads_than_the_bulkhead_allows_are_a_breach() {
    let of = |key| Event { key, ..load(1, 0, 100, 11 + u64::from(key), 1) };
    keeps(&[of(1), of(2)], &[]);
    breaks(Promise::OriginSafe, &[of(1), of(2), of(3)], &[]);
}

#[test]
fn a_caller_without_an_answer_is_a_breach() {
    let hangs = Event { span: Span { begun: 0, ended: None }, ..asked(1, 0, 11, 1) };
    breaks(Promise::EveryCallerAnswered, &[load(1, 0, 5, 11, 1), hangs.clone()], &[]);
    keeps(&[load(1, 0, 5, 11, 1), hangs], &[fault(Kind::Killed, Some(1), 3, 3)]);
    let late = answered(1, 0, 1_200_000, Answer::TimedOut);
    breaks(
        Promise::EveryCallerAnswered,
        std::slice::from_ref(&late),
        &[fault(Kind::OriginFails, None, 0, 1)],
    );
    keeps(
        &[late],
        &[fault(Kind::Frozen, Some(1), 0, 1_100_000), fault(Kind::OriginFails, None, 0, 1)],
    );
}

#[test]
fn an_error_or_a_value_from_nowhere_is_a_breach() {
    for answer in [
        Answer::OriginFailed,
        Answer::TimedOut,
        Answer::Overloaded,
        Answer::Failed,
        Answer::Value { source: 5, version: 1 },
    ] {
        breaks(Promise::EveryCallerAnswered, &[answered(1, 0, 10, answer)], &[]);
    }
    keeps(&[answered(1, 0, 10, Answer::OriginFailed)], &[fault(Kind::OriginFails, None, 0, 1)]);
    breaks(Promise::EveryCallerAnswered, &[load(1, 0, 5, 11, 1), asked(1, 0, 11, 2)], &[]);
}

#[test]
fn a_killed_holder_delays_by_one_lease() {
    let killed = [fault(Kind::Killed, Some(2), 10, 10)];
    let waits = |ended| {
        let deed = Deed::Asked {
            answer: Answer::Value { source: 11, version: 1 },
            outcome: "-".into(),
            deadline: 30_000_000,
        };
        [load(1, 0, 5, 11, 1), event(1, 0, ended, deed)]
    };
    keeps(&waits(3_900_000), &killed);
    breaks(Promise::CrashCostsOneLease, &waits(4_200_000), &killed);
    // Nobody stopped: a load, and not a lease.
    keeps(&waits(1_000_000), &[]);
    breaks(Promise::EveryCallerAnswered, &waits(1_200_000), &[]);
}

#[test]
fn a_load_that_an_invalidation_fell_into_is_no_answer_for_later_callers() {
    let history = |begun| {
        [
            load(0, 1_000, 9_000, 1, 4),
            invalidated(1, 2_000, Some(5), Reached::Unconfirmed),
            asked(0, begun, 1, 4),
        ]
    };
    breaks(Promise::NoResurrection, &history(3_000), &[]);
    assert!(verdict(&history(1_500), &[]).is_kept());
    assert!(verdict(&history(3_000), &[fault(Kind::Cut, Some(0), 500, 4_000)]).is_kept());
}

#[test]
fn a_put_is_late_only_where_something_let_it_be() {
    let put = |is_acknowledged| {
        let deed = Deed::Put { source: 11, version: 1, is_acknowledged };
        let events = [event(1, 0, 10, deed), invalidated(1, 100, None, Reached::Unconfirmed)];
        [&events[..], &[asked(1, 200, 11, 1)]].concat()
    };
    breaks(Promise::FreshHere, &put(true), &[]);
    breaks(Promise::FreshHere, &put(true), &[fault(Kind::Forgot, None, 150, 160)]);
    admits(Promise::FreshHere, Admitted::LatePut, &put(false), &[]);
}

#[test]
fn a_fault_after_the_invalidation_excuses_no_near_entry() {
    let near = [
        load(2, 0, 10, 11, 1),
        invalidated(1, 1_000_000, Some(2), Reached::Everywhere),
        asked(2, 1_100_000, 11, 1),
    ];
    for kind in [Kind::Deaf, Kind::Forgot] {
        breaks(Promise::FreshElsewhere, &near, &[fault(kind, Some(2), 1_050_000, 1_200_000)]);
    }
    admits(
        Promise::FreshElsewhere,
        Admitted::LostRecord,
        &near,
        &[fault(Kind::Forgot, None, 500_000, 500_000)],
    );
}

#[test]
fn two_loads_of_a_process_are_found_behind_one_of_another() {
    let away = fault(Kind::Away, None, 0, 20_000_000);
    let at = 10_000_000;
    let loads = [1, 2, 1].map(|process| load(process, at + 1, at + 100, 11, 1));
    let verdict = verdict(&loads, &[away]);
    assert_eq!(verdict.broken.keys().copied().collect::<Vec<_>>(), [Promise::OriginSafe]);
}

#[test]
fn a_record_that_nobody_wrote_is_a_breach() {
    breaks(Promise::NeverBackwards, &[load(1, 0, 10, 11, 1), read(20, 11, 2)], &[]);
    breaks(Promise::NeverBackwards, &[read(20, 11, 2)], &[]);
    keeps(&[load(1, 0, 10, 11, 1), read(20, 11, 1)], &[]);
}
