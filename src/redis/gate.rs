//! The gate before a connection: how many commands may be under way, and what a missing answer means.
//!
//! - A burst waits here, in a fair queue, and not in the client: the far timeout counts from admission.
//! - Reads wait for reads only. A load holds a place in the bulkhead while it asks for its lease, and a lease until
//!   its commit: behind thousands of reads few loads would end, and what is not loaded is read again and again.
//! - While the server answers others, a command waits on, up to ten far timeouts: its answer is behind theirs.
//! - A command without an answer in time is [`Timeout`](FaultKind::Timeout) if nobody had one since it was sent:
//!   the server is silent. If others had one, the server is there, and the command is
//!   [`Busy`](FaultKind::Busy).
//! - When the server is silent, the queue hears it: nobody waits there for a server that is gone.

use std::{
    pin::pin,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use ::redis::{RedisError, RedisResult};
use tokio::{
    sync::{Notify, Semaphore, SemaphorePermit},
    time::Instant,
};

use super::fault::is_answer;
use crate::{Fault, FaultKind};

/// How many reads, and how many other commands, may wait for an answer over one connection. Redis answers them one after the other, so more
/// of them do not make it faster, but each wait longer.
const ROOM: usize = 256;

/// How long a command waits for room, before it is given up as [`FaultKind::Busy`]. The caller's own deadline is
/// usually shorter.
const LONGEST_QUEUE: Duration = Duration::from_secs(10);

/// A timeout is counted in so many parts. Those count in which the server could be heard, and was silent: not one in
/// which others had answers, as ours is behind theirs, and hardly one that ended late, as then this process did not
/// run, and may not have read the answer.
const PARTS: u32 = 4;

/// So many parts that ended late count as one that did not.
const LATE_PARTS: u32 = 4;

/// The longest wait for an answer, in timeouts of a process that runs, whatever counts.
const LONGEST_WAIT: u32 = 10;

/// What a command waits for room with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Lane {
    Reads,
    Writes,
}

/// A timer may ring so much late.
const TIMER_STEP: Duration = Duration::from_millis(1);

pub(super) struct Gate {
    reads: Semaphore,
    writes: Semaphore,
    answers: AtomicU64,
    silent: Notify,
}

impl Default for Gate {
    fn default() -> Self {
        Self::new(ROOM)
    }
}

impl Gate {
    pub(super) fn new(room: usize) -> Self {
        let lane = || Semaphore::new(room.min(ROOM));
        Self { reads: lane(), writes: lane(), answers: AtomicU64::new(0), silent: Notify::new() }
    }

    /// Sends a command once there is room for it, and waits for its answer for as long as `timeout`.
    ///
    /// # Cancel safety
    ///
    /// A dropped call leaves the queue. What it has sent may be carried out.
    pub(super) async fn pass<T>(
        &self,
        lane: Lane,
        timeout: Duration,
        sending: impl Future<Output = RedisResult<T>>,
    ) -> Result<Result<T, RedisError>, Fault> {
        let _admitted = self.admit(lane, timeout).await?;
        let before = self.answers.load(Ordering::Relaxed);
        let answer = self.heard(timeout, sending).await;
        match answer {
            Some(answer) => {
                if answer.as_ref().err().is_none_or(is_answer) {
                    self.answers.fetch_add(1, Ordering::Relaxed);
                }
                Ok(answer)
            }
            None if self.answers.load(Ordering::Relaxed) != before => Err(FaultKind::Busy.into()),
            None => {
                self.silent.notify_waiters();
                Err(FaultKind::Timeout.into())
            }
        }
    }

    /// `None` once the server was silent for as long as `timeout`.
    async fn heard<T>(&self, timeout: Duration, work: impl Future<Output = T>) -> Option<T> {
        let (mut work, part) = (pin!(work), timeout / PARTS);
        let mut left = PARTS * LATE_PARTS;
        // Counted in parts, not in time: a process that stood still for a while has not waited.
        for _ in 0..PARTS * LONGEST_WAIT {
            let (before, begin) = (self.answers.load(Ordering::Relaxed), Instant::now());
            if let Ok(done) = tokio::time::timeout(part, &mut work).await {
                return Some(done);
            }
            let progress = self.answers.load(Ordering::Relaxed) != before;
            let late = begin.elapsed() > part * 2 + TIMER_STEP * 2;
            let counts = match (progress, late) {
                (true, _) => 0,
                (false, true) => 1,
                (false, false) => LATE_PARTS,
            };
            left = left.saturating_sub(counts);
            if left == 0 {
                break;
            }
        }
        None
    }

    async fn admit(&self, lane: Lane, timeout: Duration) -> Result<SemaphorePermit<'_>, Fault> {
        let room = match lane {
            Lane::Reads => &self.reads,
            Lane::Writes => &self.writes,
        };
        match room.try_acquire() {
            Ok(admitted) => Ok(admitted),
            // Boxed, so that the future of a command that finds room stays small.
            Err(_) => Box::pin(self.queue(room, timeout)).await,
        }
    }

    /// Ends early when a command that was sent after the first silence has no answer either: a moment's silence
    /// costs those that were under way, and nobody here.
    async fn queue<'a>(
        &self,
        room: &'a Semaphore,
        timeout: Duration,
    ) -> Result<SemaphorePermit<'a>, Fault> {
        let waiting = async {
            let mut room = pin!(room.acquire());
            let mut silence = None;
            loop {
                let silent = self.silent.notified();
                tokio::select! {
                    biased;
                    () = silent => {}
                    admitted = &mut room => return admitted.map_err(|_| FaultKind::Busy),
                }
                let now = self.answers.load(Ordering::Relaxed);
                match silence {
                    Some((before, since)) if before == now => {
                        if Instant::elapsed(&since) >= timeout {
                            return Err(FaultKind::Timeout);
                        }
                    }
                    _ => silence = Some((now, Instant::now())),
                }
            }
        };
        let admitted = tokio::time::timeout(LONGEST_QUEUE, waiting).await;
        admitted.unwrap_or(Err(FaultKind::Busy)).map_err(Fault::from)
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, sync::Arc};

    use futures::future::join_all;

    use super::*;

    const TIMEOUT: Duration = Duration::from_millis(40);

    async fn kind<T>(gate: &Gate, sending: impl Future<Output = RedisResult<T>>) -> FaultKind {
        gate.pass(Lane::Reads, TIMEOUT, sending).await.err().expect("a fault").kind()
    }

    #[tokio::test(start_paused = true)]
    async fn a_command_that_had_no_answer_while_others_had_theirs_is_busy() {
        let gate = Gate::new(2);
        let (silent, ()) = tokio::join!(kind(&gate, pending::<RedisResult<()>>()), async {
            let answered = gate.pass(Lane::Reads, TIMEOUT, async { Ok(()) }).await;
            assert!(matches!(answered, Ok(Ok(()))));
        });
        assert_eq!(silent, FaultKind::Busy);
        assert_eq!(kind(&gate, pending::<RedisResult<()>>()).await, FaultKind::Timeout);
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_waits_for_room_for_longer_than_the_timeout() {
        let gate = Gate::new(2);
        let work = || async {
            tokio::time::sleep(TIMEOUT / 2).await;
            Ok(())
        };
        let all = join_all((0..100).map(|_| gate.pass(Lane::Reads, TIMEOUT, work()))).await;
        assert!(all.iter().all(Result::is_ok));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_queues_for_a_silent_server() {
        let gate = Gate::new(2);
        let begin = tokio::time::Instant::now();
        let all = join_all((0..100).map(|_| kind(&gate, pending::<RedisResult<()>>()))).await;
        assert!(all.iter().all(|kind| *kind == FaultKind::Timeout));
        assert!(begin.elapsed() < TIMEOUT * 3, "{:?}", begin.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_moments_silence_costs_nobody_who_queues() {
        let gate = Gate::new(2);
        // The second ends a little later: its silence is the first one's.
        let unheard = async |step: u32| {
            tokio::time::sleep(TIMER_STEP * step).await;
            kind(&gate, pending::<RedisResult<()>>()).await
        };
        let queued = async {
            tokio::time::sleep(TIMER_STEP * 2).await;
            let heard = || async {
                tokio::time::sleep(TIMER_STEP * 2).await;
                Ok(())
            };
            join_all((0..10).map(|_| gate.pass(Lane::Reads, TIMEOUT, heard()))).await
        };
        let (.., queued) = tokio::join!(unheard(0), unheard(1), queued);
        assert!(queued.iter().all(Result::is_ok));
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_call_leaves_the_queue() {
        let gate = Arc::new(Gate::new(1));
        let holder = tokio::spawn({
            let gate = gate.clone();
            async move {
                gate.pass(Lane::Reads, Duration::from_secs(60), pending::<RedisResult<()>>()).await
            }
        });
        tokio::task::yield_now().await;
        let queued = gate.pass(Lane::Reads, TIMEOUT, async { Ok(()) });
        assert!(tokio::time::timeout(TIMEOUT, queued).await.is_err());
        holder.abort();
        assert!(matches!(gate.pass(Lane::Reads, TIMEOUT, async { Ok(()) }).await, Ok(Ok(()))));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_queues_for_ever() {
        let gate = Gate::new(1);
        let long = LONGEST_QUEUE * 4;
        let (_, queued) = tokio::join!(
            gate.pass(Lane::Reads, long, pending::<RedisResult<()>>()),
            kind(&gate, pending::<RedisResult<()>>())
        );
        assert_eq!(queued, FaultKind::Busy);
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_load_asks_does_not_wait_behind_reads() {
        let gate = Gate::new(1);
        let slow = async {
            tokio::time::sleep(TIMEOUT / 2).await;
            Ok(())
        };
        let begin = Instant::now();
        let commit = async {
            let done = gate.pass(Lane::Writes, TIMEOUT, async { Ok(()) }).await;
            (done, begin.elapsed())
        };
        let (_, (done, took)) = tokio::join!(gate.pass(Lane::Reads, TIMEOUT, slow), commit);
        assert!(matches!(done, Ok(Ok(()))));
        assert_eq!(took, Duration::ZERO);
    }
}
