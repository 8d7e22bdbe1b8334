//! Flights: every caller gets an answer, and one that it may have.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    Clock, Moment, Version,
    flight::{Boarded, Boarding, Completer, Completion, Flights, Provisional, SoloReader, Waiter},
    run::{caller, choose, pause, scenarios},
};

scenarios![
    every_caller_gets_an_answer,
    no_caller_gets_what_it_knows_to_be_outdated,
    nobody_waits_for_a_flight_that_was_dropped,
    a_closed_flight_leaves_the_next_one_alone,
    a_flight_takes_the_place_of_one_that_is_too_old,
    what_a_solo_reader_shares_reaches_the_flight_beside_it,
    a_provisional_answer_reaches_who_waits,
    no_refresh_serves_what_was_invalidated,
    the_deepest_caller_is_heard_of,
];

const ABANDONED: u64 = u64::MAX;

fn name() -> Arc<str> {
    "k".into()
}

fn now() -> Moment {
    Clock::manual().now()
}

fn abandoned() -> u64 {
    ABANDONED
}

fn stale(answer: u64) -> impl FnOnce() -> Option<Provisional<u64>> {
    move || Some(Provisional::now(answer, Moment::FAR_FUTURE))
}

/// A process: its flights, a row that they read, and what it keeps near.
struct Process {
    flights: Arc<Flights<u64>>,
    row: AtomicU64,
    near: Mutex<Option<u64>>,
    /// The newest version whose writer was told that it is known here.
    known: AtomicU64,
    /// Flights that read now.
    reading: AtomicU64,
}

impl Process {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            flights: Flights::new(),
            row: AtomicU64::new(1),
            near: Mutex::default(),
            known: AtomicU64::new(0),
            reading: AtomicU64::new(0),
        })
    }

    fn near(&self) -> Option<u64> {
        *self.near.lock().expect("no panic")
    }

    /// Under the name's lock.
    fn keep(&self, found: u64, floor: Version) {
        if Version::new(found) >= floor {
            *self.near.lock().expect("no panic") = Some(found);
        }
    }

    async fn read(&self) -> u64 {
        pause().await;
        let found = self.row.load(SeqCst);
        pause().await;
        found
    }

    /// As a guard does, with a choice where that is a matter of what is found.
    async fn fetch(self: Arc<Self>) -> u64 {
        let oldest = self.known.load(SeqCst);
        let answer = loop {
            if let Some(near) = self.near() {
                break near;
            }
            let answer = match self.flights.board(&name(), None, abandoned) {
                Boarding::Solo(solo) => self.read_alone(solo).await,
                Boarding::Aboard(boarded) => self.fly(boarded).await,
            };
            if let Some(answer) = answer {
                break answer;
            }
        };
        assert!(answer >= oldest, "{answer} for a caller that knows of {oldest}");
        answer
    }

    async fn read_alone(self: &Arc<Self>, solo: SoloReader<u64>) -> Option<u64> {
        let found = self.read().await;
        if choose(2) == 0 {
            solo.complete(|floor| self.keep(found, floor));
            return Some(found);
        }
        let boarded = solo.fly(|| None, abandoned)?;
        self.fly(boarded).await
    }

    async fn fly(self: &Arc<Self>, boarded: Boarded<u64>) -> Option<u64> {
        let waiter = match boarded {
            Boarded::Leader(completer, waiter) => {
                drop(caller(self.clone().load(completer)));
                waiter
            }
            Boarded::Follower(waiter) => waiter,
        };
        waiter.answer(now).await
    }

    async fn load(self: Arc<Self>, completer: Completer<u64>) {
        let reading = self.reading.fetch_add(1, SeqCst) + 1;
        assert!(reading == 1 || self.known.load(SeqCst) > 0, "two flights, and none was closed");
        let epoch = completer.begin_epoch();
        let found = self.read().await;
        self.reading.fetch_sub(1, SeqCst);
        let completion = Completion::visible_before(epoch, found);
        completer.complete(completion, |floor| self.keep(found, floor));
    }

    /// Writes, and has this process hear of it: `choice` says how.
    async fn write(&self, choice: u64) {
        let version = self.row.fetch_add(1, SeqCst) + 1;
        pause().await;
        let forget = |near: &mut Option<u64>| {
            if near.is_some_and(|near| near < version) {
                *near = None;
            }
        };
        let forget = || forget(&mut self.near.lock().expect("no panic"));
        match choice {
            0 => self.flights.close("k", None, forget),
            1 => self.flights.close("k", Some(Version::new(version)), forget),
            _ => self.flights.raise("k", Version::new(version), forget),
        }
        self.known.fetch_max(version, SeqCst);
    }

    async fn is_idle(&self) {
        while self.flights.open_count() > 0 {
            pause().await;
        }
    }
}

async fn every_caller_gets_an_answer() {
    let process = Process::new();
    let callers: Vec<_> = (0..4).map(|_| caller(process.clone().fetch())).collect();
    for caller in callers {
        assert_eq!(caller.answer().await, 1);
    }
    process.is_idle().await;
}

async fn no_caller_gets_what_it_knows_to_be_outdated() {
    let process = Process::new();
    let fetching = |_| {
        let process = process.clone();
        caller(async move {
            process.clone().fetch().await;
            process.fetch().await;
        })
    };
    let mut callers: Vec<_> = (0..3).map(fetching).collect();
    let writer = process.clone();
    callers.push(caller(async move {
        for _ in 0..2 {
            writer.write(choose(3)).await;
            writer.clone().fetch().await;
        }
    }));
    for caller in callers {
        caller.answer().await;
    }
    assert_eq!(process.clone().fetch().await, 3);
    process.is_idle().await;
    assert!(process.near().is_none_or(|near| near == 3));
}

async fn nobody_waits_for_a_flight_that_was_dropped() {
    let process = Process::new();
    let Boarding::Solo(solo) = process.flights.board(&name(), None, abandoned) else {
        panic!("nobody is there")
    };
    let Some(Boarded::Leader(completer, waiter)) = solo.fly(|| None, abandoned) else {
        panic!("nobody is there")
    };
    let flight = caller(process.clone().load(completer));
    // That it reads is not noted when it is dropped.
    process.known.store(1, SeqCst);
    let [one, other, dropped] = [0; 3].map(|_| caller(process.clone().fetch()));
    let leader = caller(async move { waiter.answer(now).await });
    flight.drop_it();
    dropped.drop_it();
    for caller in [one, other] {
        assert!([1, ABANDONED].contains(&caller.answer().await));
    }
    assert!([Some(1), Some(ABANDONED)].contains(&leader.answer().await));
    process.is_idle().await;
}

async fn a_closed_flight_leaves_the_next_one_alone() {
    let process = Process::new();
    let lead = || match process.flights.fly(&name(), None, abandoned) {
        Boarded::Leader(completer, waiter) => (completer, waiter),
        Boarded::Follower(_) => panic!("a flight is open"),
    };
    let (closed, before) = lead();
    process.write(choose(2)).await;
    let (next, after) = lead();
    let flights = [
        caller(async move {
            let filled = || panic!("a closed flight has filled");
            closed.complete(Completion::for_all(1), |_| -> () { filled() });
        }),
        caller(process.clone().load(next)),
    ];
    assert_eq!(before.answer(now).await, Some(1));
    assert_eq!(after.answer(now).await, Some(2));
    for flight in flights {
        flight.answer().await;
    }
    assert_eq!(process.near(), Some(2), "the next one was not open any more");
}

async fn a_flight_takes_the_place_of_one_that_is_too_old() {
    let process = Process::new();
    // More than one at one time.
    process.known.store(1, SeqCst);
    let later = Instant::now() + Duration::from_secs(1);
    let leading = |_| {
        let process = process.clone();
        caller(async move {
            let boarded = process.flights.fly(&name(), Some(later), abandoned);
            assert!(matches!(boarded, Boarded::Leader(..)));
            process.fly(boarded).await
        })
    };
    let leaders: Vec<_> = (0..3).map(leading).collect();
    for leader in leaders {
        assert_eq!(leader.answer().await, Some(1));
    }
    process.is_idle().await;
}

fn alone_and_beside(flights: &Arc<Flights<u64>>) -> (SoloReader<u64>, Completer<u64>, Waiter<u64>) {
    let Boarding::Solo(solo) = flights.board(&name(), None, abandoned) else {
        panic!("nobody is there")
    };
    let Boarding::Aboard(Boarded::Leader(completer, waiter)) =
        flights.board(&name(), None, abandoned)
    else {
        panic!("no flight is there")
    };
    (solo, completer, waiter)
}

async fn what_a_solo_reader_shares_reaches_the_flight_beside_it() {
    let flights = Flights::new();
    let (solo, completer, waiter) = alone_and_beside(&flights);
    let reader = caller(async move {
        pause().await;
        match choose(2) {
            0 => solo.share(stale(3)),
            _ => assert!(solo.refresh(stale(3), abandoned).is_none()),
        }
    });
    let flight = caller(async move {
        completer.solo_reader_has_found().await;
        assert!(completer.is_solo_reader_done());
        completer.complete(Completion::for_all(7), |_| ());
    });
    let caller = caller(async move { waiter.answer(now).await });
    assert!([Some(3), Some(7)].contains(&caller.answer().await));
    reader.answer().await;
    flight.answer().await;
    assert_eq!(flights.open_count(), 0);
}

async fn a_provisional_answer_reaches_who_waits() {
    let flights = Flights::new();
    let Boarded::Leader(completer, leader) = flights.fly(&name(), None, abandoned) else {
        panic!("nobody is there")
    };
    let Boarded::Follower(follower) = flights.fly(&name(), None, abandoned) else {
        panic!("a flight is there")
    };
    // Nothing else comes: the flight ends when both have their answers.
    let waiting = [leader, follower].map(|waiter| caller(async move { waiter.answer(now).await }));
    let flight = caller(async move {
        completer.provide(|| Some(Provisional::at_deadline(2, Moment::FAR_FUTURE)));
        completer.provide(stale(3));
        completer
    });
    for waiter in waiting {
        assert_eq!(waiter.answer().await, Some(3));
    }
    drop(flight.answer().await);
    assert_eq!(flights.open_count(), 0);
}

async fn no_refresh_serves_what_was_invalidated() {
    let process = Process::new();
    process.keep(1, Version::ZERO);
    let refresher = process.clone();
    let refresh = caller(async move {
        let valid = || refresher.near() == Some(1);
        let Some(completer) = refresher.flights.refresh(&name(), stale(1), abandoned, valid) else {
            return;
        };
        refresher.load(completer).await;
    });
    let writer = process.clone();
    let write = caller(async move { writer.write(choose(2)).await });
    let [one, other] = [0; 2].map(|_| caller(process.clone().fetch()));
    write.answer().await;
    assert_eq!(process.clone().fetch().await, 2);
    for caller in [one, other] {
        caller.answer().await;
    }
    refresh.answer().await;
    process.is_idle().await;
}

async fn the_deepest_caller_is_heard_of() {
    let flights = Flights::new();
    let Boarded::Leader(completer, _leader) = flights.fly(&name(), None, abandoned) else {
        panic!("nobody is there")
    };
    let callers = [1, 2, 1].map(|depth| {
        let flights = flights.clone();
        caller(async move {
            let Boarded::Follower(waiter) = flights.fly(&name(), None, abandoned) else {
                panic!("a flight is there")
            };
            waiter.waits_at(depth);
        })
    });
    let depth = completer.depth();
    let mut deepest = 0;
    while deepest < 2 {
        deepest = depth.beyond(deepest).await;
    }
    for caller in callers {
        caller.answer().await;
    }
    assert_eq!(depth.deepest(), 2);
}
