//! Pending invalidations: none is forgotten, and none forgets a newer one.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering::SeqCst},
};

use super::pending::{Left, PendingInvalidation, PendingInvalidations};
use crate::{
    Version,
    observe::Gauge,
    run::{caller, choose, pause, scenarios},
};

scenarios![
    each_is_sent_after_it_was_added,
    who_has_added_one_finds_it_until_it_is_sent,
    none_is_added_while_nothing_is_pending,
];

/// What has been sent.
#[derive(Default)]
struct Far {
    /// Counts whatever happens, to say what came before.
    clock: AtomicU64,
    sent: Mutex<Vec<Sent>>,
}

#[derive(Clone, Copy)]
struct Sent {
    begun: u64,
    version: Option<Version>,
}

impl Far {
    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, SeqCst)
    }

    async fn send(&self, pending: PendingInvalidation) {
        let begun = self.tick();
        for version in pending.versions() {
            pause().await;
            self.sent.lock().expect("no panic").push(Sent { begun, version });
        }
    }

    /// Whether this, or more, was sent since.
    fn has(&self, version: Option<Version>, since: u64) -> bool {
        let covers = |sent: &Sent| match version {
            None => sent.version.is_none() && sent.begun > since,
            Some(version) => sent.version.is_some_and(|sent| sent >= version),
        };
        self.sent.lock().expect("no panic").iter().any(covers)
    }
}

fn pending() -> Arc<PendingInvalidations> {
    Arc::new(PendingInvalidations::new(Gauge))
}

/// As the recovery does, until nothing is left.
async fn send_all(pending: &PendingInvalidations, far: &Far) {
    while pending.lock_if_empty().is_none() {
        for (name, invalidation) in pending.all() {
            far.send(invalidation).await;
            let _more_to_come = pending.sent(&name, invalidation);
        }
    }
}

fn version() -> Option<Version> {
    [None, Some(1), Some(2), Some(3)][choose(4) as usize].map(Version::new)
}

async fn each_is_sent_after_it_was_added() {
    let (pending, far) = (pending(), Arc::<Far>::default());
    let adding = [0; 3].map(|_| {
        let (pending, far) = (pending.clone(), far.clone());
        caller(async move {
            let mut added = vec![];
            for _ in 0..2 {
                let (version, since) = (version(), far.tick());
                assert!(pending.add("k", version).is_ok());
                added.push((version, since));
            }
            added
        })
    });
    send_all(&pending, &far).await;
    let mut added = vec![];
    for adder in adding {
        added.extend(adder.answer().await);
    }
    send_all(&pending, &far).await;
    assert!(added.into_iter().all(|(version, since)| far.has(version, since)));
    assert!(pending.is_empty());
}

async fn who_has_added_one_finds_it_until_it_is_sent() {
    let (pending, far) = (pending(), Arc::<Far>::default());
    let adding = [0; 2].map(|_| {
        let (pending, far) = (pending.clone(), far.clone());
        caller(async move {
            for _ in 0..2 {
                let (version, since) = (version(), far.tick());
                assert!(pending.add("k", version).is_ok());
                assert!(pending.contains("k") || far.has(version, since));
            }
        })
    });
    send_all(&pending, &far).await;
    for adder in adding {
        adder.answer().await;
    }
    send_all(&pending, &far).await;
}

async fn none_is_added_while_nothing_is_pending() {
    let pending = pending();
    let adder = {
        let pending = pending.clone();
        caller(async move {
            for _ in 0..2 {
                assert!(pending.add("k", version()).is_ok());
            }
        })
    };
    for _ in 0..3 {
        if let Some(none) = pending.lock_if_empty() {
            // Each look lets others run.
            assert!(pending.is_empty());
            assert!(pending.is_empty());
            drop(none);
        }
        for (name, invalidation) in pending.all() {
            if pending.sent(&name, invalidation) == Left::Nothing {
                pause().await;
            }
        }
    }
    adder.answer().await;
}
