//! The breaker: who finds it closed, who opens it, and who is told that it closes.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
};

use super::breaker::{Breaker, Failed, State};
use crate::{
    observe::Gauge,
    run::{caller, choose, pause, scenarios},
};

scenarios![
    it_opens_once_for_each_recovery,
    who_waits_for_its_closing_is_told,
    calls_from_before_it_closed_do_not_count,
    callers_are_let_through_only_while_it_is_closed,
];

/// In a row.
const FAILURES: usize = 5;

fn breaker() -> Arc<Breaker> {
    Arc::new(Breaker::new(Gauge))
}

/// As the recovery does, which finds the far tier there at the second probe at the latest.
async fn recover(breaker: &Breaker) {
    breaker.half_open();
    pause().await;
    if choose(2) == 0 {
        breaker.reopen();
        pause().await;
        breaker.half_open();
    }
    breaker.let_writes();
    pause().await;
    breaker.close();
}

async fn it_opens_once_for_each_recovery() {
    let (breaker, recovering) = (breaker(), Arc::new(AtomicBool::new(false)));
    let callers = [0; 3].map(|_| {
        let (breaker, recovering) = (breaker.clone(), recovering.clone());
        caller(async move {
            for _ in 0..FAILURES {
                let Some(call) = breaker.call() else { return pause().await };
                pause().await;
                if breaker.failed(&call) == Failed::Opened {
                    assert!(!recovering.swap(true, SeqCst), "two recover at one time");
                    pause().await;
                    recovering.store(false, SeqCst);
                    recover(&breaker).await;
                }
            }
        })
    });
    let opener = {
        let (breaker, recovering) = (breaker.clone(), recovering.clone());
        caller(async move {
            if breaker.open() == Failed::Opened {
                assert!(!recovering.swap(true, SeqCst), "two recover at one time");
                pause().await;
                recovering.store(false, SeqCst);
                recover(&breaker).await;
            }
        })
    };
    for caller in callers {
        caller.answer().await;
    }
    opener.answer().await;
    assert_eq!(breaker.state(), State::Closed);
}

async fn who_waits_for_its_closing_is_told() {
    let breaker = breaker();
    assert_eq!(breaker.open(), Failed::Opened);
    let waiting = [0; 2].map(|_| {
        let breaker = breaker.clone();
        caller(async move {
            let closes = breaker.closes();
            if !breaker.is_closed() {
                drop(breaker);
                closes.await;
            }
        })
    });
    match choose(2) {
        0 => recover(&breaker).await,
        // With its guard.
        _ => drop(breaker),
    }
    for waiter in waiting {
        waiter.answer().await;
    }
}

async fn calls_from_before_it_closed_do_not_count() {
    let breaker = breaker();
    let calls: Vec<_> = (0..FAILURES).map(|_| breaker.call().expect("closed")).collect();
    assert_eq!(breaker.open(), Failed::Opened);
    let late = {
        let breaker = breaker.clone();
        caller(async move {
            for call in calls {
                assert_eq!(breaker.failed(&call), Failed::Counted);
            }
        })
    };
    recover(&breaker).await;
    late.answer().await;
    for _ in 1..FAILURES {
        let call = breaker.call().expect("it is closed");
        assert_eq!(breaker.failed(&call), Failed::Counted, "after less than five failures");
    }
    let call = breaker.call().expect("it is closed");
    assert_eq!(breaker.failed(&call), Failed::Opened);
}

async fn callers_are_let_through_only_while_it_is_closed() {
    let (breaker, may_write) = (breaker(), Arc::new(AtomicUsize::new(0)));
    assert_eq!(breaker.open(), Failed::Opened);
    let callers = [0; 2].map(|_| {
        let (breaker, may_write) = (breaker.clone(), may_write.clone());
        caller(async move {
            for _ in 0..3 {
                // Asked after: what goes through has been let through before.
                let goes = (breaker.call_to_write().is_some(), breaker.call().is_some());
                let let_through = may_write.load(SeqCst);
                assert!(!goes.0 || let_through >= 1);
                assert!(!goes.1 || let_through >= 2);
            }
        })
    });
    breaker.half_open();
    breaker.reopen();
    breaker.half_open();
    may_write.store(1, SeqCst);
    breaker.let_writes();
    may_write.store(2, SeqCst);
    breaker.close();
    for caller in callers {
        caller.answer().await;
    }
}
