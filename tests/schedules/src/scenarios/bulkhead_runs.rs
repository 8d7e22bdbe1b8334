//! The bulkhead: so many loads at one time, and no place is lost.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use futures::poll;
use tokio::time::Instant;

use super::bulkhead::{Bulkhead, Bulkheads};
use crate::{
    Clock, Policy,
    observe::{EventHook, Observer},
    run::{NEVER, caller, choose, pause, scenarios, time_passes_at_any_moment},
};

scenarios![
    no_more_run_than_there_are_places,
    no_place_is_lost_with_a_caller_that_leaves,
    no_place_is_lost_at_a_deadline,
    the_queue_is_bounded,
    first_come_first_to_load,
    slow_loads_leave_their_places_and_no_more_run_than_twice_as_many,
];

const SECOND: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Running {
    now: AtomicUsize,
    most: AtomicUsize,
}

struct Load<'a>(&'a Running);

impl Running {
    async fn load(&self) {
        let now = self.now.fetch_add(1, SeqCst) + 1;
        self.most.fetch_max(now, SeqCst);
        let _load = Load(self);
        pause().await;
        pause().await;
    }
}

impl Drop for Load<'_> {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, SeqCst);
    }
}

fn bulkhead(limit: usize, queue: usize, slow_after: Duration) -> Arc<Bulkhead> {
    let policy = Policy::default().max_concurrent_loads(limit).max_queued_loads(queue);
    let gauges = Observer::new("", Clock::manual(), EventHook::default()).gauges;
    Bulkheads::new(&policy.slow_load_after(slow_after), &gauges).outermost().clone()
}

/// All places are free, and nobody has one.
fn is_idle(bulkhead: &Arc<Bulkhead>, limit: usize) {
    let places: Vec<_> = (0..limit).map(|_| bulkhead.try_enter()).collect();
    assert!(places.iter().all(Result::is_ok), "a place is lost");
    assert!(bulkhead.try_enter().is_err(), "there is a place too many");
    assert!(bulkhead.check_room().is_ok() || limit == 0, "somebody queues");
}

async fn enter(bulkhead: Arc<Bulkhead>, running: Arc<Running>, deadline: Duration) -> bool {
    match bulkhead.enter(Instant::now() + deadline).await {
        Ok(_place) => {
            running.load().await;
            true
        }
        Err(_) => false,
    }
}

async fn no_more_run_than_there_are_places() {
    let (bulkhead, running) = (bulkhead(2, 10, NEVER), Arc::<Running>::default());
    let loads = [0; 5].map(|_| caller(enter(bulkhead.clone(), running.clone(), NEVER)));
    if bulkhead.try_enter().is_ok() {
        pause().await;
    }
    for load in loads {
        assert!(load.answer().await, "there was room in the queue");
    }
    assert!(running.most.load(SeqCst) <= 2);
    is_idle(&bulkhead, 2);
}

async fn no_place_is_lost_with_a_caller_that_leaves() {
    let (bulkhead, running) = (bulkhead(1, 10, NEVER), Arc::<Running>::default());
    let [stays, goes, also_stays] =
        [0; 3].map(|_| caller(enter(bulkhead.clone(), Arc::default(), NEVER)));
    let other = caller(enter(bulkhead.clone(), running.clone(), NEVER));
    pause().await;
    goes.drop_it();
    for load in [stays, also_stays, other] {
        assert!(load.answer().await);
    }
    let _gone = goes.answer_if_there().await;
    is_idle(&bulkhead, 1);
}

async fn no_place_is_lost_at_a_deadline() {
    time_passes_at_any_moment();
    let (bulkhead, running) = (bulkhead(1, 10, NEVER), Arc::<Running>::default());
    let loads =
        [1, 2, 3, 100].map(|n| caller(enter(bulkhead.clone(), running.clone(), SECOND * n)));
    for load in loads {
        let _in_time = load.answer().await;
    }
    // Any load may have turned slow.
    assert!(running.most.load(SeqCst) <= 2);
    is_idle(&bulkhead, 1);
}

async fn the_queue_is_bounded() {
    let bulkhead = bulkhead(1, 2, NEVER);
    let busy = bulkhead.try_enter().expect("a place");
    let loads = [0; 4].map(|_| caller(enter(bulkhead.clone(), Arc::default(), NEVER)));
    // Two leave at once: the place is kept until then.
    let mut told = 0;
    while told < 2 {
        pause().await;
        told = loads.iter().filter(|load| load.is_over()).count();
    }
    assert!(bulkhead.check_room().is_err());
    drop(busy);
    let mut entered = 0;
    for load in loads {
        entered += usize::from(load.answer().await);
    }
    assert_eq!(entered, 2);
    is_idle(&bulkhead, 1);
}

async fn first_come_first_to_load() {
    let bulkhead = bulkhead(1, 10, NEVER);
    let busy = bulkhead.try_enter().expect("a place");
    let order = Arc::new(Mutex::new(vec![]));
    let mut loads = vec![];
    for n in 0..3 {
        let (bulkhead, order) = (bulkhead.clone(), order.clone());
        let mut entering = Box::pin(async move {
            let _place = bulkhead.enter(Instant::now() + NEVER).await.expect("room");
            order.lock().expect("no panic").push(n);
            pause().await;
        });
        assert!(poll!(&mut entering).is_pending(), "it queues");
        loads.push(caller(entering));
    }
    let late = caller({
        let bulkhead = bulkhead.clone();
        async move { bulkhead.try_enter().is_ok() }
    });
    drop(busy);
    for load in loads {
        load.answer().await;
    }
    let _overtook_nobody = late.answer().await;
    assert_eq!(*order.lock().expect("no panic"), [0, 1, 2]);
    is_idle(&bulkhead, 1);
}

async fn slow_loads_leave_their_places_and_no_more_run_than_twice_as_many() {
    time_passes_at_any_moment();
    let (bulkhead, running) = (bulkhead(1, 10, SECOND), Arc::<Running>::default());
    let loads = [0; 5].map(|_| {
        let (bulkhead, running) = (bulkhead.clone(), running.clone());
        caller(async move {
            let Ok(place) = bulkhead.enter(Instant::now() + NEVER).await else { return };
            if choose(2) == 0 {
                tokio::time::sleep(SECOND * 2).await;
            }
            running.load().await;
            drop(place);
        })
    });
    loads[4].drop_it();
    for load in loads {
        let _unless_dropped = load.answer_if_there().await;
    }
    assert!(running.most.load(SeqCst) <= 2);
    is_idle(&bulkhead, 1);
}
