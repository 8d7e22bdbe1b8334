//! Wake-ups: who registers before it looks misses no message.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
};

use super::wakeups::Wakeups;
use crate::run::{caller, choose, pause, scenarios};

scenarios![
    no_message_after_a_registration_is_missed,
    a_flight_that_leaves_takes_no_message_from_others,
    news_between_two_looks_are_not_missed,
];

/// Waits until the lease is free, as a flight does that finds it held.
async fn wait(wakeups: Arc<Wakeups>, name: Arc<str>, is_held: Arc<AtomicBool>) {
    let wakeup = wakeups.register(&name);
    loop {
        let message = wakeup.next();
        pause().await;
        if !is_held.load(SeqCst) {
            return;
        }
        pause().await;
        message.await;
    }
}

fn release(wakeups: &Wakeups, is_held: &AtomicBool) {
    is_held.store(false, SeqCst);
    match choose(3) {
        0 => wakeups.notify("k"),
        1 => wakeups.notify_all(),
        _ => drop(wakeups.notify_on_drop("k")),
    }
}

async fn no_message_after_a_registration_is_missed() {
    let (wakeups, is_held) = (Arc::<Wakeups>::default(), Arc::new(AtomicBool::new(true)));
    let wait = |_| caller(wait(wakeups.clone(), "k".into(), is_held.clone()));
    let waiting = [0; 3].map(wait);
    let holder = caller({
        let (wakeups, is_held) = (wakeups.clone(), is_held.clone());
        async move {
            // Of another name.
            wakeups.notify("l");
            release(&wakeups, &is_held);
        }
    });
    for flight in waiting {
        flight.answer().await;
    }
    holder.answer().await;
}

async fn a_flight_that_leaves_takes_no_message_from_others() {
    let (wakeups, is_held) = (Arc::<Wakeups>::default(), Arc::new(AtomicBool::new(true)));
    let wait = |_| caller(wait(wakeups.clone(), "k".into(), is_held.clone()));
    let [one, other, stays] = [0; 3].map(wait);
    one.drop_it();
    let holder = caller({
        let (wakeups, is_held) = (wakeups.clone(), is_held.clone());
        async move {
            pause().await;
            release(&wakeups, &is_held);
        }
    });
    other.drop_it();
    stays.answer().await;
    holder.answer().await;
}

async fn news_between_two_looks_are_not_missed() {
    let (wakeups, told) = (Arc::<Wakeups>::default(), Arc::new(AtomicU32::new(0)));
    let teller = caller({
        let (wakeups, told) = (wakeups.clone(), told.clone());
        async move {
            for _ in 0..3 {
                told.fetch_add(1, SeqCst);
                wakeups.notify("k");
            }
        }
    });
    let wakeup = wakeups.register(&"k".into());
    loop {
        let message = wakeup.next();
        if told.load(SeqCst) == 3 {
            break;
        }
        message.await;
    }
    teller.answer().await;
}
