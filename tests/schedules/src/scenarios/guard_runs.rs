//! Whole guards over a shared far tier: one load, and never an answer from before what a caller may know.

use std::sync::Arc;

use super::world::{KEY, Origin, Process, TAG, Tell, World, patient};
use crate::{
    Guard, GuardBuilder, Loaded, Policy,
    run::{NEVER, caller, pause, scenarios, time_passes_at_any_moment},
};

scenarios![
    a_herd_in_two_processes_makes_one_load,
    no_caller_gets_what_was_invalidated_at_a_version,
    no_caller_gets_what_was_invalidated,
    no_caller_gets_what_was_put_over,
    no_caller_gets_what_was_loaded_anew,
    what_is_invalidated_leaves_the_near_tier_at_once,
    no_caller_gets_what_was_purged,
    no_caller_gets_what_was_invalidated_while_time_passes,
    no_caller_gets_what_a_lagging_replica_has,
    no_batch_gets_what_was_invalidated,
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
    world.no_time_has_passed();
    for process in processes {
        process.is_idle().await;
    }
    assert_eq!(world.origin.loads().begun, 1);
}

/// How the processes of a run differ from others.
type Settings = fn(GuardBuilder<str, u64>) -> GuardBuilder<str, u64>;

async fn fetch_twice(process: Arc<Process>) {
    for _ in 0..2 {
        process.fetch().await.expect("a value");
        pause().await;
    }
}

/// Two processes, one of which writes, while callers come to both.
async fn write_among_callers(tell: Tell, settings: Settings) -> Arc<World> {
    let world = World::new();
    let [one, two] = [0; 2].map(|_| world.process_with(settings));
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
    world
}

async fn no_caller_gets_what_was_invalidated_at_a_version() {
    let sized = |builder: GuardBuilder<str, u64>| {
        builder.policy(patient()).near_bytes(100_000).size_of(|_| 100)
    };
    write_among_callers(Tell::InvalidateAt, sized).await.no_time_has_passed();
}

async fn no_caller_gets_what_was_invalidated() {
    let plain = |builder: GuardBuilder<str, u64>| builder.policy(patient());
    write_among_callers(Tell::Invalidate, plain).await.no_time_has_passed();
}

async fn no_caller_gets_what_was_put_over() {
    let plain = |builder: GuardBuilder<str, u64>| builder.policy(patient());
    write_among_callers(Tell::Put, plain).await.no_time_has_passed();
}

/// A load in another process, which closes no flight here.
async fn no_caller_gets_what_was_loaded_anew() {
    let world = World::new();
    let origin = world.origin.clone();
    let elsewhere = Guard::<str, u64>::builder()
        .far(world.far.clone())
        .policy(patient())
        .loader(move |_: String| origin.clone().load())
        .build();
    elsewhere.get(KEY).await.expect("a value");
    let process = world.process();
    let callers = [0; 3].map(|_| caller(fetch_twice(process.clone())));
    world.origin.write();
    elsewhere.refresh(KEY).await.expect("a value");
    assert_eq!(process.fetch().await.expect("a value"), 2);
    for caller in callers {
        caller.answer().await;
    }
    assert_eq!(process.fetch().await.expect("a value"), 2);
    world.no_time_has_passed();
}

/// Not only once the far tier knows.
async fn what_is_invalidated_leaves_the_near_tier_at_once() {
    let world = World::new();
    let process = world.process();
    process.fetch().await.expect("a value");
    let writer = process.clone();
    let write = caller(async move { writer.write(Tell::InvalidateAt).await });
    while !process.link.is_asked_to_invalidate() {
        pause().await;
    }
    assert!(process.guard.peek(KEY).is_none());
    write.answer().await.expect("the far tier is there");
}

async fn load_tagged(origin: Arc<Origin>) -> Result<Loaded<u64>, super::world::Broken> {
    Ok(origin.load().await?.tag(TAG))
}

async fn no_caller_gets_what_was_purged() {
    let world = World::new();
    let [one, two] = [0; 2].map(|_| world.process_with(|builder| builder.policy(patient()).tags()));
    let mut callers: Vec<_> = [&one, &two, &two]
        .map(|process| {
            let process = process.clone();
            caller(async move { process.fetch_from(load_tagged).await.map(drop) })
        })
        .into();
    let writer = one.clone();
    callers.push(caller(async move { writer.write(Tell::Purge).await }));
    for caller in callers {
        caller.answer().await.expect("a value");
    }
    for process in [one, two] {
        assert_eq!(process.fetch_from(load_tagged).await.expect("a value"), world.origin.row());
        process.is_idle().await;
    }
}

/// Entries turn stale and leases end at any moment, and what is stale is served.
async fn no_caller_gets_what_was_invalidated_while_time_passes() {
    time_passes_at_any_moment();
    let world = World::new();
    let settings = |builder: GuardBuilder<str, u64>| {
        let second = std::time::Duration::from_secs(1);
        builder.policy(Policy::default().ttl(second).grace(NEVER).near_ttl(NEVER))
    };
    let [one, two] = [0; 2].map(|_| world.process_with(settings));
    let mut callers: Vec<_> = [&one, &two, &two]
        .map(|process| {
            let process = process.clone();
            caller(async move {
                for _ in 0..3 {
                    let _or_too_late = process.fetch().await;
                    tokio::time::sleep(std::time::Duration::from_millis(700)).await;
                }
            })
        })
        .into();
    let writer = one.clone();
    callers.push(caller(async move {
        for _ in 0..2 {
            writer.write(Tell::InvalidateAt).await.expect("the far tier is there");
        }
    }));
    for caller in callers {
        caller.answer().await;
    }
}

async fn no_caller_gets_what_a_lagging_replica_has() {
    let world = World::new();
    world.origin.write();
    world.origin.lag.store(1, std::sync::atomic::Ordering::SeqCst);
    let [one, two]: [_; 2] = world.processes();
    let mut callers: Vec<_> =
        [&one, &two, &two].map(|process| caller(fetch_twice(process.clone()))).into();
    let writer = one.clone();
    callers.push(caller(async move {
        writer.write(Tell::InvalidateAt).await.expect("the far tier is there");
    }));
    for caller in callers {
        caller.answer().await;
    }
    for process in [one, two] {
        assert_eq!(process.fetch().await.expect("a value"), world.origin.row());
        process.is_idle().await;
    }
}

async fn fetch_many(process: Arc<Process>) {
    let oldest = process.oldest();
    let origin = process.world.origin.clone();
    let load = move |keys: Vec<String>| {
        let origin = origin.clone();
        async move {
            let loaded = origin.load().await?.into_result();
            let version = loaded.ok().and_then(|loaded| loaded.value().copied()).unwrap_or(0);
            let of = |key| (key, Loaded::found(version, version));
            Ok::<_, super::world::Broken>(keys.into_iter().map(of).collect())
        }
    };
    let keys = [KEY, "other"].map(str::to_owned);
    let guard: &Guard<str, u64> = &process.guard;
    let mut answers = guard.fetch_many(&keys, load).await.into_iter();
    let of_key = answers.next().expect("one for each").expect("a value");
    assert!(answers.next().is_some_and(|of_other| of_other.is_ok()));
    let answer = of_key.into_value().expect("the row is there");
    process.check(oldest, answer).expect("it is not outdated");
}

async fn no_batch_gets_what_was_invalidated() {
    let world = World::new();
    let [one, two]: [_; 2] = world.processes();
    let callers = [
        caller(fetch_many(one.clone())),
        caller(fetch_many(two.clone())),
        caller(fetch_twice(two.clone())),
        caller({
            let writer = one.clone();
            async move { writer.write(Tell::InvalidateAt).await.expect("the far tier is there") }
        }),
    ];
    for caller in callers {
        caller.answer().await;
    }
    for process in [one, two] {
        assert_eq!(process.fetch().await.expect("a value"), world.origin.row());
        process.is_idle().await;
    }
}
