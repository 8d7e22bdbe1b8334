//! Flights: every caller gets an answer, and one that it may have.

use std::sync::Arc;

use crate::{
    Clock, Moment, Version,
    flight::{Boarded, Boarding, Completer, Completion, Flights, Provisional, SoloReader, Waiter},
    run::{Caller, caller, choose, pause, scenarios},
};

scenarios![everyone_aboard_gets_the_answer];

/// What a flight brings, as a number.
type Answer = u32;
const ABANDONED: Answer = u32::MAX;

fn name() -> Arc<str> {
    "k".into()
}

fn now() -> Moment {
    Clock::manual().now()
}

fn abandoned() -> Answer {
    ABANDONED
}

/// Boards; a leader completes its flight with `answer`, on a task of its own.
async fn fetch(flights: Arc<Flights<Answer>>, answer: Answer) -> Option<Answer> {
    match flights.board(&name(), None, abandoned) {
        Boarding::Solo(solo) => {
            pause().await;
            solo.complete(|_| ());
            Some(answer)
        }
        Boarding::Aboard(Boarded::Leader(completer, waiter)) => {
            drop(caller(async move {
                pause().await;
                completer.complete(Completion::for_all(answer), |_| ());
            }));
            waiter.answer(now).await
        }
        Boarding::Aboard(Boarded::Follower(waiter)) => waiter.answer(now).await,
    }
}

async fn everyone_aboard_gets_the_answer() {
    let flights = Flights::new();
    let callers: Vec<_> = (0..4).map(|n| caller(fetch(flights.clone(), n))).collect();
    for caller in callers {
        assert!(caller.answer().await.is_some_and(|answer| answer < 4));
    }
    assert_eq!(flights.open_count(), 0);
}
