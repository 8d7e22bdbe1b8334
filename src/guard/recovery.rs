//! While the far tier is away: who may still call it, what is kept for it, and its return.
//!
//! - The breaker opens. Callers go on with near tier, flights and bulkhead; near entries live shortly.
//! - An invalidation that did not get through is kept, and opens the breaker at once: while one is kept,
//!   this process reads nothing from the far tier that it has itself declared outdated.
//! - One task probes. When the far tier answers, the kept invalidations are sent, and only when none is
//!   left does the breaker close.

use std::{
    collections::HashMap,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt, future, stream};
use parking_lot::Mutex;

use super::{
    Core,
    breaker::{Call, Failed},
};
use crate::{
    Fault, FaultKind, Version,
    far::Token,
    observe::{Gauge, Up},
};

/// Invalidations that the far tier has not acknowledged.
pub(super) struct Unsent {
    by_name: Mutex<HashMap<Arc<str>, Kept>>,
    gauge: Gauge,
}

struct Kept {
    of_name: Invalidation,
    _counted: Up,
}

/// The invalidations of one name, put together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Invalidation {
    /// The newest of those with a version.
    version: Option<Version>,
    /// Whether there was one without.
    of_any: bool,
    /// How many there were: one that came while an equal one was under way must be sent again.
    times: u64,
}

/// There is no room: an invalidation is lost.
struct Lost;

impl Unsent {
    pub(super) fn new(gauge: Gauge) -> Self {
        Self { by_name: Mutex::default(), gauge }
    }

    fn keep(&self, name: &str, version: Option<Version>) -> Result<(), Lost> {
        let mut by_name = self.by_name.lock();
        if !by_name.contains_key(name) && by_name.len() >= CAPACITY {
            return Err(Lost);
        }
        let new = || Kept { of_name: Invalidation::default(), _counted: self.gauge.up() };
        let kept = &mut by_name.entry(name.into()).or_insert_with(new).of_name;
        kept.version = kept.version.max(version);
        kept.of_any |= version.is_none();
        kept.times += 1;
        Ok(())
    }

    fn all(&self) -> Vec<(Arc<str>, Invalidation)> {
        self.by_name.lock().iter().map(|(name, kept)| (name.clone(), kept.of_name)).collect()
    }

    /// Done with `sent`, unless there has been more meanwhile.
    fn sent(&self, name: &str, sent: Invalidation) {
        let mut by_name = self.by_name.lock();
        if by_name.get(name).is_some_and(|kept| kept.of_name == sent) {
            by_name.remove(name);
        }
    }
}

impl<V: Send + Sync + 'static> Core<V> {
    /// Calls the far tier, if the breaker lets it.
    pub(super) async fn ask<T>(
        &self,
        call: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        self.ask_with(self.breaker.call(), call).await
    }

    /// As `ask`, for an invalidation or a put.
    pub(super) async fn ask_to_write<T>(
        &self,
        call: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        self.ask_with(self.breaker.call_to_write(), call).await
    }

    async fn ask_with<T>(
        &self,
        permission: Option<Call>,
        call: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        let Some(permission) = permission else {
            self.see_to_recovery();
            return Err(Fault::saying(FaultKind::Unreachable, "the breaker is open"));
        };
        let answer = call.await;
        match &answer {
            Ok(_) => self.breaker.succeeded(),
            Err(error) => {
                self.observer.far_failed(error);
                if error.kind().is_outage() && self.breaker.failed(&permission) == Failed::Opened {
                    tracing::warn!(%error, "the far tier is away; going on without it");
                    self.go_without();
                }
            }
        }
        answer
    }

    /// Keeps an invalidation that did not get through.
    pub(super) fn keep_unsent(&self, name: &str, version: Option<Version>) {
        // Kept before the breaker is opened, and the recovery closes it only under the lock and with
        // nothing kept: in either order of the two, it ends up open.
        if let Err(Lost) = self.unsent.keep(name, version) {
            tracing::error!(
                "an invalidation is lost: {CAPACITY} others are waiting for the far tier already"
            );
        }
        if self.breaker.open() == Failed::Opened {
            self.go_without();
        } else {
            self.see_to_recovery();
        }
    }

    /// The breaker has opened.
    fn go_without(&self) {
        // Who waits for another process would hear of it only when the silence of the messages is
        // noticed, a second later.
        self.waiters.wake_all();
        self.see_to_recovery();
    }

    /// Starts the task that brings the far tier back, if there is none.
    fn see_to_recovery(&self) {
        if self.recovering.swap(true, Ordering::AcqRel) {
            return;
        }
        let duty = Duty(self.recovering.clone());
        // Weak, so that the task keeps no guard alive.
        let core = self.me.clone();
        tokio::spawn(async move {
            let mut pause = FIRST_PROBE;
            loop {
                tokio::time::sleep(pause.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
                let Some(core) = core.upgrade() else { return };
                // Closed already: somebody was denied just before, and has come late to say so.
                if core.breaker.is_closed() || core.recover().await {
                    drop(duty);
                    // An invalidation may have opened it again while this task was still on duty.
                    if !core.breaker.is_closed() {
                        core.see_to_recovery();
                    }
                    return;
                }
                pause = (pause * 2).min(LONGEST_PROBE);
            }
        });
    }

    /// One attempt to get back to normal.
    async fn recover(&self) -> bool {
        self.breaker.half_open();
        let recovered = self.probe().await && self.send_kept().await;
        if !recovered {
            self.breaker.reopen();
        }
        recovered
    }

    /// Whether the far tier can grant a lease: one that can be read only would fail the next miss.
    async fn probe(&self) -> bool {
        let token = Token::random();
        let attempt =
            self.far.look_up_or_lease(PROBE, token, self.policy.lease_ttl, Duration::ZERO).await;
        let there = |error: &Fault| {
            self.observer.far_failed(error);
            !error.kind().is_outage()
        };
        match attempt {
            Ok(_) => self.far.release(PROBE, token).await.as_ref().err().is_none_or(there),
            Err(error) => there(&error),
        }
    }

    /// Sends what is kept, and closes the breaker when nothing is left.
    async fn send_kept(&self) -> bool {
        loop {
            let kept = self.unsent.all();
            if kept.is_empty() {
                // Closed under the lock: see `keep_unsent`.
                let by_name = self.unsent.by_name.lock();
                if !by_name.is_empty() {
                    continue;
                }
                self.breaker.close();
                drop(by_name);
                tracing::info!("the far tier is back");
                return true;
            }
            let sending = stream::iter(kept).map(|(name, kept)| async move {
                let sent = self.send(&name, kept).await;
                if sent {
                    self.unsent.sent(&name, kept);
                }
                sent
            });
            let all_sent = sending.buffer_unordered(AT_ONCE).all(future::ready).await;
            if !all_sent {
                return false;
            }
            self.breaker.let_writes();
        }
    }

    async fn send(&self, name: &str, kept: Invalidation) -> bool {
        let retention = self.policy.retention(self.policy.ttl, self.policy.last_resort());
        let of_any = kept.of_any.then_some(None);
        let of_version = kept.version.map(Some);
        for version in of_any.into_iter().chain(of_version) {
            let Err(error) = self.far.invalidate(name, version, retention).await else { continue };
            self.observer.far_failed(&error);
            if error.kind().is_outage() {
                return false;
            }
            tracing::error!(%error, "an invalidation is lost");
        }
        true
    }
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
const FIRST_PROBE: Duration = Duration::from_millis(20);
const LONGEST_PROBE: Duration = Duration::from_millis(250);

/// How many invalidations are kept at most. One is its name and some 50 bytes.
const CAPACITY: usize = 10_000;
const AT_ONCE: usize = 64;
