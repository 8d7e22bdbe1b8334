//! Epochs of tags: what was read before a purge is not learned after it.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::SeqCst},
};

use super::epochs::Epochs;
use crate::{
    Clock, Moment, Version,
    run::{caller, choose, pause, scenarios},
};

scenarios![what_was_read_before_a_purge_is_not_learned_after_it, the_largest_of_those_heard_stays];

fn times() -> (Moment, Moment) {
    (Clock::manual().now(), Moment::FAR_FUTURE)
}

fn known(epochs: &Epochs) -> Option<Version> {
    epochs.get("t", times().0)
}

async fn what_was_read_before_a_purge_is_not_learned_after_it() {
    let (epochs, far) = (Arc::<Epochs>::default(), Arc::new(AtomicU64::new(1)));
    let readers = [0; 2].map(|_| {
        let (epochs, far) = (epochs.clone(), far.clone());
        caller(async move {
            let forgotten = epochs.forgotten();
            pause().await;
            let epoch = Version::new(far.load(SeqCst));
            pause().await;
            epochs.read("t", epoch, times(), forgotten);
        })
    });
    for n in 2..4 {
        let purges = epochs.purges();
        far.store(n, SeqCst);
        pause().await;
        epochs.forget([Some("t"), None][choose(2) as usize]);
        assert!(known(&epochs).is_none_or(|epoch| epoch >= Version::new(n)));
        assert_eq!(epochs.purges(), purges + 1);
    }
    for reader in readers {
        reader.answer().await;
    }
    assert!(known(&epochs).is_none_or(|epoch| epoch == Version::new(3)));
}

async fn the_largest_of_those_heard_stays() {
    let epochs = Arc::<Epochs>::default();
    let hearing = [2, 4, 3].map(|n| {
        let epochs = epochs.clone();
        caller(async move {
            pause().await;
            epochs.heard("t", Version::new(n), times());
        })
    });
    for one in hearing {
        one.answer().await;
    }
    assert_eq!(known(&epochs), Some(Version::new(4)));
}
