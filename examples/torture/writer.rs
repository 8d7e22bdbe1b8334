//! Who changes rows, and tells the cache.

use std::{sync::Arc, time::Duration};

use cattleguard::far::Invalidated;
use tokio::task::JoinSet;

use crate::{
    caller,
    error::Failure,
    history::{Deed, Reached},
    load,
    row::name,
    worker::Worker,
};

pub async fn live(worker: Arc<Worker>, pause: Duration) {
    // What is put late: by then the row may be newer.
    let mut held: Option<(u32, u64)> = None;
    while !worker.is_stopped() {
        tokio::time::sleep(pause.mul_f64(2.0 * fastrand::f64())).await;
        let key = caller::key();
        let Ok(version) = worker.origin.write(key).await else { continue };
        let crowd = crowd(&worker, key);
        match fastrand::u32(..10) {
            0 => put(&worker, key, version).await,
            1 => {
                if let Some((key, version)) = held.replace((key, version)) {
                    put(&worker, key, version).await;
                }
                invalidate(&worker, key, Some(version)).await;
            }
            2..4 => invalidate(&worker, key, None).await,
            _ => invalidate(&worker, key, Some(version)).await,
        }
        // What it reads now it must have written.
        caller::ask(&worker, key).await;
        crowd.join_all().await;
    }
}

/// Some who ask for what is just being written.
fn crowd(worker: &Arc<Worker>, key: u32) -> JoinSet<()> {
    let one = |_| {
        let worker = worker.clone();
        async move {
            tokio::time::sleep(Duration::from_micros(fastrand::u64(..2_000))).await;
            caller::ask(&worker, key).await;
        }
    };
    (0..fastrand::u32(..6)).map(one).collect()
}

async fn put(worker: &Worker, key: u32, version: u64) {
    let source = worker.teller.number();
    let deed = |is_acknowledged| Deed::Put { source, version, is_acknowledged };
    let begun = worker.teller.began(source, key, deed(false));
    let put = worker.guard.put(&name(key), load::value(source, version)).await;
    worker.teller.ended(source, key, begun, deed(put.is_ok()));
}

async fn invalidate(worker: &Worker, key: u32, version: Option<u64>) {
    let number = worker.teller.number();
    let deed = |reached| Deed::Invalidated { version, reached };
    let begun = worker.teller.began(number, key, deed(Reached::Unacknowledged));
    let name = name(key);
    let invalidated: Result<Invalidated, Failure> = match version {
        Some(version) => worker.guard.invalidate_at(&name, version).await.map_err(Into::into),
        None => worker.guard.invalidate(&name).await.map_err(Into::into),
    };
    let reached = match invalidated {
        Ok(Invalidated::Everywhere) => Reached::Everywhere,
        Ok(_) => Reached::Unconfirmed,
        Err(_) => Reached::Unacknowledged,
    };
    worker.teller.ended(number, key, begun, deed(reached));
}
