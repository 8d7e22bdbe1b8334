//! Who asks.

use std::{sync::Arc, time::Duration};

use cattleguard::Error;
use tokio::time::{Instant, timeout};

use crate::{
    history::{Answer, Deed, Span},
    load::Load,
    moment::{micros, now},
    row::{ALL, HOT, name},
    worker::Worker,
};

/// How long after its deadline a caller gives an answer up for lost.
const LOST: Duration = Duration::from_secs(8);

pub async fn live(worker: Arc<Worker>, pause: Duration) {
    tokio::time::sleep(pause.mul_f64(fastrand::f64())).await;
    while !worker.is_stopped() {
        ask(&worker, key()).await;
        tokio::time::sleep(pause.mul_f64(2.0 * fastrand::f64())).await;
    }
}

/// Some are hotter than others, and a few cold.
pub fn key() -> u32 {
    match fastrand::u32(..100) {
        ..4 => fastrand::u32(HOT..ALL),
        _ => fastrand::u32(..HOT).min(fastrand::u32(..HOT)),
    }
}

pub async fn ask(worker: &Worker, key: u32) {
    let patience = Duration::from_millis(match fastrand::u32(..10) {
        0 => fastrand::u64(20..200),
        1 => 6_000,
        _ => 2_000,
    });
    let (teller, origin) = (worker.teller.clone(), worker.origin.clone());
    let load = move || Load::run(teller.clone(), origin.clone(), key);
    let name = name(key);
    let begun = now();
    let deadline = begun + micros(patience);
    let answer = worker.guard.fetch_by(&name, Instant::now() + patience, load);
    // Some callers leave.
    let leaves = fastrand::u32(..50) == 0;
    let limit = if leaves { patience.mul_f64(0.01 * fastrand::f64()) } else { patience + LOST };
    let (answer, outcome) = match timeout(limit, answer).await {
        Ok(Ok(fetched)) => {
            let (outcome, version) = (fetched.outcome().as_str(), fetched.version().high());
            let source = fetched.value().map_or(0, |row| row.source);
            (Answer::Value { source, version }, outcome)
        }
        Ok(Err(error)) => (failed(&error), error.as_str()),
        Err(_) if leaves => return,
        Err(_) => (Answer::Failed, "lost"),
    };
    let span = Span { begun, ended: Some(now()) };
    let outcome = outcome.to_owned();
    worker.teller.seen(key, span, Deed::Asked { answer, outcome, deadline });
}

fn failed(error: &Error) -> Answer {
    match error {
        Error::Origin(_)
        | Error::LoadPanicked
        | Error::FailedElsewhere { .. }
        | Error::Outdated { .. } => Answer::OriginFailed,
        Error::LoadTimeout { .. } | Error::WaitTimeout { .. } | Error::DeadlineExceeded => {
            Answer::TimedOut
        }
        Error::Overloaded { .. } => Answer::Overloaded,
        _ => Answer::Failed,
    }
}
