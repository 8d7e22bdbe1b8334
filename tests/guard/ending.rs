//! Loads within loads, and the end of a guard.

use std::time::Duration;

use cattleguard::{Error, Guard, Loaded, Outcome, Shutdown, Tier};
use futures::{
    FutureExt,
    future::{BoxFuture, join_all},
};
use tokio::time::Instant;

use crate::{
    TestGuard, answer, answers, bounded, builder, caller, callers, guard_on, idle, memory, ms,
    origin::{Broken, Gate, Origin, Reply, row_at},
    plain, secs, version_of,
    wire::Call,
    wired_with,
};

/// Loads `key` by fetching the next of `keys`.
fn through(
    guard: &TestGuard,
    keys: &'static [&'static str],
) -> impl FnMut() -> BoxFuture<'static, Result<Loaded<String>, Error>> + Send + use<> {
    let guard = guard.clone();
    move || {
        let guard = guard.clone();
        async move {
            let [next, rest @ ..] = keys else { return Ok(Loaded::found("end".to_owned(), 1)) };
            let fetched = guard.fetch(next, through(&guard, rest)).await?;
            Ok(Loaded::found(fetched.value().cloned().unwrap_or_default(), 1))
        }
        .boxed()
    }
}

fn is_nested(answer: &crate::Answer) -> bool {
    // Each loader on the way has made it its own error.
    let mut error: Option<&(dyn std::error::Error + 'static)> =
        answer.as_ref().err().map(|error| error as _);
    while let Some(found) = error {
        if matches!(found.downcast_ref(), Some(Error::Nested)) {
            return true;
        }
        error = found.source();
    }
    false
}

#[tokio::test(start_paused = true)]
async fn a_loader_that_fetches_its_own_key_is_told_at_once() {
    let guard = guard_on(memory());
    let begun = Instant::now();
    assert!(is_nested(&bounded(guard.fetch("a", through(&guard, &["a"]))).await));
    assert!(is_nested(&bounded(guard.fetch("a", through(&guard, &["b", "c", "a"]))).await));
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn guards_whose_loaders_fetch_from_each_other_do_not_wait_for_their_own_places() {
    let guard = || builder().policy(plain().max_concurrent_loads(4)).far(memory()).build();
    let (one, two) = (guard(), guard());
    let origin = Origin::taking(ms(20));
    let load_from = |other: &TestGuard, key: &'static str| {
        let (other, origin) = (other.clone(), origin.clone());
        move || {
            let (other, load) = (other.clone(), origin.load());
            async move {
                // All places are taken before one of the inner loads begins.
                tokio::time::sleep(ms(20)).await;
                other.fetch(key, load).await.map(|_| row_at(1))
            }
        }
    };
    let [outer, inner] = [["a", "b", "c", "d"], ["e", "f", "g", "h"]];
    let mut callers = Vec::new();
    for (outer, inner) in outer.into_iter().zip(inner) {
        for (guard, other) in [(&one, &two), (&two, &one)] {
            let (guard, load) = (guard.clone(), load_from(other, inner));
            callers.push(tokio::spawn(async move { guard.fetch(outer, load).await }));
        }
    }
    let begun = Instant::now();
    for caller in callers {
        assert_eq!(version_of(&bounded(caller).await.expect("a task")), 1);
    }
    assert!(begun.elapsed() <= ms(50), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn loaders_may_fetch_other_keys_and_their_own_key_of_another_guard() {
    let guard = guard_on(memory());
    let fetched = guard.fetch("a", through(&guard, &["b", "c"])).await.expect("a value");
    assert_eq!(fetched.value().map(String::as_str), Some("end"));
    let other = guard_on(memory());
    let answer = other.fetch("x", through(&guard, &["x"])).await;
    assert_eq!(version_of(&answer), 1);
}

#[tokio::test(start_paused = true)]
async fn loads_within_loads_do_not_wait_for_the_place_that_their_outer_load_has() {
    let guard =
        builder().policy(plain().max_concurrent_loads(1).max_queued_loads(1)).far(memory()).build();
    let fetched = bounded(guard.fetch("a", through(&guard, &["b", "c"]))).await.expect("a value");
    assert_eq!(fetched.value().map(String::as_str), Some("end"));
    // A batch within a load, too.
    let load = {
        let guard = guard.clone();
        move || {
            let guard = guard.clone();
            async move {
                let rows = async |keys: Vec<String>| {
                    Ok::<_, Error>(keys.into_iter().map(|key| (key, row_at(1))).collect())
                };
                let keys = ["x".to_owned(), "y".to_owned()];
                let fetched = guard.fetch_many(&keys, rows).await;
                fetched.into_iter().collect::<Result<Vec<_>, _>>()?;
                Ok::<_, Error>(row_at(1))
            }
        }
    };
    assert_eq!(version_of(&bounded(guard.fetch("d", load)).await), 1);
}

/// A load that takes a while, then fetches `inner` all at one time, each loaded by `origin`.
fn fans_out(
    guard: &TestGuard,
    gate: &Gate,
    inner: &'static [&'static str],
    origin: &Origin,
) -> impl FnMut() -> BoxFuture<'static, Result<Loaded<String>, Error>> + Send + use<> {
    let (guard, gate, origin) = (guard.clone(), gate.clone(), origin.clone());
    move || {
        let (guard, gate, origin) = (guard.clone(), gate.clone(), origin.clone());
        async move {
            gate.pass().await;
            let fetches = inner.iter().map(|key| guard.fetch(key, origin.load()));
            join_all(fetches).await.into_iter().collect::<Result<Vec<_>, _>>()?;
            Ok(row_at(1))
        }
        .boxed()
    }
}

type Rows = Vec<(String, Loaded<String>)>;

/// A load of many rows by `origin`.
fn rows_of(
    origin: &Origin,
) -> impl Fn(Vec<String>) -> BoxFuture<'static, Result<Rows, Broken>> + Send + Sync + use<> {
    let origin = origin.clone();
    move |keys| {
        let mut load = origin.load();
        async move {
            let row = load().await?;
            Ok(keys.into_iter().map(|key| (key, row.clone())).collect())
        }
        .boxed()
    }
}

#[tokio::test(start_paused = true)]
async fn a_load_that_follows_one_which_waits_for_its_place_does_not_wait_for_ever() {
    // Each of the two by itself or as a batch.
    for (outer_is_batch, queued_is_batch) in
        [(false, false), (false, true), (true, false), (true, true)]
    {
        let guard = builder().policy(plain().max_concurrent_loads(1)).far(memory()).build();
        let (origin, gate) = (Origin::taking(ms(50)), Gate::closed());
        let outer = {
            let (inner, gate, origin) = (guard.clone(), gate.clone(), origin.clone());
            let load = move || {
                let (guard, gate, origin) = (inner.clone(), gate.clone(), origin.clone());
                async move {
                    gate.pass().await;
                    match outer_is_batch {
                        true => guard.fetch_many(&["x".to_owned()], rows_of(&origin)).await[0]
                            .clone()?,
                        false => guard.fetch("x", origin.load()).await?,
                    };
                    Ok::<_, Error>(row_at(1))
                }
            };
            let guard = guard.clone();
            tokio::spawn(async move { guard.fetch("a", load).await })
        };
        idle().await;
        // Begun by somebody else, and queued behind the very load that is to follow it.
        let queued = {
            let (guard, origin) = (guard.clone(), origin.clone());
            tokio::spawn(async move {
                match queued_is_batch {
                    true => guard
                        .fetch_many(&["w".to_owned(), "x".to_owned()], rows_of(&origin))
                        .await
                        .remove(1),
                    false => guard.fetch("x", origin.load()).await,
                }
            })
        };
        idle().await;
        let begun = Instant::now();
        gate.open();
        assert_eq!(version_of(&bounded(outer).await.expect("a task")), 1);
        assert_eq!(begun.elapsed(), ms(50));
        assert_eq!(version_of(&bounded(queued).await.expect("a task")), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn loads_within_loads_are_bounded_too() {
    let guard = builder().policy(plain().max_concurrent_loads(3)).far(memory()).build();
    let (origin, gate) = (Origin::taking(ms(50)), Gate::closed());
    gate.open();
    let inner = &["1", "2", "3", "4", "5", "6", "7", "8", "9", "10"];
    let begun = Instant::now();
    assert_eq!(version_of(&guard.fetch("a", fans_out(&guard, &gate, inner, &origin)).await), 1);
    assert_eq!((origin.loads(), origin.most_at_once()), (10, 3));
    assert_eq!(begun.elapsed(), ms(200));
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_refuses_no_entry_that_is_there() {
    let far = memory();
    let (guard, wire) = wired_with(&far, plain());
    guard_on(far).fetch("k", Origin::new().load()).await.expect("a value");
    let gate = wire.hold_after(Call::Read);
    let origin = Origin::new();
    // One looks, the other leads a flight beside it.
    let alone = caller(&guard, "k", &origin);
    idle().await;
    let ended = {
        let guard = guard.clone();
        tokio::spawn(async move { guard.shutdown(secs(1)).await })
    };
    idle().await;
    let beside = caller(&guard, "k", &origin);
    idle().await;
    gate.open();
    for answer in answers(vec![alone, beside]).await {
        assert_eq!(version_of(&answer), 1);
    }
    assert_eq!(bounded(ended).await.expect("a task"), Shutdown::Finished);
    assert_eq!(origin.loads(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_near_entry_of_its_own_key_is_no_nested_load() {
    let guard = builder()
        .policy(plain().ttl(secs(10)).grace(secs(60)).near_ttl(secs(90)))
        .far(memory())
        .build();
    guard.fetch("a", Origin::new().load()).await.expect("a value");
    tokio::time::advance(secs(20)).await;
    let stale = guard.fetch("a", through(&guard, &["a"])).await.expect("something stale");
    assert_eq!(stale.outcome(), Outcome::Stale(Tier::Near));
    idle().await;
    // The refresh has fetched the stale value, and not itself.
    assert_eq!(
        guard.fetch("a", Origin::new().load()).await.expect("a value").outcome(),
        Outcome::Hit(Tier::Near)
    );
}

#[tokio::test(start_paused = true)]
async fn a_fetch_after_a_load_is_not_nested() {
    let guard = guard_on(memory());
    let origin = Origin::new();
    origin.next(Reply::Fail);
    assert!(!is_nested(&guard.fetch("a", origin.load()).await));
    assert!(guard.fetch("a", origin.load()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_waits_for_loads_and_begins_no_new_ones() {
    let far = memory();
    let guard = guard_on(far.clone());
    let origin = Origin::taking(secs(1));
    guard.fetch("hit", origin.load()).await.expect("a value");
    let herd = callers(&guard, 10, "k", &origin);
    idle().await;
    let stopping = tokio::spawn({
        let guard = guard.clone();
        async move { guard.shutdown(secs(5)).await }
    });
    idle().await;
    let answer = guard.fetch("new", origin.load()).await;
    assert!(matches!(answer, Err(Error::ShutDown)), "{answer:?}");
    assert_eq!(version_of(&guard.fetch("hit", origin.load()).await), 1);
    assert_eq!(bounded(stopping).await.expect("a task"), Shutdown::Finished);
    for answer in answers(herd).await {
        assert_eq!(version_of(&answer), 1);
    }
    assert_eq!((origin.loads(), far.lease_count()), (2, 0));
    // Far hits go on.
    let fresh = builder().near_capacity(0).far(far).build();
    assert_eq!(fresh.shutdown(Duration::ZERO).await, Shutdown::Finished);
    assert_eq!(
        fresh.fetch("k", origin.load()).await.expect("a hit").outcome(),
        Outcome::Hit(Tier::Far)
    );
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_what_takes_too_long_and_releases_its_lease() {
    let far = memory();
    let policy = plain().max_concurrent_loads(1).slow_load_after(Duration::MAX);
    let guard = builder().policy(policy).far(far.clone()).build();
    let other = guard_on(far.clone());
    let origin = Origin::new();
    origin.next(Reply::Never);
    let loading = caller(&guard, "k", &origin);
    origin.begun(1).await;
    let queued = caller(&guard, "queued", &origin);
    idle().await;
    let begun = Instant::now();
    assert_eq!(guard.shutdown(secs(1)).await, Shutdown::Aborted { flights: 2 });
    assert_eq!(begun.elapsed(), secs(1));
    for caller in [loading, queued] {
        assert!(matches!(answer(caller).await, Err(Error::ShutDown)));
    }
    assert_eq!((far.lease_count(), origin.running(), guard.flights()), (0, 0, 0));
    // Nobody has to wait for a lease to run out.
    let begun = Instant::now();
    assert_eq!(version_of(&other.fetch("k", Origin::new().load()).await), 1);
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_the_wait_for_another_process() {
    let far = memory();
    let (guard, other) = (guard_on(far.clone()), guard_on(far.clone()));
    let (origin, gate) = Origin::gated();
    let loading = caller(&other, "k", &origin);
    origin.begun(1).await;
    let waiting = caller(&guard, "k", &origin);
    idle().await;
    assert_eq!(guard.shutdown(ms(100)).await, Shutdown::Aborted { flights: 1 });
    assert!(matches!(answer(waiting).await, Err(Error::ShutDown)));
    gate.open();
    assert_eq!(version_of(&answer(loading).await), 1);
}

#[tokio::test(start_paused = true)]
async fn an_idle_guard_shuts_down_at_once_and_twice() {
    let guard: Guard<str, String> = guard_on(memory());
    let begun = Instant::now();
    assert_eq!(guard.shutdown(secs(5)).await, Shutdown::Finished);
    assert_eq!(guard.shutdown(secs(5)).await, Shutdown::Finished);
    assert_eq!(begun.elapsed(), Duration::ZERO);
    let (stale, wire) =
        wired_with(&memory(), plain().ttl(secs(1)).grace(secs(60)).near_ttl(secs(60)));
    let origin = Origin::new();
    stale.fetch("k", origin.load()).await.expect("a value");
    tokio::time::advance(secs(2)).await;
    assert_eq!(stale.shutdown(secs(5)).await, Shutdown::Finished);
    assert_eq!(
        stale.fetch("k", origin.load()).await.expect("stale").outcome(),
        Outcome::Stale(Tier::Near)
    );
    idle().await;
    assert_eq!((origin.loads(), wire.calls(Call::LookUp)), (1, 1));
}
