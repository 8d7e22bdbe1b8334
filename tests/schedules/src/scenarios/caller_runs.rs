//! Whole guards whose callers leave, whose loads fail, and which end.

use std::{
    panic::resume_unwind,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::world::{Broken, KEY, Origin, Process, Running, Tell, World, patient};
use crate::{
    Error, Loaded, Shutdown,
    run::{
        NEVER, caller, choose, pause, scenarios, time_passes_at_any_moment, time_passes_when_idle,
    },
};

scenarios![
    a_caller_that_leaves_changes_nothing_for_others,
    after_a_failed_load_nobody_loads_for_a_while,
    an_invalidation_ends_the_back_off_of_a_load_before_it,
    every_caller_is_answered_by_its_deadline,
    loads_of_many_keys_are_bounded,
    a_guard_that_is_shut_down_answers_everyone,
];

async fn a_caller_that_leaves_changes_nothing_for_others() {
    let world = World::new();
    let processes: [_; 2] = world.processes();
    let callers: Vec<_> = (0..5)
        .map(|n| {
            let process = processes[n % 2].clone();
            caller(async move { process.fetch().await })
        })
        .collect();
    for leaving in &callers[..2] {
        pause().await;
        leaving.drop_it();
    }
    for (n, caller) in callers.into_iter().enumerate() {
        match caller.answer_if_there().await {
            Some(answer) => assert_eq!(answer.expect("a value"), 1),
            None => assert!(n < 2),
        }
    }
    world.no_time_has_passed();
    for process in processes {
        process.is_idle().await;
    }
    assert_eq!(world.origin.loads().begun, 1);
}

/// An origin whose first load fails, one way or the other.
#[derive(Default)]
struct Failing {
    begun: AtomicUsize,
}

impl Failing {
    async fn load(self: Arc<Self>, origin: Arc<Origin>) -> Result<Loaded<u64>, Broken> {
        if self.begun.fetch_add(1, SeqCst) > 0 {
            return origin.load().await;
        }
        let _running = Running::begin(origin);
        pause().await;
        pause().await;
        match choose(2) {
            0 => Err(Broken),
            // Without a word: the hook of panics is for those of the scenario.
            _ => resume_unwind(Box::new("on purpose")),
        }
    }

    async fn fetch(self: Arc<Self>, process: Arc<Process>) -> Result<u64, Error> {
        process.fetch_from(move |origin| self.clone().load(origin)).await
    }
}

async fn after_a_failed_load_nobody_loads_for_a_while() {
    let (world, failing) = (World::new(), Arc::<Failing>::default());
    let processes: [_; 2] = world.processes();
    let callers: Vec<_> =
        (0..5).map(|n| caller(failing.clone().fetch(processes[n % 2].clone()))).collect();
    for caller in callers {
        let answer = caller.answer().await;
        assert!(answer.is_err(), "{answer:?} without a load");
    }
    world.no_time_has_passed();
    assert_eq!(world.origin.loads().begun, 1);
    tokio::time::sleep(Duration::from_secs(10)).await;
    for process in processes {
        assert_eq!(failing.clone().fetch(process.clone()).await.expect("a value"), 1);
        process.is_idle().await;
    }
    assert_eq!(world.origin.loads().begun, 2);
}

async fn an_invalidation_ends_the_back_off_of_a_load_before_it() {
    let (world, failing) = (World::new(), Arc::<Failing>::default());
    let [one, two]: [_; 2] = world.processes();
    let callers = [&one, &two].map(|process| caller(failing.clone().fetch(process.clone())));
    while failing.begun.load(SeqCst) == 0 {
        pause().await;
    }
    let tell = [Tell::Invalidate, Tell::InvalidateAt, Tell::Put][choose(3) as usize];
    one.write(tell).await.expect("the far tier is there");
    for process in [&one, &two] {
        let answer = failing.clone().fetch(process.clone()).await;
        assert_eq!(answer.expect("no back-off is left"), 2);
    }
    world.no_time_has_passed();
    for caller in callers {
        let _or_an_error = caller.answer().await;
    }
}

async fn every_caller_is_answered_by_its_deadline() {
    time_passes_at_any_moment();
    let world = World::new();
    let [one, two]: [_; 2] = world.processes();
    let callers = [(&one, 1), (&two, 2), (&two, 30)].map(|(process, n)| {
        let process = process.clone();
        caller(async move {
            let origin = process.world.origin.clone();
            let deadline = Instant::now() + Duration::from_millis(n);
            let load = move || origin.clone().load();
            match process.guard.fetch_by(KEY, deadline, load).await {
                Ok(fetched) => assert_eq!(fetched.into_value(), Some(1)),
                Err(error) => assert!(Instant::now() >= deadline, "{error:?} before"),
            }
        })
    });
    for caller in callers {
        caller.answer().await;
    }
    // The load goes on, or a back-off ends.
    time_passes_when_idle();
    tokio::time::sleep(NEVER).await;
    for process in [one, two] {
        assert_eq!(process.fetch().await.expect("a value"), 1);
    }
}

async fn loads_of_many_keys_are_bounded() {
    let world = World::new();
    let policy = || patient().max_concurrent_loads(2).max_queued_loads(10);
    let process = world.process_with(|builder| builder.policy(policy()));
    let callers: Vec<_> = (0..5)
        .map(|n| {
            let process = process.clone();
            caller(async move {
                let origin = process.world.origin.clone();
                let load = move || origin.clone().load();
                process.guard.fetch(&n.to_string(), load).await.map(drop)
            })
        })
        .collect();
    callers[0].drop_it();
    for caller in callers {
        let _unless_dropped = caller.answer_if_there().await.map(|answer| answer.expect("a value"));
    }
    process.is_idle().await;
    assert!(world.origin.loads().most_at_once <= 2);
}

async fn a_guard_that_is_shut_down_answers_everyone() {
    let world = World::new();
    let process = world.process();
    let callers = [0; 3].map(|_| {
        let process = process.clone();
        caller(async move { process.fetch().await })
    });
    pause().await;
    let timeout = [Duration::ZERO, NEVER][choose(2) as usize];
    let ended = process.guard.shutdown(timeout).await;
    assert!(ended == Shutdown::Finished || timeout.is_zero());
    for caller in callers {
        match caller.answer().await {
            Ok(answer) => assert_eq!(answer, 1),
            Err(error) => assert!(matches!(error, Error::ShutDown), "{error:?}"),
        }
    }
    process.is_idle().await;
    let after = process.fetch().await;
    assert!(matches!(after, Ok(1) | Err(Error::ShutDown)), "{after:?}");
}
