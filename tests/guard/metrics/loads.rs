use cattleguard::{Loaded, Shutdown};
use futures::future::BoxFuture;

use super::{FLIGHTS, IN_PROGRESS, LOADS, QUEUED, Recorder, Rows, tally, watched};
use crate::{
    Origin, TestGuard, answers, bounded, caller, callers, idle, memory, ms,
    origin::{Broken, Gate, Reply},
    plain, secs,
};

const NOW: [&str; 3] = [IN_PROGRESS, QUEUED, FLIGHTS];

fn now(recorder: &Recorder) -> [f64; 3] {
    NOW.map(|name| recorder.gauge(name))
}

#[tokio::test(start_paused = true)]
async fn a_load_is_counted_once_however_many_wait_and_however_it_ends() {
    let recorder = Recorder::default();
    let guard = watched(&recorder, memory(), plain().load_timeout(secs(2)));
    let origin = Origin::taking(ms(50));
    let replies =
        [Reply::Row, Reply::Fail, Reply::Panic, Reply::PanicInClosure, Reply::Never, Reply::Never];
    for (reply, key) in replies.iter().zip(["a", "b", "c", "d", "e", "f"]) {
        origin.next(reply.clone());
        answers(callers(&guard, 20, key, &origin)).await;
    }
    let ends = [
        "ok",
        "error_origin",
        "error_load_panicked",
        "error_load_panicked",
        "error_load_timeout",
        "error_load_timeout",
    ];
    assert_eq!(recorder.counters(LOADS, "result"), tally(ends));
    assert_eq!(recorder.total("cattleguard_loads_total"), origin.loads() as u64);
    let took = recorder.samples("cattleguard_load_seconds");
    assert_eq!(took, [0.05, 0.05, 0.05, 0.0, 2.0, 2.0]);
    assert_eq!(now(&recorder), [0.0; 3]);
}

/// A batch whose load comes to this.
async fn batch(guard: &TestGuard, load: fn() -> BoxFuture<'static, Rows>) {
    bounded(guard.fetch_many(&["a", "b", "c", "d"], move |_| load())).await;
}

#[tokio::test(start_paused = true)]
async fn the_load_of_a_batch_is_counted_once_and_not_for_each_key() {
    let recorder = Recorder::default();
    let guard = watched(&recorder, memory(), plain().load_timeout(secs(2)));
    batch(&guard, || Box::pin(async { Err(Broken) })).await;
    batch(&guard, || Box::pin(async { panic!("the load panics") })).await;
    batch(&guard, || panic!("the closure panics")).await;
    batch(&guard, || Box::pin(std::future::pending())).await;
    assert_eq!(now(&recorder), [0.0; 3]);
    let stuck = tokio::spawn({
        let guard = guard.clone();
        async move { batch(&guard, || Box::pin(std::future::pending())).await }
    });
    idle().await;
    assert_eq!(now(&recorder), [1.0, 0.0, 4.0]);
    assert_eq!(guard.shutdown(ms(5)).await, Shutdown::Aborted { flights: 4 });
    bounded(stuck).await.expect("no panic");
    let ends = [
        "error_origin",
        "error_load_panicked",
        "error_load_panicked",
        "error_load_timeout",
        "error_shut_down",
    ];
    assert_eq!(recorder.counters(LOADS, "result"), tally(ends));
    assert_eq!(now(&recorder), [0.0; 3]);

    let guard = watched(&recorder, memory(), plain());
    batch(&guard, || Box::pin(async { Ok(vec![("a", Loaded::found("row".to_owned(), 1))]) })).await;
    assert_eq!(recorder.counter(LOADS, "result", "ok"), 1);
    assert_eq!(recorder.total(LOADS), 6);
}

#[tokio::test(start_paused = true)]
async fn loads_in_progress_and_in_the_queue_are_exact_at_every_moment() {
    let recorder = Recorder::default();
    let policy = plain().max_concurrent_loads(2).load_timeout(secs(5));
    let guard = watched(&recorder, memory(), policy);
    let (origin, gate) = Origin::gated();
    let herd: Vec<_> = ["a", "b", "c", "d", "e"]
        .into_iter()
        .flat_map(|key| callers(&guard, 3, key, &origin))
        .collect();
    idle().await;
    assert_eq!(now(&recorder), [2.0, 3.0, 5.0]);
    gate.let_one_pass();
    idle().await;
    assert_eq!(now(&recorder), [2.0, 2.0, 4.0]);
    // The rest runs into the load timeout, in progress and in the queue.
    answers(herd).await;
    idle().await;
    assert_eq!(now(&recorder), [0.0; 3]);
    assert_eq!(recorder.total(LOADS), origin.loads() as u64);
}

#[tokio::test(start_paused = true)]
async fn what_is_aborted_is_in_no_gauge() {
    let recorder = Recorder::default();
    let policy = plain().max_concurrent_loads(1).load_timeout(secs(60));
    let guard = watched(&recorder, memory(), policy);
    let (origin, _gate) = Origin::gated();
    let herd = ["a", "b", "c"].map(|key| caller(&guard, key, &origin));
    idle().await;
    assert_eq!(now(&recorder), [1.0, 2.0, 3.0]);
    assert_eq!(guard.shutdown(ms(5)).await, Shutdown::Aborted { flights: 3 });
    answers(herd.into()).await;
    idle().await;
    assert_eq!((now(&recorder), origin.running()), ([0.0; 3], 0));
    assert_eq!(recorder.counters(LOADS, "result"), tally(["error_shut_down"]));
}

/// An origin whose runtime ends before it answers.
#[test]
fn the_end_of_a_runtime_leaves_nothing_in_a_gauge() {
    let recorder = Recorder::default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let policy = plain().max_concurrent_loads(2);
    let (guard, _gate) = runtime.block_on(async {
        let guard = watched(&recorder, memory(), policy);
        let (origin, gate): (_, Gate) = Origin::gated();
        for key in ["a", "b", "c"] {
            drop(caller(&guard, key, &origin));
        }
        origin.begun(2).await;
        idle().await;
        assert_eq!(now(&recorder), [2.0, 1.0, 3.0]);
        (guard, gate)
    });
    drop(runtime);
    assert_eq!(now(&recorder), [0.0; 3]);
    assert_eq!(recorder.counters(LOADS, "result"), tally(["error_abandoned", "error_abandoned"]));
    assert_eq!(recorder.total("cattleguard_fetches_dropped_total"), 3);
    drop(guard);
}
