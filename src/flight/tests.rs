use futures::FutureExt;

use super::*;
use crate::{Clock, Moment};

fn name() -> Arc<str> {
    "k".into()
}

fn lead(flights: &Arc<Flights<u32>>) -> (Ticket<u32>, Seat<u32>) {
    match flights.fly(&name(), || 0) {
        Boarding::Leader(ticket, seat) => (ticket, seat),
        _ => panic!("a flight is already open"),
    }
}

fn follow(flights: &Arc<Flights<u32>>) -> Seat<u32> {
    match flights.board(&name(), || 0) {
        Boarding::Follower(seat) => seat,
        _ => panic!("no flight is open"),
    }
}

/// An answer to give for ever.
fn stale(answer: u32) -> impl FnOnce() -> Meanwhile<u32> {
    move || Meanwhile { answer, until: Moment::FAR_FUTURE }
}

fn now() -> Moment {
    Clock::manual().now()
}

fn alone(flights: &Arc<Flights<u32>>) -> Alone<u32> {
    match flights.board(&name(), || 0) {
        Boarding::Alone(alone) => alone,
        _ => panic!("somebody is there"),
    }
}

#[test]
fn one_alone_leaves_nothing_and_fills_if_open() {
    let flights = Flights::new();
    let mut filled = None;
    alone(&flights).landed(|floor| filled = Some(floor));
    assert_eq!(filled, Some(Version::ZERO));
    drop(alone(&flights));
    assert_eq!(flights.open_count(), 0);

    let closed = alone(&flights);
    flights.close("k", || ());
    let next = alone(&flights);
    closed.landed(|_| panic!("filled although closed"));
    assert_eq!(flights.open_count(), 1, "the next one is still there");
    drop(next);
}

#[test]
fn the_second_caller_starts_a_flight_and_waits_for_nobody() {
    let flights = Flights::new();
    let first = alone(&flights);
    let (ticket, seat) = lead(&flights);
    first.landed(|_| panic!("filled although a flight has begun"));
    assert!(seat.landed(now).now_or_never().is_none());
    ticket.land(Landing::for_all(7), |_| ());
    assert_eq!(seat.landed(now).now_or_never(), Some(Some(7)));
    assert_eq!(flights.open_count(), 0);
}

#[test]
fn something_stale_is_shared_only_with_the_flight_beside() {
    let flights = Flights::new();
    let first = alone(&flights);
    let (_ticket, seat) = lead(&flights);
    assert!(first.refresh(stale(3), || 0).is_none(), "a flight is in the air");
    assert_eq!(seat.landed(now).now_or_never(), Some(Some(3)));

    let flights = Flights::new();
    let first = alone(&flights);
    flights.close("k", || ());
    let (_ticket, seat) = lead(&flights);
    assert!(first.refresh(stale(3), || 0).is_none());
    assert_eq!(seat.landed(now).now_or_never(), None, "it is older than the invalidation");

    let flights = Flights::new();
    let first = alone(&flights);
    flights.close("k", || ());
    assert!(first.refresh(stale(3), || 0).is_none(), "closed and nobody there");
    assert_eq!(flights.open_count(), 0);
}

#[test]
fn who_boards_a_refresh_gets_what_is_stale() {
    let flights = Flights::new();
    let ticket = alone(&flights).refresh(stale(3), || 0).expect("nobody else is there");
    assert_eq!(follow(&flights).landed(now).now_or_never(), Some(Some(3)));
    ticket.land(Landing::for_all(4), |_| ());
    assert_eq!(flights.open_count(), 0);

    let ticket = flights.refresh(&name(), stale(3), || 0, || true).expect("nobody is there");
    assert_eq!(follow(&flights).landed(now).now_or_never(), Some(Some(3)));
    assert!(flights.refresh(&name(), stale(3), || 0, || true).is_none(), "one at a time");
    drop(ticket);
    assert!(flights.refresh(&name(), stale(3), || 0, || false).is_none(), "no longer valid");
    assert_eq!(flights.open_count(), 0);
}

#[test]
fn everyone_aboard_gets_the_answer_and_nothing_is_left() {
    let flights = Flights::new();
    let (ticket, leader) = lead(&flights);
    let follower = follow(&flights);
    assert!(follower.landed(now).now_or_never().is_none(), "still in the air");
    ticket.land(Landing::for_all(7), |_| ());
    assert_eq!(leader.landed(now).now_or_never(), Some(Some(7)));
    assert_eq!(follower.landed(now).now_or_never(), Some(Some(7)));
    assert_eq!(flights.open_count(), 0);
}

#[test]
fn who_boards_after_the_mark_goes_round_again() {
    let flights = Flights::new();
    let (ticket, leader) = lead(&flights);
    let early = follow(&flights);
    let mark = ticket.mark();
    let late = follow(&flights);
    ticket.land(Landing::for_those_before(mark, 7), |_| ());
    assert_eq!(leader.landed(now).now_or_never(), Some(Some(7)));
    assert_eq!(early.landed(now).now_or_never(), Some(Some(7)));
    assert_eq!(late.landed(now).now_or_never(), Some(None));
}

#[test]
fn a_closed_flight_takes_no_newcomers_and_fills_nothing() {
    let flights = Flights::new();
    let (old, seat) = lead(&flights);
    flights.close("k", || ());
    let (new, _) = lead(&flights);
    old.land(Landing::for_all(1), |_| panic!("filled by a closed flight"));
    assert_eq!(seat.landed(now).now_or_never(), Some(Some(1)));
    let aboard_new = follow(&flights);
    new.land(Landing::for_all(2), |_| ());
    assert_eq!(aboard_new.landed(now).now_or_never(), Some(Some(2)));
}

#[test]
fn a_dropped_ticket_hangs_no_one() {
    let flights = Flights::new();
    let (ticket, seat) = lead(&flights);
    drop(ticket);
    assert_eq!(seat.landed(now).now_or_never(), Some(Some(0)));
    assert_eq!(flights.open_count(), 0);
}

#[test]
fn the_floor_rises_while_open() {
    let flights = Flights::new();
    let (ticket, _seat) = lead(&flights);
    flights.raise("k", Version::new(5), || ());
    flights.raise("k", Version::new(3), || ());
    let mut floor = None;
    ticket.land(Landing::for_all(1), |f| floor = Some(f));
    assert_eq!(floor, Some(Version::new(5)));
}

#[test]
fn what_one_alone_has_found_is_for_those_who_board_beside_it() {
    let flights = Flights::new();
    let first = alone(&flights);
    let Boarding::Leader(_ticket, second) = flights.board(&name(), || 0) else { panic!() };
    assert!(matches!(first.fly(stale(3), || 0), Some(Boarding::Follower(_))));
    assert_eq!((second.spare(now), follow(&flights).spare(now)), (Some(3), Some(3)));

    let flights = Flights::new();
    let Some(Boarding::Leader(_ticket, seat)) = alone(&flights).fly(stale(3), || 0) else {
        panic!()
    };
    assert_eq!((seat.spare(now), follow(&flights).spare(now)), (Some(3), Some(3)));
}

#[test]
fn what_was_found_before_an_invalidation_is_for_nobody_after_it() {
    let flights = Flights::new();
    let before = alone(&flights);
    flights.close("k", || ());
    let (_ticket, seat) = lead(&flights);
    assert!(before.fly(stale(3), || 0).is_none());
    assert_eq!((seat.spare(now), follow(&flights).spare(now)), (None, None));
}

#[test]
fn a_spare_is_for_those_aboard_and_for_others_until_its_end() {
    let flights = Flights::new();
    let (ticket, seat) = lead(&flights);
    ticket.offer(|| Meanwhile { answer: 3, until: now() });
    assert_eq!((seat.spare(now), follow(&flights).spare(now)), (Some(3), None));
    assert_eq!(flights.open_count(), 1);
    flights.close_answered();
    assert_eq!(flights.open_count(), 0);
}

#[test]
fn an_answer_given_meanwhile_can_be_given_anew() {
    let flights = Flights::new();
    let (ticket, _) = lead(&flights);
    ticket.answer(|| Meanwhile { answer: 1, until: now() });
    let late = follow(&flights);
    assert_eq!(late.landed(now).now_or_never(), None);
    ticket.answer(|| Meanwhile { answer: 2, until: now() });
    assert_eq!(late.landed(now).now_or_never(), Some(Some(2)));
}

#[tokio::test]
async fn the_deepest_who_waits_is_told() {
    let flights = Flights::new();
    let (ticket, _) = lead(&flights);
    let depth = ticket.depth().clone();
    let mut deeper = Box::pin(depth.beyond(0));
    assert_eq!((&mut deeper).now_or_never(), None);
    follow(&flights).waits_at(0);
    assert_eq!((&mut deeper).now_or_never(), None);
    follow(&flights).waits_at(2);
    follow(&flights).waits_at(1);
    assert_eq!(deeper.await, 2);
    assert_eq!(depth.beyond(2).now_or_never(), None);
}
