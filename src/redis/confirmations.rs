//! Confirmations of invalidations: those that this process waits for, and those that it owes to others.
//!
//! Each process confirms each invalidation after its near tier has dropped the entry: no later caller there gets the
//! older one. `P` processes would cost Redis `P` messages for each invalidation. So they travel together: a process sends one
//! message to each writer for all that it has dropped since the last, and pauses between two for as long as the
//! fleet needs to take no more than [`SHARE`] of Redis' time. A fleet of up to 25 does not pause.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ::redis::Cmd;
use futures::future::join_all;
use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use super::{
    channel::{ProcessId, Scope},
    message::{DirectMessage, ReplyTo},
    route::Route,
};
use crate::FaultKind;

/// What a confirmation costs Redis, about.
const COST: Duration = Duration::from_micros(10);

/// One in so many of Redis' time is for confirmations, at most.
const SHARE: u32 = 4;

/// The longest pause: beyond a fleet of 2,500, or some hundred writers at once, confirmations cost more than their share.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// Longer than any wait for confirmations, and short enough to add to an `Instant`.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);

/// How long a process waits for Redis to take a confirmation.
const SEND_TIMEOUT: Duration = Duration::from_millis(500);

/// How long a process does not confirm again to writers whose fleets are this large together.
fn pause(fleet: usize) -> Duration {
    let fleet = u32::try_from(fleet).unwrap_or(u32::MAX);
    let pause = COST.saturating_mul(SHARE).saturating_mul(fleet).min(LONGEST_PAUSE);
    // No timer is finer.
    if pause > Duration::from_millis(1) { pause } else { Duration::ZERO }
}

/// The invalidations of this process that others are to confirm.
#[derive(Default)]
pub(super) struct Counts {
    by_number: Mutex<HashMap<u64, Count>>,
    next_number: AtomicU64,
    /// As many as were to confirm the last one.
    fleet: AtomicU64,
}

#[derive(Default)]
struct Count {
    /// Each once: a confirmation whose answer was lost is sent again.
    confirmed_by: HashSet<ProcessId>,
    notify: Arc<Notify>,
}

/// An invalidation whose confirmations are counted until it is dropped.
pub(super) struct Confirming<'a> {
    counts: &'a Counts,
    reply_to: ReplyTo,
    notify: Arc<Notify>,
}

impl Counts {
    pub(super) fn begin(&self, process: ProcessId) -> Confirming<'_> {
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        let fleet = u32::try_from(self.fleet.load(Ordering::Relaxed)).unwrap_or(u32::MAX);
        let count = Count::default();
        let notify = count.notify.clone();
        self.by_number.lock().insert(number, count);
        Confirming { counts: self, reply_to: ReplyTo { process, number, fleet }, notify }
    }

    pub(super) fn confirmed(&self, number: u64, by: ProcessId) {
        if let Some(count) = self.by_number.lock().get_mut(&number) {
            count.confirmed_by.insert(by);
            count.notify.notify_waiters();
        }
    }
}

impl Confirming<'_> {
    pub(super) fn reply_to(&self) -> ReplyTo {
        self.reply_to
    }

    /// Whether `receivers` processes confirm within the far timeout, or 200 ms if there are more than 25 and that is
    /// longer. `may_wait` says whether confirmations still arrive.
    pub(super) async fn by(
        &self,
        receivers: usize,
        timeout: Duration,
        may_wait: impl Fn() -> bool,
    ) -> bool {
        self.counts.fleet.store(receivers as u64, Ordering::Relaxed);
        // In a fleet that pauses the others may have other writers to confirm to.
        let paused = if pause(receivers).is_zero() { Duration::ZERO } else { 2 * LONGEST_PAUSE };
        let deadline = Instant::now() + timeout.max(paused).min(LONGEST_WAIT);
        loop {
            let mut notified = std::pin::pin!(self.notify.notified());
            notified.as_mut().enable();
            if !may_wait() {
                return false;
            }
            if self.is_confirmed_by(receivers) {
                return true;
            }
            if tokio::time::timeout_at(deadline, notified).await.is_err() {
                return self.is_confirmed_by(receivers);
            }
        }
    }

    /// By this process, too: one that does not hear itself was not counted where the others were.
    fn is_confirmed_by(&self, receivers: usize) -> bool {
        let by_number = self.counts.by_number.lock();
        by_number.get(&self.reply_to.number).is_some_and(|Count { confirmed_by, .. }| {
            confirmed_by.len() >= receivers && confirmed_by.contains(&self.reply_to.process)
        })
    }
}

impl Drop for Confirming<'_> {
    fn drop(&mut self) {
        self.counts.by_number.lock().remove(&self.reply_to.number);
    }
}

/// What this process has dropped, and not confirmed yet. Clones share it.
#[derive(Clone)]
pub(super) struct Outbox {
    route: Route,
    process: ProcessId,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    to: HashMap<ProcessId, Batch>,
    is_sending: bool,
    not_before: Option<Instant>,
}

struct Batch {
    numbers: Vec<u64>,
    fleet: usize,
    scope: Scope,
}

impl Outbox {
    pub(super) fn new(route: Route, process: ProcessId) -> Self {
        Self { route, process, state: Arc::default() }
    }

    /// Confirms soon what came in this scope.
    pub(super) fn add(&self, reply_to: ReplyTo, scope: Scope) {
        let mut state = self.state.lock();
        let new = || Batch { numbers: Vec::new(), fleet: 0, scope };
        let batch = state.to.entry(reply_to.process).or_insert_with(new);
        batch.numbers.push(reply_to.number);
        batch.fleet = batch.fleet.max(reply_to.fleet as usize);
        let is_sending = std::mem::replace(&mut state.is_sending, true);
        // A runtime that shuts down drops a task at once, which takes the lock.
        drop(state);
        if !is_sending {
            // On a task of its own: the next message must not wait for a round trip.
            let sending = Sending { outbox: self.clone(), has_ended: false };
            tokio::spawn(sending.run());
        }
    }

    /// One message to each writer. While they are on their way, the next gather.
    async fn send(&self, batches: HashMap<ProcessId, Batch>) {
        let sent = batches.into_iter().map(|(process, batch)| async move {
            let mut publish = Cmd::new();
            publish.arg(batch.scope.command()).arg(batch.scope.process(process));
            publish.arg(DirectMessage::confirmations(self.process, &batch.numbers));
            let mut sent = self.route.send::<()>(&publish, SEND_TIMEOUT).await;
            // The first command after an outage finds that the connection has ended.
            if sent.as_ref().is_err_and(|fault| fault.kind() == FaultKind::Unreachable) {
                sent = self.route.send::<()>(&publish, SEND_TIMEOUT).await;
            }
            if let Err(fault) = sent {
                tracing::debug!(%fault, "confirmation not sent");
            }
        });
        join_all(sent).await;
    }
}

/// The task that sends. If it is dropped with its runtime, another may begin.
struct Sending {
    outbox: Outbox,
    has_ended: bool,
}

impl Sending {
    async fn run(mut self) {
        let outbox = self.outbox.clone();
        loop {
            let not_before = outbox.state.lock().not_before;
            if let Some(not_before) = not_before {
                tokio::time::sleep_until(not_before).await;
            }
            let batches = {
                let mut state = outbox.state.lock();
                let batches = std::mem::take(&mut state.to);
                if batches.is_empty() {
                    // Under the lock: what is added after this begins another task.
                    state.is_sending = false;
                    self.has_ended = true;
                    return;
                }
                let pause = pause(batches.values().map(|batch| batch.fleet).sum());
                state.not_before = (!pause.is_zero()).then(|| Instant::now() + pause);
                batches
            };
            outbox.send(batches).await;
        }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        if !self.has_ended {
            self.outbox.state.lock().is_sending = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confirmations_take_a_quarter_of_redis_at_most_and_a_small_fleet_does_not_pause() {
        assert_eq!(pause(25), Duration::ZERO);
        assert_eq!(pause(200), Duration::from_millis(8));
        assert_eq!(pause(1_000), Duration::from_millis(40));
        assert_eq!(pause(usize::MAX), LONGEST_PAUSE);
    }

    #[test]
    fn who_confirms_twice_counts_once() {
        let counts = Counts::default();
        let confirming = counts.begin([0; 16]);
        let number = confirming.reply_to().number;
        for by in [[0; 16], [1; 16], [1; 16]] {
            counts.confirmed(number, by);
        }
        assert!(confirming.is_confirmed_by(2) && !confirming.is_confirmed_by(3));
        drop(confirming);
        assert!(counts.by_number.lock().is_empty());
    }
}
