//! Who may call the far tier, and what a fault means.
//!
//! - Every call of a caller goes through the breaker. While it is open the call fails at once, and the recovery
//!   is under way.
//! - A fault that says that the far tier is away counts for the breaker; one that says that it refuses does not.
//! - An invalidation that did not get through is kept pending. While it is, this process asks the far tier
//!   nothing about its name: it reads nothing there that it has itself declared outdated. If the far tier is
//!   away, it also opens the breaker at once.

use std::{future::Future, sync::Arc, time::Duration};

use super::{
    breaker::{Call, Failed},
    core::Core,
    limits::FOREVER,
    pending::{Added, Full, PendingInvalidations},
};
use crate::{
    Entry, Fault, FaultKind, Version,
    far::{Attempt, Token},
};

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
            self.start_recovery();
            return Err(Fault::saying(FaultKind::Unreachable, "the breaker is open"));
        };
        let answer = call.await;
        match &answer {
            Ok(_) => self.breaker.succeeded(),
            Err(fault) => {
                self.observer.far_failed(fault);
                if fault.kind().is_outage() && self.breaker.failed(&permission) == Failed::Opened {
                    self.go_without(fault);
                }
            }
        }
        answer
    }

    /// As `ask`, for what this process would then serve under this name.
    pub(super) async fn ask_about<T>(
        &self,
        name: &str,
        call: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        self.may_ask_about(name)?;
        self.ask(call).await
    }

    pub(super) fn may_ask_about(&self, name: &str) -> Result<(), Fault> {
        if !self.pending.contains(name) {
            return Ok(());
        }
        // The task may have ended with its runtime.
        self.start_recovery();
        Err(Fault::saying(FaultKind::Busy, "an invalidation of this name is pending"))
    }

    /// What the far tier has, and was not purged.
    pub(super) async fn read_far(&self, name: &str) -> Result<Option<Arc<Entry<V>>>, Fault> {
        self.if_current(self.ask_about(name, self.far.read(name)).await?).await
    }

    /// What there is, if it was not purged, or the lease.
    pub(super) async fn look_up_or_lease(
        &self,
        name: &str,
        token: Token,
        fresh_for: Duration,
    ) -> Result<Attempt<V>, Fault> {
        let ttl = self.policy.lease_ttl;
        let look = |fresh_for| self.far.look_up_or_lease(name, token, ttl, fresh_for);
        match self.ask_about(name, look(fresh_for)).await? {
            Attempt::Hit(entry) => match self.if_current(Some(entry)).await? {
                Some(entry) => Ok(Attempt::Hit(entry)),
                // It is there, and will not do.
                None => self.ask_about(name, look(FOREVER)).await,
            },
            attempt => Ok(attempt),
        }
    }

    /// What the far tier has, if it says so.
    pub(super) async fn found_in_far(&self, name: &str) -> Option<Arc<Entry<V>>> {
        self.read_far(name).await.ok().flatten()
    }

    /// Keeps an invalidation, or the one that a failed put stands for, if the same call may go through later.
    pub(super) fn keep_if_it_may_pass(&self, name: &str, version: Option<Version>, fault: &Fault) {
        if !fault.kind().may_pass() {
            return;
        }
        self.keep_pending(name, version, fault);
        match fault.kind().is_outage() && self.breaker.open() == Failed::Opened {
            true => self.go_without(fault),
            false => self.start_recovery(),
        }
    }

    fn keep_pending(&self, name: &str, version: Option<Version>, fault: &Fault) {
        // Kept before the breaker is opened, and the recovery closes it only under the lock and with
        // nothing pending: in either order of the two, it ends up open.
        match self.pending.add(name, version) {
            Ok(Added::First) => self.observer.invalidation_pending(name, fault.kind()),
            Ok(Added::Another) => {}
            Err(Full) => {
                let capacity = PendingInvalidations::CAPACITY;
                tracing::error!(
                    guard = self.observer.guard(),
                    "an invalidation is lost: {capacity} others are waiting for the far tier already"
                );
                self.observer.invalidation_lost(name, fault.kind());
            }
        }
    }

    /// The breaker has opened.
    fn go_without(&self, fault: &Fault) {
        let guard = self.observer.guard();
        tracing::warn!(guard, %fault, "the far tier is away; going on without it");
        // Flights that wait for another process would hear of it only when the silence of the messages is
        // noticed, a second later.
        self.wakeups.notify_all();
        // Before the recovery begins, which says that it is back.
        self.observer.far_away(fault);
        self.start_recovery();
    }
}
