//! The renewal of a lease, beside the load that runs under it.

use std::{future::Future, pin::Pin};

use super::core::Core;
use crate::far::{Renewal, Token};

/// The renewal of a lease while its load runs.
pub(super) struct Renewing<'a, V: Send + Sync + 'static> {
    core: &'a Core<V>,
    name: &'a str,
    token: Token,
    until_lost: Pin<Box<dyn Future<Output = ()> + Send + 'a>>,
    held: bool,
}

impl<'a, V: Send + Sync + 'static> Renewing<'a, V> {
    pub(super) fn begin(core: &'a Core<V>, name: &'a str, token: Token) -> Self {
        let until_lost = Box::pin(core.renew_until_lost(name, token));
        Self { core, name, token, until_lost, held: true }
    }

    pub(super) fn is_held(&self) -> bool {
        self.held
    }

    /// Resolves when the lease is lost.
    pub(super) async fn lost(&mut self) {
        (&mut self.until_lost).await;
        self.held = false;
    }

    /// Runs `work` to its end, whatever becomes of the lease.
    pub(super) async fn beside<T>(&mut self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = &mut self.until_lost, if self.held => self.held = false,
            }
        }
    }

    /// Asks whether the lease is still held, after news about the name.
    pub(super) async fn renew_now(&mut self) {
        let core = self.core;
        let renewing = core.far.renew(self.name, self.token, core.policy.lease_ttl);
        // Without an answer it may still be held: the commit will tell.
        if matches!(core.ask(renewing).await, Ok(Renewal::Lost)) {
            self.held = false;
            core.observer.lease_lost(self.name);
        }
    }
}

impl<V: Send + Sync + 'static> Core<V> {
    /// Renews until the lease is lost.
    async fn renew_until_lost(&self, name: &str, token: Token) {
        let ttl = self.policy.lease_ttl;
        loop {
            tokio::time::sleep(ttl / 3).await;
            match self.ask(self.far.renew(name, token, ttl)).await {
                Ok(Renewal::Renewed) => {}
                Ok(Renewal::Lost) => {
                    return self.observer.lease_lost(name);
                }
                // It may still be ours: the commit will tell.
                Err(fault) => {
                    let guard = self.observer.guard();
                    tracing::debug!(guard, %fault, "lease renewal failed");
                }
            }
        }
    }
}
