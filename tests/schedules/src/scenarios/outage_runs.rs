//! Whole guards whose far tier, or whose messages, are away for a while.

use std::{sync::Arc, time::Duration};

use super::world::{Origin, Process, Tell, World, patient};
use crate::{
    FaultKind, GuardBuilder,
    run::{caller, choose, pause, scenarios, time_passes_at_any_moment, time_passes_when_idle},
};

scenarios![
    an_invalidation_that_failed_is_not_forgotten,
    what_is_invalidated_is_not_read_before_the_far_tier_knows,
    callers_are_answered_through_an_outage,
    a_herd_without_its_far_tier_makes_one_load_at_a_time,
    what_was_missed_is_not_served_once_messages_arrive_again,
    without_messages_nothing_is_served_for_long,
    a_load_that_lost_its_lease_is_for_those_who_came_before,
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
    one.link.break_down(FaultKind::Unreachable);
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

/// The invalidations are repeated at any moment, beside those who fetch.
async fn what_is_invalidated_is_not_read_before_the_far_tier_knows() {
    let world = World::new();
    let [one, two]: [_; 2] = world.processes();
    two.fetch().await.expect("a value");
    time_passes_at_any_moment();
    // Refused, the breaker stays closed.
    one.link.break_down([FaultKind::Busy, FaultKind::Unreachable][choose(2) as usize]);
    let fetching = |process: &Arc<Process>| {
        let process = process.clone();
        caller(async move {
            for _ in 0..3 {
                let _or_too_late = process.fetch().await;
                pause().await;
            }
        })
    };
    let mut callers = vec![fetching(&one), fetching(&two)];
    let writer = one.clone();
    callers.push(caller(async move {
        for _ in 0..2 {
            let _or_it_is_kept = writer.write(tell_of_one()).await;
            let _or_too_late = writer.fetch().await;
        }
    }));
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
    time_passes_when_idle();
    tokio::time::sleep(A_WHILE).await;
    // Leases may be left, that nobody has asked for since they ended.
    for process in [two, one] {
        assert_eq!(process.fetch().await.expect("a value"), world.origin.row());
        assert_eq!(process.guard.flights(), 0);
    }
}

fn tell_of_one() -> Tell {
    [Tell::InvalidateAt, Tell::Invalidate, Tell::Put][choose(3) as usize]
}

async fn callers_are_answered_through_an_outage() {
    let world = World::new();
    let [one, two]: [_; 2] = world.processes();
    let mut callers: Vec<_> =
        [&one, &one, &two].map(|process| caller(fetch_often(process.clone()))).into();
    let link = one.link.clone();
    callers.push(caller(async move {
        link.break_down(FaultKind::Unreachable);
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
    process.link.break_down(FaultKind::Unreachable);
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

async fn without_messages_nothing_is_served_for_long() {
    let world = World::new();
    let settings = |builder: GuardBuilder<str, u64>| {
        builder.policy(patient().near_outage_ttl(Duration::from_secs(1)))
    };
    let [deaf, writer] = [0; 2].map(|_| world.process_with(settings));
    deaf.fetch().await.expect("a value");
    let callers = [0; 2].map(|_| caller(fetch_often(deaf.clone())));
    deaf.link.lose_messages().await;
    // What is fetched anew meanwhile may stay for a while.
    for _ in 0..choose(6) {
        pause().await;
    }
    writer.write(Tell::InvalidateAt).await.expect("the far tier is there");
    for caller in callers {
        caller.answer().await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(deaf.fetch().await.expect("a value"), world.origin.row());
}

/// Its lease is not renewed, and another process commits something newer.
async fn a_load_that_lost_its_lease_is_for_those_who_came_before() {
    let world = World::new();
    let seconds = Duration::from_secs;
    let settings = |builder: GuardBuilder<str, u64>| {
        let nothing_stale = patient().grace(Duration::ZERO).stale_if_error(Duration::ZERO);
        builder.policy(nothing_stale.ttl(Duration::from_secs(1)))
    };
    let [slow, quick] = [0; 2].map(|_| world.process_with(settings));
    quick.fetch().await.expect("a value");
    tokio::time::sleep(seconds(2)).await;
    let loading = slow.clone();
    let before = caller(async move {
        let load = |origin: Arc<Origin>| async {
            let loaded = origin.load().await;
            tokio::time::sleep(Duration::from_secs(10)).await;
            loaded
        };
        loading.fetch_from(load).await
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    slow.link.break_down(FaultKind::Busy);
    tokio::time::sleep(seconds(5)).await;
    world.origin.write();
    assert_eq!(quick.fetch().await.expect("a value"), 2);
    assert_eq!(slow.link.told(), 2);
    slow.link.come_back();
    let after = [0; 2].map(|_| caller(fetch_often(slow.clone())));
    before.answer().await.expect("a value");
    for caller in after {
        caller.answer().await;
    }
    assert_eq!(slow.fetch().await.expect("a value"), 2);
}
