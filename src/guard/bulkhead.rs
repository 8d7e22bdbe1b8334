//! The bulkhead: how many loads a process may have at one time, whatever keys they are for.
//!
//! - A load takes a place, of which there are `limit`. Who finds none queues: first come, first to load.
//! - A load that has had its place for `slow_after` is slow. It may be moved beside, where there is room for another
//!   `limit`, and leaves its place to the next: slow keys do not hold up the others. There are never more than twice
//!   `limit` loads.
//! - Only who finds no place moves slow loads. A load has no timer: one of the queue sleeps until the oldest is slow.

use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, Semaphore},
    time::Instant,
};

use super::limits::FOREVER;
use crate::{
    Policy,
    observe::{Gauges, Up},
    sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
};

/// A bulkhead for loads, one for the loads within those, and so on.
///
/// A loader that fetches another key of the same guard, or of one whose loaders fetch from this one, would wait for
/// a place that its own outer load has: as many such loads at once as there are places, and all of them wait until
/// the load timeout. With a level for
/// each depth, a load waits only for places of loads that stand deeper, and the deepest wait for none; a flight
/// that others have begun enters at the depth of the deepest load that waits for it. Without the levels a
/// user would have to size the bulkhead by the nesting of the loaders, and would find out under load.
pub(super) struct Bulkheads([Arc<Bulkhead>; LEVELS]);

/// Deeper loads need no place.
const LEVELS: usize = 4;

impl Bulkheads {
    pub(super) fn new(policy: &Policy, gauges: &Gauges) -> Self {
        Self(std::array::from_fn(|_| Bulkhead::new(policy, gauges.clone())))
    }

    /// For loads that are in no other.
    pub(super) fn outermost(&self) -> &Arc<Bulkhead> {
        &self.0[0]
    }

    pub(super) fn at(&self, depth: usize) -> Option<&Arc<Bulkhead>> {
        self.0.get(depth)
    }
}

pub(super) struct Bulkhead {
    /// The free places. Fair: first in the queue, first to load, whether a load ended or moved beside.
    free: Semaphore,
    running: Mutex<Running>,
    /// Held by the one of the queue that sleeps until a load is slow.
    watching: tokio::sync::Mutex<()>,
    /// There is room beside again: for the one that watches, or the next one that will.
    room_beside: Notify,
    limit: usize,
    slow_after: Duration,
    queued: AtomicUsize,
    max_queued: usize,
    /// How long a load takes, in microseconds, smoothed.
    average: AtomicU64,
    gauges: Gauges,
}

/// The loads. Under one lock, so that one that ends while another caller moves it beside gives back what it has
/// then: its place, or its room beside.
#[derive(Default)]
struct Running {
    /// The number of each that has a place, and since when: the oldest first, in the order of their numbers. A
    /// queue keeps its room, where a map would allocate for a load that is alone.
    placed: VecDeque<(u64, Instant)>,
    beside: usize,
    /// How many there have ever been.
    numbered: u64,
}

/// The right to run one load. Belongs to the task that runs it, because an aborted load may still be
/// running: the origin has it until the task is gone.
pub(crate) struct Permit {
    bulkhead: Arc<Bulkhead>,
    number: u64,
    since: Instant,
    /// `None` once it has ended.
    counted: Option<Up>,
}

/// There is no room, and none in the queue, or none came in time.
#[derive(Debug)]
pub(super) struct Full {
    /// When there may be room again.
    pub(super) retry_after: Duration,
}

impl Bulkhead {
    fn new(policy: &Policy, gauges: Gauges) -> Arc<Self> {
        let limit = policy.max_concurrent_loads.clamp(1, Semaphore::MAX_PERMITS);
        Arc::new(Self {
            free: Semaphore::new(limit),
            running: Mutex::default(),
            watching: tokio::sync::Mutex::default(),
            room_beside: Notify::new(),
            limit,
            slow_after: policy.slow_load_after.clamp(SHORTEST_TURN, FOREVER),
            queued: AtomicUsize::new(0),
            max_queued: policy.max_queued_loads,
            average: AtomicU64::new(0),
            gauges,
        })
    }

    /// Waits for room until `deadline`, if there is room in the queue.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the place in the queue. A place that it was just given goes to the next, and
    /// another one of the queue watches.
    pub(super) async fn enter(self: &Arc<Self>, deadline: Instant) -> Result<Permit, Full> {
        if let Ok(permit) = self.try_enter() {
            return Ok(permit);
        }
        let _place = QueuePlace::take(self).ok_or_else(|| self.full())?;
        let waiting = async {
            tokio::select! {
                biased;
                place = self.free.acquire() => place,
                never = self.watch() => match never {},
            }
        };
        match tokio::time::timeout_at(deadline, waiting).await {
            Ok(Ok(place)) => {
                place.forget();
                Ok(self.permit())
            }
            _ => Err(self.full()),
        }
    }

    /// Room now, or none: for loads that no caller waits for.
    pub(super) fn try_enter(self: &Arc<Self>) -> Result<Permit, Full> {
        let place = self.free.try_acquire().or_else(|_| {
            self.move_slow();
            self.free.try_acquire()
        });
        match place {
            Ok(place) => {
                place.forget();
                Ok(self.permit())
            }
            Err(_) => Err(self.full()),
        }
    }

    /// An error if neither a place nor the queue has room now.
    pub(super) fn check_room(&self) -> Result<(), Full> {
        if self.queued() < self.max_queued || self.free.available_permits() > 0 {
            return Ok(());
        }
        self.move_slow();
        if self.free.available_permits() > 0 { Ok(()) } else { Err(self.full()) }
    }

    /// For the one of the queue whose turn it is: moves loads beside as they turn slow. Nothing is missed. Loads
    /// that begin later turn slow later, one that ends leaves its place to the queue, and room beside is notified,
    /// also to the one that watches next: a notification waits for it, and it looks before it sleeps. If its caller
    /// does not poll it, the queue still gets the places of loads that end.
    async fn watch(&self) -> Infallible {
        let _turn = self.watching.lock().await;
        loop {
            let until = self.move_slow().unwrap_or_else(|| Instant::now() + FOREVER);
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(until) => {}
                () = self.room_beside.notified() => {}
            }
        }
    }

    /// Moves beside what is slow, as far as there is room. Says when the next may be; `None` if not before there is
    /// room.
    fn move_slow(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut moved = 0;
        let next = {
            let mut running = self.running.lock();
            loop {
                if running.beside == self.limit {
                    break None;
                }
                // A place that was given and is not taken yet turns slow no earlier.
                let oldest = running.placed.front().map_or(now, |(_, since)| *since);
                let slow_at = oldest + self.slow_after;
                if now < slow_at {
                    break Some(slow_at);
                }
                running.placed.pop_front();
                running.beside += 1;
                moved += 1;
            }
        };
        // Goes to who queues first, and else to who calls this.
        self.free.add_permits(moved);
        next
    }

    #[cfg(test)]
    fn running(&self) -> usize {
        let running = self.running.lock();
        running.placed.len() + running.beside
    }

    fn queued(&self) -> usize {
        self.queued.load(Relaxed)
    }

    /// For one whose place is taken from those that are free.
    fn permit(self: &Arc<Self>) -> Permit {
        let counted = Some(self.gauges.loads_in_progress.up());
        let mut running = self.running.lock();
        running.numbered += 1;
        let (number, since) = (running.numbered, Instant::now());
        running.placed.push_back((number, since));
        Permit { bulkhead: self.clone(), number, since, counted }
    }

    /// The time in which the queue and one more would be worked off.
    fn full(&self) -> Full {
        let average = Duration::from_micros(self.average.load(Relaxed)).max(SHORTEST_HINT);
        let turns = 1.0 + self.queued() as f64 / self.limit as f64;
        Full { retry_after: average.mul_f64(turns) }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let bulkhead = &self.bulkhead;
        let took = u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX / 2);
        // An eighth of each load. Two at one moment may lose one of them: it is a hint.
        let average = bulkhead.average.load(Relaxed);
        let next = if average == 0 { took } else { average - average / 8 + took / 8 };
        bulkhead.average.store(next, Relaxed);
        // Before its place is free: no more are counted than may run.
        self.counted = None;
        let had_place = {
            let mut running = bulkhead.running.lock();
            let placed = running.placed.binary_search_by_key(&self.number, |(number, _)| *number);
            match placed {
                Ok(at) => drop(running.placed.remove(at)),
                Err(_) => running.beside -= 1,
            }
            placed.is_ok()
        };
        match had_place {
            true => bulkhead.free.add_permits(1),
            false => bulkhead.room_beside.notify_one(),
        }
    }
}

struct QueuePlace<'a> {
    bulkhead: &'a Bulkhead,
    _counted: Up,
}

impl<'a> QueuePlace<'a> {
    fn take(bulkhead: &'a Bulkhead) -> Option<Self> {
        let room = |queued| (queued < bulkhead.max_queued).then_some(queued + 1);
        bulkhead.queued.fetch_update(Relaxed, Relaxed, room).ok()?;
        Some(Self { bulkhead, _counted: bulkhead.gauges.loads_queued.up() })
    }
}

impl Drop for QueuePlace<'_> {
    fn drop(&mut self) {
        self.bulkhead.queued.fetch_sub(1, Relaxed);
    }
}

const SHORTEST_HINT: Duration = Duration::from_millis(10);
/// So that the one that watches sleeps at all.
const SHORTEST_TURN: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Clock,
        observe::{EventHook, Gauges, Observer},
    };

    fn gauges() -> Gauges {
        Observer::new("test", Clock::manual(), EventHook::default()).gauges
    }

    fn bulkhead(limit: usize, max_queued: usize) -> Arc<Bulkhead> {
        let policy = Policy::default().max_concurrent_loads(limit).max_queued_loads(max_queued);
        let policy = policy.slow_load_after(NEVER);
        Bulkhead::new(&policy, gauges())
    }

    const NEVER: Duration = Duration::from_secs(3600);

    #[tokio::test(start_paused = true)]
    async fn beyond_the_limit_callers_queue_and_beyond_the_queue_they_are_told() {
        let bulkhead = bulkhead(2, 1);
        let deadline = Instant::now() + NEVER;
        let first = bulkhead.enter(deadline).await.expect("room");
        let _second = bulkhead.enter(deadline).await.expect("room");
        assert!(bulkhead.try_enter().is_err());

        let queued = tokio::spawn({
            let bulkhead = bulkhead.clone();
            async move { bulkhead.enter(deadline).await.map(drop) }
        });
        tokio::task::yield_now().await;
        assert_eq!((bulkhead.running(), bulkhead.queued()), (2, 1));
        let full = bulkhead.enter(deadline).await.err().expect("no room in the queue");
        assert!(full.retry_after >= SHORTEST_HINT);

        drop(first);
        queued.await.expect("a task").expect("its turn");
        assert_eq!((bulkhead.running(), bulkhead.queued()), (1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_is_left_at_the_deadline_and_when_dropped() {
        let bulkhead = bulkhead(1, 10);
        let _busy = bulkhead.enter(Instant::now() + NEVER).await.expect("room");
        let begun = Instant::now();
        let second = Duration::from_secs(1);
        assert!(bulkhead.enter(begun + second).await.is_err());
        assert_eq!(begun.elapsed(), second);

        let waiting = bulkhead.enter(Instant::now() + NEVER);
        assert!(tokio::time::timeout(second, waiting).await.is_err());
        assert_eq!(bulkhead.queued(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn places_of_slow_loads_go_to_the_queue_in_its_order() {
        let second = Duration::from_secs(1);
        let policy = Policy::default().max_concurrent_loads(2).slow_load_after(second);
        let bulkhead = Bulkhead::new(&policy, gauges());
        let mut held = VecDeque::from([bulkhead.try_enter().expect("room")]);
        // Each load turns slow at a moment of its own.
        tokio::time::advance(second / 2).await;
        held.push_back(bulkhead.try_enter().expect("room"));
        let (entered, mut order) = tokio::sync::mpsc::unbounded_channel();
        for n in 0..6 {
            let (bulkhead, entered) = (bulkhead.clone(), entered.clone());
            tokio::spawn(async move {
                let permit = bulkhead.enter(Instant::now() + NEVER).await.expect("room");
                let _ = entered.send((n, permit));
            });
        }
        tokio::task::yield_now().await;
        assert!(bulkhead.try_enter().is_err());
        let begun = Instant::now();
        for n in 0..6 {
            // Two find room beside. From then on one must end.
            if n >= 2 {
                assert_eq!((bulkhead.running(), bulkhead.queued()), (4, 6 - n));
                held.pop_front();
            }
            assert!(bulkhead.try_enter().is_err(), "it would overtake the queue");
            let (next, permit) = order.recv().await.expect("its turn");
            assert_eq!(next, n);
            held.push_back(permit);
        }
        // None waits longer than until the oldest turns slow.
        assert_eq!(begun.elapsed().as_millis(), 3_000);
        drop(held);
        assert_eq!((bulkhead.running(), bulkhead.free.available_permits()), (0, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn the_hint_follows_the_length_of_loads() {
        let bulkhead = bulkhead(1, 0);
        let load = Duration::from_secs(2);
        let permit = bulkhead.try_enter().expect("room");
        tokio::time::advance(load).await;
        drop(permit);
        let _busy = bulkhead.try_enter().expect("room");
        let full = bulkhead.try_enter().err().expect("no room");
        assert!(full.retry_after >= load && full.retry_after <= load * 2, "{full:?}");
    }
}
