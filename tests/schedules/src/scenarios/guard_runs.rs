//! Whole guards: what is promised to callers in docs/promises.md.

use std::sync::Arc;

use super::world::{Process, Tell, World};
use crate::run::{caller, pause, scenarios};

scenarios![
    a_herd_in_two_processes_makes_one_load,
    no_caller_gets_what_was_invalidated_at_a_version,
    no_caller_gets_what_was_invalidated,
    no_caller_gets_what_was_put_over,
];

async fn a_herd_in_two_processes_makes_one_load() {
    let world = World::new();
    let processes: [_; 2] = world.processes();
    let herd: Vec<_> = (0..5)
        .map(|n| {
            let process = processes[n % 2].clone();
            caller(async move { process.fetch().await })
        })
        .collect();
    for caller in herd {
        assert_eq!(caller.answer().await.expect("a value"), 1);
    }
    for process in processes {
        process.is_idle().await;
    }
    assert_eq!(world.origin.loads().begun, 1);
}

async fn fetch_twice(process: Arc<Process>) {
    for _ in 0..2 {
        process.fetch().await.expect("a value");
        pause().await;
    }
}

/// Two processes, one of which writes, while callers come to both.
async fn write_among_callers(tell: Tell) {
    let world = World::new();
    let [one, two]: [_; 2] = world.processes();
    let mut callers: Vec<_> =
        [&one, &two, &two].map(|process| caller(fetch_twice(process.clone()))).into();
    let writer = one.clone();
    callers.push(caller(async move {
        for _ in 0..2 {
            writer.write(tell).await.expect("the far tier is there");
        }
    }));
    for caller in callers {
        caller.answer().await;
    }
    for process in [one, two] {
        assert_eq!(process.fetch().await.expect("a value"), world.origin.row());
        process.is_idle().await;
    }
}

async fn no_caller_gets_what_was_invalidated_at_a_version() {
    write_among_callers(Tell::InvalidateAt).await;
}

async fn no_caller_gets_what_was_invalidated() {
    write_among_callers(Tell::Invalidate).await;
}

async fn no_caller_gets_what_was_put_over() {
    write_among_callers(Tell::Put).await;
}
