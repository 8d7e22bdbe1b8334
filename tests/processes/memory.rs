//! What was taken is given back.

use std::time::Duration;

use crate::fleet::{Fleet, until};

const KB: i64 = 1024;

pub async fn a_million_keys_leave_nothing_behind() {
    let mut fleet = Fleet::start(1).await;
    let balance = fleet.workers[0].numbers("sweep 1000000 25").await;
    let [keys, before, tenth, end, after] = balance[..] else { panic!("{balance:?}") };
    println!(
        "{keys} keys; live bytes {before}, {tenth} after a tenth, {end}, and {after} when done"
    );
    assert!(keys >= 100_000, "{keys}");
    // A leak of a single byte a key would be 900 kB after a million. (Tables grow by some 100 kB.)
    assert!(end - tenth < 300 * KB, "{tenth} bytes after a tenth, {end} at the end");
    assert!(after - before < 100 * KB, "{before} bytes before, {after} after");
}

pub async fn abandoned_callers_leave_nothing_behind() {
    let mut fleet = Fleet::start(1).await;
    let worker = &mut fleet.workers[0];
    // Connections, buffers and caches have their size after a first round.
    worker.numbers("abandon 100000 200").await;
    let mut settled = Vec::new();
    until(Duration::from_secs(10), async || {
        settled = worker.numbers("balance").await;
        settled[2] == 0
    })
    .await;
    let abandoned = worker.numbers("abandon 100000 200").await;
    let mut end = Vec::new();
    until(Duration::from_secs(10), async || {
        end = worker.numbers("balance").await;
        end[1] <= settled[1] && end[2] == 0
    })
    .await;
    println!(
        "abandoned callers and loads: {abandoned:?}; bytes, tasks, flights: {settled:?}, {end:?}"
    );
    assert!(end[0] - settled[0] < 500 * KB, "{settled:?}, {end:?}");
}
