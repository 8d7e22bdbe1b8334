//! The return of the far tier, while the breaker is open or invalidations are pending.
//!
//! One task, with growing pauses. While the breaker is open it probes. When the far tier answers, the pending
//! invalidations are sent, and only when none is left does the breaker close.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, TryStreamExt, future, stream};

use super::{
    core::Core,
    pending::{Left, PendingInvalidation},
    tags::is_epoch,
};
use crate::{
    Fault, FaultKind,
    backoff::Backoff,
    far::Token,
    sync::atomic::{AtomicBool, Ordering},
};

impl<V: Send + Sync + 'static> Core<V> {
    /// Starts the task that brings the far tier back, if there is none.
    pub(super) fn start_recovery(&self) {
        if self.recovering.swap(true, Ordering::AcqRel) {
            return;
        }
        let duty = Duty(self.recovering.clone());
        // Weak, so that the task keeps no guard alive.
        let core = self.me.clone();
        tokio::spawn(async move {
            let mut backoff = PROBES;
            loop {
                tokio::time::sleep(backoff.next()).await;
                let Some(core) = core.upgrade() else { return };
                if core.recover().await {
                    return core.end_recovery(duty);
                }
            }
        });
    }

    fn end_recovery(&self, duty: Duty) {
        drop(duty);
        // An invalidation may have come while the task was still on duty.
        if !self.breaker.is_closed() || !self.pending.is_empty() {
            self.start_recovery();
        }
    }

    /// One attempt to get back to normal.
    async fn recover(&self) -> bool {
        if self.breaker.is_closed() {
            return self.send_pending(|| ()).await;
        }
        self.breaker.half_open();
        let close = || {
            self.breaker.close();
            tracing::info!(guard = self.observer.guard(), "the far tier is back");
        };
        let recovered = self.probe().await && self.send_pending(close).await;
        match recovered {
            // Not in `close`, which runs under a lock.
            true => self.observer.far_back(),
            false => self.breaker.reopen(),
        }
        recovered
    }

    /// Whether the far tier can grant a lease: one that can be read only would fail the next miss.
    async fn probe(&self) -> bool {
        let token = Token::random();
        let ttl = self.policy.lease_ttl;
        let answers = |fault: &Fault| {
            self.observer.far_failed(fault);
            !fault.kind().is_outage()
        };
        match self.far.look_up_or_lease(PROBE, token, ttl, Duration::ZERO).await {
            Ok(_) => self.far.release(PROBE, token).await.as_ref().err().is_none_or(answers),
            Err(fault) => answers(&fault),
        }
    }

    /// Sends what is pending. Runs `then` when nothing is left, under the lock: see `keep_pending`.
    async fn send_pending(&self, then: impl Fn()) -> bool {
        loop {
            if let Some(none_pending) = self.pending.lock_if_empty() {
                then();
                drop(none_pending);
                return true;
            }
            if !self.send_all(self.pending.all()).await {
                return false;
            }
            self.breaker.let_writes();
        }
    }

    /// Whether all went through. One name that is refused does not hold up the others; an outage does.
    async fn send_all(&self, all: Vec<(Arc<str>, PendingInvalidation)>) -> bool {
        let sending = stream::iter(all).map(|(name, pending)| async move {
            let lost = self.send(&name, pending).await?;
            if self.pending.sent(&name, pending) == Left::Nothing {
                match lost {
                    Some(why) => self.observer.invalidation_lost(&name, why),
                    None => self.observer.invalidation_sent(&name),
                }
            }
            Ok(())
        });
        let sent_so_far = |all_sent, sent| {
            future::ready(match sent {
                Ok(()) => Ok(all_sent),
                Err(NotSent::Refused) => Ok(false),
                Err(NotSent::Outage) => Err(()),
            })
        };
        let sending = sending.buffer_unordered(AT_ONCE).map(Ok);
        sending.try_fold(true, sent_so_far).await.unwrap_or(false)
    }

    /// How it was refused for good, if it was.
    async fn send(
        &self,
        name: &str,
        pending: PendingInvalidation,
    ) -> Result<Option<FaultKind>, NotSent> {
        let mut lost = None;
        let retention = self.freshness.tombstone_retention();
        for version in pending.versions() {
            let sent = match is_epoch(name) {
                true => self.purge_in_far(name).await.map(drop),
                // Its caller has its answer already.
                false => self.far.invalidate_unconfirmed(name, version, retention).await,
            };
            let Err(fault) = sent else { continue };
            self.observer.far_failed(&fault);
            match fault.kind() {
                kind if kind.is_outage() => return Err(NotSent::Outage),
                kind if kind.may_pass() => return Err(NotSent::Refused),
                kind => {
                    lost = Some(kind);
                    let guard = self.observer.guard();
                    tracing::error!(guard, %fault, "an invalidation is lost");
                }
            }
        }
        Ok(lost)
    }
}

/// Why an invalidation stays pending.
enum NotSent {
    /// For now.
    Refused,
    Outage,
}

/// The duty to bring the far tier back. Free for another task also when this one is dropped with its
/// runtime.
struct Duty(Arc<AtomicBool>);

impl Drop for Duty {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

const PROBE: &str = "cattleguard:probe";
const PROBES: Backoff =
    Backoff::new(Duration::from_millis(20), Duration::from_millis(250)).spread(0.75..1.25);
const AT_ONCE: usize = 64;
