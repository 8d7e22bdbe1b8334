//! What holds when Redis is there again: with all that it had, or with nothing.

use std::time::Duration;

use crate::{
    fleet::{Fleet, until},
    outages::Gone,
    servers::Redis,
};

/// From the first `PONG` until all processes share one load: a second, and what a busy machine of two cores
/// adds. (Two probes of a quarter each, and a round of loads: 0.5 s, or 0.1 s when it was frozen.)
const BACK_WITHIN: Duration = Duration::from_millis(1000 + 500);

/// For what is about order, not about time: a busy machine must not fake an outage.
const PATIENT: &[&str] = &["timeout=500"];

/// A Redis that has on disk what it has acknowledged.
fn durable() -> Redis {
    Redis::start_with(&["--appendonly", "yes", "--appendfsync", "always"]).expect("a Redis")
}

pub async fn within_a_second_of_redis_all_processes_share_a_load_again() {
    for gone in Gone::ALL {
        let mut fleet = Fleet::over(durable(), 3, &[]).await;
        fleet.shared_again("before").await;
        gone.befall(&mut fleet);
        // Long enough for pauses that went on doubling to show.
        for round in 0..30 {
            fleet.round(&format!("during-{round}"), 20, 50).await;
        }
        gone.pass(&mut fleet);
        let took = fleet.shared_again("after").await;
        println!("{gone:?}: one load for all {took:?} after the server's first answer");
        assert!(took <= BACK_WITHIN, "{gone:?}: {took:?}");
    }
}

pub async fn what_was_invalidated_before_and_during_an_outage_is_so_after_it() {
    for gone in Gone::ALL {
        let mut fleet = Fleet::over(durable(), 3, PATIENT).await;
        for key in ["before", "during", "of-any"] {
            fleet.round(key, 1, 0).await;
            fleet.update(key, 2).await;
        }
        let done = fleet.workers[0].ask("invalidate before 2").await;
        assert_eq!(done, "invalidated Ok(Everywhere)", "{gone:?}");

        gone.befall(&mut fleet);
        for order in ["invalidate during 2", "invalidate of-any -"] {
            let done = fleet.workers[0].ask(order).await;
            assert!(done.starts_with("invalidated Err"), "{gone:?}: {done}");
        }
        for key in ["before", "during", "of-any"] {
            assert_eq!(fleet.workers[0].version(key).await, 2, "{gone:?}: here at once");
        }
        gone.pass(&mut fleet);
        fleet.shared_again("after").await;
        // What it had kept was sent before it asked Redis for anything, so it is there for all now.
        for worker in &mut fleet.workers {
            for key in ["before", "during", "of-any"] {
                assert_eq!(worker.version(key).await, 2, "{gone:?}: {key}");
            }
        }
        // And a replica that lags, or a writer who is late, is known as such.
        for key in ["before", "during"] {
            let refused = fleet.workers[2].ask(&format!("put {key} 1")).await;
            assert_eq!(refused, "put Ok(Older { minimum: Version(2) })", "{gone:?}: {key}");
        }
    }
}

pub async fn a_redis_that_comes_back_empty_takes_no_old_load() {
    let mut fleet = Fleet::start_with(3, PATIENT).await;
    assert_eq!(fleet.workers[1].ask("hold k").await, "loading");
    fleet.update("k", 2).await;
    let done = fleet.workers[0].ask("invalidate k 2").await;
    assert!(done.starts_with("invalidated Ok"), "{done}");

    fleet.redis.kill();
    fleet.round("during", 5, 10).await;
    fleet.redis.restart().expect("a Redis");
    fleet.shared_again("after").await;
    // It has forgotten lease and tombstone; but a lease that it does not know is none.
    fleet.workers[1].order("go").await;
    let landed = fleet.workers[1].answer().await;
    assert!(landed.starts_with("landed"), "{landed}");
    for worker in &mut fleet.workers {
        assert_eq!(worker.fetch("k", 10, 0).await.1, 2);
    }
}

/// Redis is killed and comes back without its data while rows change. Who changes one, never again sees it
/// as it was; who did not may, until Redis has heard of it, but ends with the newest.
pub async fn who_changes_a_row_never_sees_it_older_whatever_happens_to_redis() {
    let mut fleet = Fleet::start_with(3, &[]).await;
    for version in 1..=90 {
        match version {
            30 => fleet.redis.kill(),
            60 => fleet.redis.restart().expect("a Redis"),
            _ => {}
        }
        let writer = version as usize % 2;
        let key = ["even", "odd"][writer];
        fleet.update(key, version).await;
        let order = format!("invalidate {key} {version}");
        let done = fleet.workers[writer].ask(&order).await;
        assert!(done.starts_with("invalidated "), "{done}");
        for worker in &mut fleet.workers {
            worker.order(&format!("fetch {key} 5 1")).await;
        }
        for (reader, worker) in fleet.workers.iter_mut().enumerate() {
            let (answered, seen, _) = worker.fetched().await;
            assert_eq!(answered, 5);
            let everywhere = done == "invalidated Ok(Everywhere)";
            assert!(
                seen == version || reader != writer && !everywhere,
                "process {reader} saw {seen} after {done} of {version} by {writer}"
            );
        }
    }
    fleet.shared_again("after").await;
    // Who is not told of messages again yet, keeps what it has for half a second.
    for worker in &mut fleet.workers {
        until(Duration::from_secs(2), async || {
            (worker.version("even").await, worker.version("odd").await) == (90, 89)
        })
        .await;
    }
}

pub async fn an_invalidation_says_whether_a_replica_has_it() {
    // Otherwise a replica copies its primary only after 5 s.
    let primary = Redis::start_with(&["--repl-diskless-sync", "no"]).expect("a Redis");
    let of = format!("127.0.0.1 {}", primary.port());
    let replica = Redis::start_with(&["--replicaof", &of]).expect("a Redis");
    let mut fleet = Fleet::over(primary, 2, &["timeout=2000"]).await;
    let joined = async || fleet.say("SET ready 1\r\nWAIT 1 100").contains(":1\r\n");
    crate::fleet::until(Duration::from_secs(10), joined).await;

    fleet.round("k", 1, 0).await;
    fleet.update("k", 2).await;
    let worker = &mut fleet.workers[0];
    assert_eq!(worker.ask("confirm k 2 1 5000").await, "invalidated Ok(Everywhere)");
    assert_eq!(
        worker.ask("confirm k 2 2 300").await,
        "invalidated Ok(Unreplicated { replicas: 1 })"
    );
    replica.freeze();
    assert_eq!(
        worker.ask("confirm k 3 1 300").await,
        "invalidated Ok(Unreplicated { replicas: 0 })"
    );
    // Acknowledged all the same: here and in the other process nothing older is answered.
    fleet.update("k", 3).await;
    for worker in &mut fleet.workers {
        assert_eq!(worker.version("k").await, 3);
    }
    replica.thaw();
    let worker = &mut fleet.workers[0];
    assert_eq!(worker.ask("confirm k 3 1 5000").await, "invalidated Ok(Everywhere)");
}
