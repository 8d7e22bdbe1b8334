//! The bulkhead: how many loads a process may have at one time, whatever keys they are for.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use crate::observe::{Gauges, Up};

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
    pub(super) fn new(limit: usize, max_queued: usize, gauges: &Gauges) -> Self {
        Self(std::array::from_fn(|_| Bulkhead::new(limit, max_queued, gauges.clone())))
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
    /// Fair: first in the queue, first to load.
    permits: Arc<Semaphore>,
    limit: usize,
    queued: AtomicUsize,
    max_queued: usize,
    /// How long a load holds its permit, in microseconds, smoothed.
    average: AtomicU64,
    gauges: Gauges,
}

/// The right to run one load. Belongs to the task that runs it, because an aborted load may still be
/// running: the origin has it until the task is gone.
pub(crate) struct Permit {
    bulkhead: Arc<Bulkhead>,
    since: Instant,
    // Before the permit: no more are counted than there are permits.
    _counted: Up,
    _permit: OwnedSemaphorePermit,
}

/// There is no room, and none in the queue, or none came in time.
#[derive(Debug)]
pub(super) struct Full {
    /// When there may be room again.
    pub(super) retry_after: Duration,
}

impl Bulkhead {
    fn new(limit: usize, max_queued: usize, gauges: Gauges) -> Arc<Self> {
        let limit = limit.clamp(1, Semaphore::MAX_PERMITS);
        Arc::new(Self {
            permits: Arc::new(Semaphore::new(limit)),
            limit,
            queued: AtomicUsize::new(0),
            max_queued,
            average: AtomicU64::new(0),
            gauges,
        })
    }

    /// Waits for room until `deadline`, if there is room in the queue.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the place in the queue.
    pub(super) async fn enter(self: &Arc<Self>, deadline: Instant) -> Result<Permit, Full> {
        if let Ok(permit) = self.try_enter() {
            return Ok(permit);
        }
        let _place = QueuePlace::take(self).ok_or_else(|| self.full())?;
        match tokio::time::timeout_at(deadline, self.permits.clone().acquire_owned()).await {
            Ok(Ok(permit)) => Ok(self.permit(permit)),
            _ => Err(self.full()),
        }
    }

    /// Room now, or none: for loads that no caller waits for.
    pub(super) fn try_enter(self: &Arc<Self>) -> Result<Permit, Full> {
        match self.permits.clone().try_acquire_owned() {
            Ok(permit) => Ok(self.permit(permit)),
            Err(_) => Err(self.full()),
        }
    }

    /// An error if neither a place nor the queue has room now.
    pub(super) fn check_room(&self) -> Result<(), Full> {
        let has_room = self.permits.available_permits() > 0 || self.queued() < self.max_queued;
        if has_room { Ok(()) } else { Err(self.full()) }
    }

    #[cfg(test)]
    fn running(&self) -> usize {
        self.limit - self.permits.available_permits()
    }

    fn queued(&self) -> usize {
        self.queued.load(Relaxed)
    }

    fn permit(self: &Arc<Self>, permit: OwnedSemaphorePermit) -> Permit {
        let counted = self.gauges.loads_in_progress.up();
        Permit { bulkhead: self.clone(), since: Instant::now(), _counted: counted, _permit: permit }
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
        let took = u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX / 2);
        // An eighth of each load. Two at one moment may lose one of them: it is a hint.
        let average = self.bulkhead.average.load(Relaxed);
        let next = if average == 0 { took } else { average - average / 8 + took / 8 };
        self.bulkhead.average.store(next, Relaxed);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::Observer;

    fn bulkhead(limit: usize, max_queued: usize) -> Arc<Bulkhead> {
        Bulkhead::new(limit, max_queued, Observer::new("test").gauges)
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
