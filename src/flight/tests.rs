use std::sync::Arc;

use futures::FutureExt;

use super::*;
use crate::{Clock, Moment, Version};

fn name() -> Arc<str> {
    "k".into()
}

fn lead(flights: &Arc<Flights<u32>>) -> (Completer<u32>, Waiter<u32>) {
    match flights.fly(&name(), None, || 0) {
        Boarded::Leader(completer, waiter) => (completer, waiter),
        Boarded::Follower(_) => panic!("a flight is already open"),
    }
}

fn follow(flights: &Arc<Flights<u32>>) -> Waiter<u32> {
    match flights.board(&name(), None, || 0) {
        Boarding::Aboard(Boarded::Follower(waiter)) => waiter,
        _ => panic!("no flight is open"),
    }
}

/// An answer to give without end.
fn stale(answer: u32) -> impl FnOnce() -> Option<Provisional<u32>> {
    move || Some(Provisional::now(answer, Moment::FAR_FUTURE))
}

fn expired(answer: u32) -> impl FnOnce() -> Option<Provisional<u32>> {
    move || Some(Provisional::at_deadline(answer, Moment::FAR_FUTURE))
}

fn now() -> Moment {
    Clock::manual().now()
}

fn solo(flights: &Arc<Flights<u32>>) -> SoloReader<u32> {
    match flights.board(&name(), None, || 0) {
        Boarding::Solo(solo) => solo,
        Boarding::Aboard(_) => panic!("a caller is there"),
    }
}

#[test]
fn a_solo_reader_leaves_nothing_and_fills_if_open() {
    let flights = Flights::new();
    let mut filled = None;
    solo(&flights).complete(|floor| filled = Some(floor));
    assert_eq!(filled, Some(Version::ZERO));
    drop(solo(&flights));
    assert_eq!(flights.open_count(), 0);

    let closed = solo(&flights);
    flights.close("k", None, || ());
    let next = solo(&flights);
    closed.complete(|_| panic!("filled although closed"));
    assert_eq!(flights.open_count(), 1, "the next one is still there");
    drop(next);
}

#[test]
fn the_second_caller_starts_a_flight_and_does_not_wait_for_the_first() {
    let flights = Flights::new();
    let first = solo(&flights);
    let (completer, waiter) = lead(&flights);
    first.complete(|_| panic!("filled although a flight has begun"));
    assert!(waiter.answer(now).now_or_never().is_none());
    completer.complete(Completion::for_all(7), |_| ());
    assert_eq!(waiter.answer(now).now_or_never(), Some(Some(7)));
    assert_eq!(flights.open_count(), 0);
}

#[test]
fn something_stale_is_shared_only_with_the_flight_beside() {
    let flights = Flights::new();
    let first = solo(&flights);
    let (_completer, waiter) = lead(&flights);
    assert!(first.refresh(stale(3), || 0).is_none(), "a flight is in the air");
    assert_eq!(waiter.answer(now).now_or_never(), Some(Some(3)));

    let flights = Flights::new();
    let first = solo(&flights);
    flights.close("k", None, || ());
    let (_completer, waiter) = lead(&flights);
    assert!(first.refresh(stale(3), || 0).is_none());
    assert_eq!(waiter.answer(now).now_or_never(), None, "it is older than the invalidation");

    let flights = Flights::new();
    let first = solo(&flights);
    flights.close("k", None, || ());
    assert!(first.refresh(stale(3), || 0).is_none(), "closed and nobody there");
    assert_eq!(flights.open_count(), 0);
}

#[test]
fn callers_that_board_a_refresh_get_what_is_stale() {
    let flights = Flights::new();
    let completer = solo(&flights).refresh(stale(3), || 0).expect("nobody else is there");
    assert_eq!(follow(&flights).answer(now).now_or_never(), Some(Some(3)));
    completer.complete(Completion::for_all(4), |_| ());
    assert_eq!(flights.open_count(), 0);

    let completer = flights.refresh(&name(), stale(3), || 0, || true).expect("nobody is there");
    assert_eq!(follow(&flights).answer(now).now_or_never(), Some(Some(3)));
    assert!(flights.refresh(&name(), stale(3), || 0, || true).is_none(), "one at a time");
    drop(completer);
    assert!(flights.refresh(&name(), stale(3), || 0, || false).is_none(), "no longer valid");
    assert_eq!(flights.open_count(), 0);
}

#[test]
fn everyone_aboard_gets_the_answer_and_nothing_is_left() {
    let flights = Flights::new();
    let (completer, leader) = lead(&flights);
    let follower = follow(&flights);
    assert!(follower.answer(now).now_or_never().is_none(), "still in the air");
    completer.complete(Completion::for_all(7), |_| ());
    assert_eq!(leader.answer(now).now_or_never(), Some(Some(7)));
    assert_eq!(follower.answer(now).now_or_never(), Some(Some(7)));
    assert_eq!(flights.open_count(), 0);
}

#[test]
fn a_caller_that_boards_after_the_epoch_began_goes_round_again() {
    let flights = Flights::new();
    let (completer, leader) = lead(&flights);
    let early = follow(&flights);
    let epoch = completer.begin_epoch();
    let late = follow(&flights);
    completer.complete(Completion::visible_before(epoch, 7), |_| ());
    assert_eq!(leader.answer(now).now_or_never(), Some(Some(7)));
    assert_eq!(early.answer(now).now_or_never(), Some(Some(7)));
    assert_eq!(late.answer(now).now_or_never(), Some(None));
}

#[test]
fn a_closed_flight_takes_no_newcomers_and_fills_nothing() {
    let flights = Flights::new();
    let (old, waiter) = lead(&flights);
    flights.close("k", None, || ());
    let (new, _) = lead(&flights);
    old.complete(Completion::for_all(1), |_| panic!("filled by a closed flight"));
    assert_eq!(waiter.answer(now).now_or_never(), Some(Some(1)));
    let aboard_new = follow(&flights);
    new.complete(Completion::for_all(2), |_| ());
    assert_eq!(aboard_new.answer(now).now_or_never(), Some(Some(2)));
}

#[test]
fn a_dropped_completer_leaves_no_caller_waiting() {
    let flights = Flights::new();
    let (completer, waiter) = lead(&flights);
    drop(completer);
    assert_eq!(waiter.answer(now).now_or_never(), Some(Some(0)));
    assert_eq!(flights.open_count(), 0);
}

#[test]
fn the_floor_rises_while_open() {
    let flights = Flights::new();
    let (completer, _waiter) = lead(&flights);
    flights.raise("k", Version::new(5), || ());
    flights.raise("k", Version::new(3), || ());
    let mut floor = None;
    completer.complete(Completion::for_all(1), |f| floor = Some(f));
    assert_eq!(floor, Some(Version::new(5)));
}

#[test]
fn what_a_solo_reader_has_found_is_for_callers_of_the_flight_beside_it() {
    let flights = Flights::new();
    let first = solo(&flights);
    let Boarding::Aboard(Boarded::Leader(_completer, second)) = flights.board(&name(), None, || 0)
    else {
        panic!()
    };
    assert!(matches!(first.fly(expired(3), || 0), Some(Boarded::Follower(_))));
    assert_eq!((second.at_deadline(now), follow(&flights).at_deadline(now)), (Some(3), Some(3)));

    let flights = Flights::new();
    let Some(Boarded::Leader(_completer, waiter)) = solo(&flights).fly(expired(3), || 0) else {
        panic!()
    };
    assert_eq!((waiter.at_deadline(now), follow(&flights).at_deadline(now)), (Some(3), Some(3)));
}

#[test]
fn what_was_found_before_an_invalidation_is_for_no_caller_after_it() {
    let flights = Flights::new();
    let before = solo(&flights);
    flights.close("k", None, || ());
    let (_completer, waiter) = lead(&flights);
    assert!(before.fly(expired(3), || 0).is_none());
    assert_eq!((waiter.at_deadline(now), follow(&flights).at_deadline(now)), (None, None));
}

#[test]
fn an_expired_answer_is_for_callers_aboard_and_for_others_until_its_end() {
    let flights = Flights::new();
    let (completer, waiter) = lead(&flights);
    completer.provide(|| Some(Provisional::at_deadline(3, now())));
    assert_eq!((waiter.at_deadline(now), follow(&flights).at_deadline(now)), (Some(3), None));
    assert_eq!(flights.open_count(), 1);
    flights.close_provisional();
    assert_eq!(flights.open_count(), 0);
}

#[test]
fn a_provisional_answer_can_be_replaced() {
    let flights = Flights::new();
    let (completer, _) = lead(&flights);
    completer.provide(|| Some(Provisional::now(1, now())));
    let late = follow(&flights);
    assert_eq!(late.answer(now).now_or_never(), None);
    completer.provide(|| Some(Provisional::now(2, now())));
    assert_eq!(late.answer(now).now_or_never(), Some(Some(2)));
}

#[tokio::test]
async fn the_depth_of_the_deepest_caller_is_told() {
    let flights = Flights::new();
    let (completer, _) = lead(&flights);
    let depth = completer.depth().clone();
    let mut deeper = Box::pin(depth.beyond(0));
    assert_eq!((&mut deeper).now_or_never(), None);
    follow(&flights).waits_at(0);
    assert_eq!((&mut deeper).now_or_never(), None);
    follow(&flights).waits_at(2);
    follow(&flights).waits_at(1);
    assert_eq!(deeper.await, 2);
    assert_eq!(depth.beyond(2).now_or_never(), None);
}

#[test]
fn an_answer_for_deadlines_does_not_replace_one_for_everybody() {
    let flights = Flights::new();
    let (completer, waiter) = lead(&flights);
    completer.provide(expired(1));
    assert_eq!(waiter.answer(now).now_or_never(), None);
    completer.provide(stale(2));
    completer.provide(expired(3));
    assert_eq!(waiter.answer(now).now_or_never(), Some(Some(2)));
    assert_eq!(waiter.at_deadline(now), Some(2));
}
