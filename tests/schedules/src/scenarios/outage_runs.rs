//! Whole guards whose far tier, or whose messages, are away for a while.

use std::{sync::Arc, time::Duration};

use super::world::{Process, Tell, World};
use crate::run::{caller, choose, pause, scenarios};

scenarios![
    an_invalidation_that_failed_is_not_forgotten,
    callers_are_answered_through_an_outage,
    a_herd_without_its_far_tier_makes_one_load_at_a_time,
    what_was_missed_is_not_served_once_messages_arrive_again,
];

/// Longer than any pause of the recovery.
const A_WHILE: Duration = Duration::from_secs(10);

async fn fetch_often(process: Arc<Process>) {
    for _ in 0..2 {
        process.fetch().await.expect("a value");
        pause().await;
    }
}

async fn is_as_the_origin(world: &World, processes: [Arc<Process>; 2]) {
    for process in processes {
        assert_eq!(process.fetch().await.expect("a value"), world.origin.row());
        process.is_idle().await;
    }
}

async fn an_invalidation_that_failed_is_not_forgotten() {
    let world = World::new();
    let [one, two]: [_; 2] = world.processes();
    fetch_often(two.clone()).await;
    one.link.break_down();
    let writers = [Tell::InvalidateAt, [Tell::Invalidate, Tell::Put][choose(2) as usize]];
    let mut callers: Vec<_> = writers[..1 + choose(2) as usize]
        .iter()
        .map(|tell| {
            let (writer, tell) = (one.clone(), *tell);
            caller(async move {
                let _or_it_is_kept = writer.write(tell).await;
                writer.fetch().await.expect("a value");
            })
        })
        .collect();
    callers.push(caller(fetch_often(one.clone())));
    let link = one.link.clone();
    callers.push(caller(async move {
        for _ in 0..choose(4) {
            pause().await;
        }
        link.come_back();
    }));
    for caller in callers {
        caller.answer().await;
    }
    tokio::time::sleep(A_WHILE).await;
    is_as_the_origin(&world, [two, one]).await;
}

async fn callers_are_answered_through_an_outage() {
    let world = World::new();
    let [one, two]: [_; 2] = world.processes();
    let mut callers: Vec<_> =
        [&one, &one, &two].map(|process| caller(fetch_often(process.clone()))).into();
    let link = one.link.clone();
    callers.push(caller(async move {
        link.break_down();
        pause().await;
        pause().await;
        link.come_back();
    }));
    let writer = two.clone();
    callers.push(caller(async move {
        writer.write(Tell::InvalidateAt).await.expect("its far tier is there");
    }));
    for caller in callers {
        caller.answer().await;
    }
    tokio::time::sleep(A_WHILE).await;
    is_as_the_origin(&world, [one, two]).await;
}

async fn a_herd_without_its_far_tier_makes_one_load_at_a_time() {
    let world = World::new();
    let process = world.process();
    process.link.break_down();
    let herd = [0; 4].map(|_| {
        let process = process.clone();
        caller(async move { process.fetch().await })
    });
    for caller in herd {
        assert_eq!(caller.answer().await.expect("a value"), 1);
    }
    world.no_time_has_passed();
    assert_eq!(world.origin.loads().most_at_once, 1);
}

async fn what_was_missed_is_not_served_once_messages_arrive_again() {
    let world = World::new();
    let [one, two]: [_; 2] = world.processes();
    fetch_often(two.clone()).await;
    let (deaf, writer) = (two.clone(), one.clone());
    let callers = [
        caller(async move {
            deaf.link.lose_messages().await;
            deaf.fetch().await.expect("a value");
            pause().await;
            deaf.link.hear_again().await;
            deaf.fetch().await.expect("a value");
        }),
        caller(async move {
            for _ in 0..2 {
                writer.write(Tell::InvalidateAt).await.expect("the far tier is there");
            }
        }),
        caller(fetch_often(two.clone())),
        caller(fetch_often(two.clone())),
    ];
    for caller in callers {
        caller.answer().await;
    }
    is_as_the_origin(&world, [one, two]).await;
}
