//! The promises, kept among processes.

use std::time::Duration;

use crate::fleet::Fleet;

pub async fn one_load_for_a_thousand_callers_in_four_processes() {
    let mut fleet = Fleet::start(4).await;
    for round in 0..5 {
        let key = format!("cold-{round}");
        for worker in &mut fleet.workers {
            worker.order(&format!("fetch {key} 250 50")).await;
        }
        for worker in &mut fleet.workers {
            let (answered, version, _) = worker.fetched().await;
            assert_eq!((answered, version), (250, 1));
        }
        assert_eq!(fleet.loads(&key).await, 1, "round {round}");
    }
}

pub async fn a_refresh_by_a_thousand_callers_in_four_processes_is_one_load() {
    let mut fleet = Fleet::start(4).await;
    fleet.update("k", 1).await;
    for worker in &mut fleet.workers {
        assert_eq!(worker.fetch("k", 1, 0).await.1, 1);
    }
    fleet.update("k", 2).await;
    for worker in &mut fleet.workers {
        worker.order("refresh k 250 300").await;
    }
    for worker in &mut fleet.workers {
        let (answered, version, _) = worker.fetched().await;
        assert_eq!((answered, version), (250, 2));
    }
    assert_eq!(fleet.loads("k").await, 2, "the first, and one for all");
}

pub async fn an_older_write_after_a_newer_one_is_refused() {
    let mut fleet = Fleet::start(2).await;
    let [one, two] = &mut fleet.workers[..] else { panic!() };
    assert_eq!(one.ask("put k 7").await, "put Ok(Stored)");
    assert_eq!(two.ask("put k 6").await, "put Ok(Older { minimum: Version(7) })");
    assert_eq!(two.ask("put k 7").await, "put Ok(Stored)");
    for worker in [one, two] {
        assert_eq!(worker.fetch("k", 1, 0).await.1, 7);
    }
    assert_eq!(fleet.loads("k").await, 0);
}

pub async fn an_invalidation_during_a_load_keeps_its_value_out() {
    let mut fleet = Fleet::start(3).await;
    fleet.update("k", 1).await;
    assert_eq!(fleet.workers[0].ask("hold k").await, "loading");
    fleet.update("k", 2).await;
    assert_eq!(fleet.workers[1].ask("invalidate k -").await, "invalidated Ok(Everywhere)");
    // In every process, that of the load in progress among them, later callers get the new row.
    for worker in &mut fleet.workers {
        assert_eq!(worker.fetch("k", 10, 10).await.1, 2);
    }
    fleet.workers[0].order("go").await;
    let landed = fleet.workers[0].answer().await;
    assert!(landed.starts_with("landed"), "{landed}");
    for worker in &mut fleet.workers {
        assert_eq!(worker.fetch("k", 10, 0).await.1, 2);
    }
    assert_eq!(fleet.loads("k").await, 2);
}

pub async fn no_process_answers_older_than_an_acknowledged_invalidation() {
    let mut fleet = Fleet::start(3).await;
    for version in 1..=50 {
        fleet.update("k", version).await;
        let writer = version as usize % 3;
        let order = format!("invalidate k {version}");
        assert_eq!(fleet.workers[writer].ask(&order).await, "invalidated Ok(Everywhere)");
        for worker in &mut fleet.workers {
            worker.order("fetch k 5 1").await;
        }
        for worker in &mut fleet.workers {
            assert_eq!(worker.fetched().await.1, version);
        }
    }
    assert_eq!(fleet.loads("k").await, 50);
}

pub async fn two_loads_of_one_process_around_an_invalidation_are_told_apart() {
    let mut fleet = Fleet::start(1).await;
    fleet.update("k", 1).await;
    let worker = &mut fleet.workers[0];
    assert_eq!(worker.ask("hold k").await, "loading");
    assert_eq!(worker.ask("invalidate k -").await, "invalidated Ok(Everywhere)");
    fleet.update("k", 2).await;
    let worker = &mut fleet.workers[0];
    // A second load of the same process takes the lease; both wait for `go`.
    assert_eq!(worker.ask("hold k").await, "loading");
    worker.order("go").await;
    let first = worker.answer().await;
    worker.order("go").await;
    let second = worker.answer().await;
    assert!(first.starts_with("landed") && second.starts_with("landed"), "{first}, {second}");
    assert_eq!(worker.fetch("k", 10, 0).await.1, 2);
    assert_eq!(fleet.loads("k").await, 2);
}

pub async fn a_lagging_read_is_refused_and_repeated() {
    let mut fleet = Fleet::start(2).await;
    // The replica still has 5 when the write of 6 is acknowledged.
    fleet.update("k", 5).await;
    assert_eq!(fleet.workers[0].ask("invalidate k 6").await, "invalidated Ok(Everywhere)");
    fleet.workers[1].order("fetch k 10 0").await;
    while fleet.loads("k").await < 2 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    fleet.update("k", 6).await;
    let (answered, version, _) = fleet.workers[1].fetched().await;
    assert_eq!((answered, version), (10, 6));
}

pub async fn huge_versions_keep_their_order() {
    let mut fleet = Fleet::start(2).await;
    let [one, two] = &mut fleet.workers[..] else { panic!() };
    let (older, newer) = (1u64 << 60, (1u64 << 60) + 1);
    assert_eq!(one.ask(&format!("put k {newer}")).await, "put Ok(Stored)");
    let refused = two.ask(&format!("put k {older}")).await;
    assert_eq!(refused, format!("put Ok(Older {{ minimum: Version({newer}) }})"));
    assert_eq!(two.fetch("k", 1, 0).await.1, newer);
}

pub async fn no_wake_up_is_lost() {
    let mut fleet = Fleet::start(3).await;
    for round in 0..300 {
        let key = format!("k{round}");
        // From no load time at all to more than a round trip: the commit falls into every gap of
        // the others' look-ups.
        for worker in &mut fleet.workers {
            worker.order(&format!("fetch {key} 2 {}", round % 4)).await;
        }
        for worker in &mut fleet.workers {
            let (answered, _, slowest) = worker.fetched().await;
            assert_eq!(answered, 2);
            assert!(
                slowest < 1500,
                "round {round}: {slowest} ms is the end of the lease, not a message"
            );
        }
        assert_eq!(fleet.loads(&key).await, 1, "round {round}");
    }
}
