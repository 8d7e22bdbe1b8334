use cattleguard::Loaded;

use super::{Recorder, tally, watched};
use crate::{
    Origin, answers, callers, idle, memory, ms,
    origin::{Reply, row_at},
    plain, secs,
    wire::{Break, Call, Wire},
};

const BREAKER: &str = "cattleguard_breaker_state";
const KEPT: &str = "cattleguard_pending_invalidations";
const ERRORS: &str = "cattleguard_far_errors_total";
const WRITES: &str = "cattleguard_writes_total";
const REFUSED: &str = "cattleguard_commits_refused_total";

#[tokio::test(start_paused = true)]
async fn the_breaker_is_seen_to_open_to_be_tried_and_to_close() {
    let recorder = Recorder::default();
    let wire = Wire::to(&memory());
    let guard = watched(&recorder, wire.clone(), plain());
    let origin = Origin::new();
    assert_eq!(recorder.gauge(BREAKER), 0.0);
    wire.fault_all(&Break::Error);
    for key in ["a", "b", "c", "d", "e"] {
        guard.fetch(key, origin.load()).await.expect("a value");
    }
    assert_eq!(recorder.gauge(BREAKER), 2.0);
    // A probe that hangs is one that is under way.
    let gate = wire.hold_before(Call::LookUp);
    tokio::time::sleep(secs(1)).await;
    assert_eq!(recorder.gauge(BREAKER), 1.0);
    wire.fault_all(&Break::Error);
    gate.open();
    // It comes through, but cannot release.
    idle().await;
    assert_eq!(recorder.gauge(BREAKER), 2.0);
    wire.heal();
    tokio::time::sleep(secs(1)).await;
    assert_eq!(recorder.gauge(BREAKER), 0.0);
    guard.fetch("f", origin.load()).await.expect("a value");
}

#[tokio::test(start_paused = true)]
async fn pending_invalidations_are_counted_by_name_until_they_are_sent() {
    let recorder = Recorder::default();
    let wire = Wire::to(&memory());
    let guard = watched(&recorder, wire.clone(), plain());
    wire.fault_all(&Break::Error);
    for key in ["a", "b", "c", "a", "b", "a"] {
        guard.invalidate(key).await.expect_err("nobody there");
    }
    guard.put("d", row_at(2)).await.expect_err("nobody there");
    assert_eq!((recorder.gauge(KEPT), recorder.gauge(BREAKER)), (4.0, 2.0));
    wire.heal();
    tokio::time::sleep(secs(1)).await;
    assert_eq!((recorder.gauge(KEPT), recorder.gauge(BREAKER)), (0.0, 0.0));

    // A guard that is gone takes its own out of the sums.
    wire.fault_all(&Break::Error);
    let other = watched(&recorder, wire.clone(), plain());
    guard.invalidate("a").await.expect_err("nobody there");
    other.invalidate("b").await.expect_err("nobody there");
    assert_eq!((recorder.gauge(KEPT), recorder.gauge(BREAKER)), (2.0, 4.0));
    drop(other);
    assert_eq!((recorder.gauge(KEPT), recorder.gauge(BREAKER)), (1.0, 2.0));
    drop(guard);
    assert_eq!((recorder.gauge(KEPT), recorder.gauge(BREAKER)), (0.0, 0.0));
}

#[tokio::test(start_paused = true)]
async fn each_failed_call_to_the_far_tier_is_counted_by_its_kind() {
    let recorder = Recorder::default();
    let wire = Wire::to(&memory());
    let guard = watched(&recorder, wire.clone(), plain());
    wire.fault(Call::Commit, Break::Refuse);
    guard.fetch("a", Origin::new().load()).await.expect("a value");
    wire.fault(Call::Put, Break::Refuse);
    guard.put("a", row_at(2)).await.expect_err("refused");
    assert_eq!(recorder.counters(ERRORS, "kind"), tally(["refused", "refused"]));
    wire.fault(Call::Invalidate, Break::Hang);
    guard.invalidate("a").await.expect_err("no answer");
    assert_eq!(recorder.counter(ERRORS, "kind", "timeout"), 1);
    // While the breaker is open nothing is called, but by the probes.
    wire.fault(Call::LookUp, Break::Error);
    for _ in 0..10 {
        guard.invalidate("b").await.expect_err("the breaker is open");
    }
    assert_eq!(recorder.counter(ERRORS, "kind", "unreachable"), 0);
    tokio::time::sleep(secs(1)).await;
    let probes = wire.calls(Call::LookUp) as u64 - 1;
    assert!(probes > 0);
    assert_eq!(recorder.counter(ERRORS, "kind", "unreachable"), probes);
}

#[tokio::test(start_paused = true)]
async fn what_became_of_each_write_is_counted() {
    let recorder = Recorder::default();
    let wire = Wire::to(&memory());
    let guard = watched(&recorder, wire.clone(), plain());
    guard.put("a", row_at(2)).await.map(drop).expect("the far tier");
    guard.put("a", row_at(1)).await.map(drop).expect("the far tier");
    guard.invalidate("a").await.map(drop).expect("the far tier");
    guard.invalidate_at("a", 3).confirmed(1, ms(10)).await.map(drop).expect("the far tier");
    wire.fault_all(&Break::Refuse);
    guard.put("a", row_at(2)).await.expect_err("refused");
    guard.invalidate("a").await.expect_err("refused");
    let writes = |what: &str| {
        let series = recorder.series();
        let of =
            series.iter().filter(|series| series.name == WRITES && series.labels["what"] == what);
        of.map(|series| series.labels["result"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(writes("put"), ["failed", "older", "stored"]);
    assert_eq!(writes("invalidate"), ["everywhere", "failed", "unconfirmed", "unreplicated"]);
    assert_eq!(recorder.counter(WRITES, "result", "stored"), 1);
    assert_eq!(recorder.counter(WRITES, "result", "older"), 1);
    assert_eq!(recorder.counter(WRITES, "result", "everywhere"), 1);
}

#[tokio::test(start_paused = true)]
async fn what_was_loaded_and_not_written_is_counted_by_why() {
    let recorder = Recorder::default();
    let far = memory();
    let guard = watched(&recorder, far.clone(), plain().load_timeout(secs(1)));
    let (origin, gate) = Origin::gated();
    let herd = callers(&guard, 2, "a", &origin);
    idle().await;
    guard.invalidate("a").await.map(drop).expect("the far tier");
    gate.open();
    answers(herd).await;
    assert_eq!(recorder.counters(REFUSED, "why"), tally(["lease_lost"]));

    guard.invalidate_at("b", 5).await.map(drop).expect("the far tier");
    origin.next(Reply::Version(4)).next(Reply::Loaded(Loaded::found("v4".to_owned(), 4)));
    origin.next(Reply::Version(5));
    guard.fetch("b", origin.load()).await.expect("the third is new enough");
    assert_eq!(recorder.counter(REFUSED, "why", "outdated"), 2);
}
