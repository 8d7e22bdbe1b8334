//! A load under a lease: renewed while it runs, committed, released or failed at its end.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt;
use tokio::time::Instant;

use super::{
    answer::{Answer, NearTtl, Resolution},
    core::Core,
    limits::FOREVER,
    load::Place,
    loader::{FlightLoader, LoadBudget},
    renewing::Renewing,
    wakeups::{Message, Wakeup},
};
use crate::{
    Bypass, Error, Fault, FaultKind, Loaded, Outcome, Version,
    backoff::Backoff,
    far::{Commit, Grant, Record, Token},
    flight::{Completer, Epoch},
    freshness::Age,
    observe::Refusal,
};

/// A lease on the name of a flight, and what its load needs.
pub(super) struct LeasedLoad<'a, V: Send + Sync + 'static> {
    pub(super) core: &'a Core<V>,
    pub(super) completer: &'a Completer<Answer<V>>,
    pub(super) wakeup: &'a Wakeup<'a>,
    pub(super) token: Token,
    pub(super) grant: Grant,
}

/// How a load under a lease ends.
pub(super) enum Leased<V> {
    Resolved(Resolution<V>),
    /// A write or an invalidation came while the origin was found to be behind: look again.
    LookAgain,
}

/// What one attempt has brought.
enum Attempted<V> {
    Resolved(Resolution<V>),
    /// The origin is behind what was acknowledged, by this version: a lagging replica.
    Behind(Version),
}

impl<V: Send + Sync + 'static> LeasedLoad<'_, V> {
    /// Loads and commits; renews the lease meanwhile.
    ///
    /// Renewal and load are polled side by side all the time: a load that takes longer than the lease keeps it.
    pub(super) async fn run(
        &self,
        load: &mut impl FlightLoader<V>,
        budget: &LoadBudget,
        place: Place,
    ) -> Leased<V> {
        let mut renewal = Renewing::begin(self.core, self.completer.name(), self.token);
        let mut backoff = REPLICA_LAG;
        let mut place = Some(place);
        loop {
            // Before the load: it tells of a write that the load may have missed.
            let news = self.wakeup.next();
            let behind = match self.attempt(load, budget, place.take(), &mut renewal).await {
                Attempted::Resolved(resolution) => return Leased::Resolved(resolution),
                Attempted::Behind(version) => version,
            };
            let again = Instant::now() + backoff.next();
            if again >= budget.deadline || !load.can_repeat() {
                let minimum = self.grant.minimum;
                let outdated = Error::Outdated { loaded: behind, minimum };
                return Leased::Resolved(self.failed(outdated).await);
            }
            // Asked again under the same lease, which keeps the others from doing the same meanwhile.
            if !self.wait_for_replica(&mut renewal, news, again).await {
                return Leased::LookAgain;
            }
        }
    }

    async fn attempt(
        &self,
        load: &mut impl FlightLoader<V>,
        budget: &LoadBudget,
        place: Option<Place>,
        renewal: &mut Renewing<'_, V>,
    ) -> Attempted<V> {
        let core = self.core;
        let epoch = self.completer.begin_epoch();
        let loading = async {
            // A place was there before the lease; only a repeated load waits for one under it.
            let place = match place {
                Some(place) => place,
                None => core.place_for(load, budget).await?,
            };
            core.load_once(self.completer.name(), load, budget, place, true).await
        };
        let loaded = match renewal.beside(loading).await {
            Ok(loaded) => loaded,
            Err(error) => return Attempted::Resolved(self.failed(error).await),
        };
        let cacheable = loaded.cacheable;
        let record = core.freshness.record(loaded, core.now());
        let (version, minimum) = (record.entry.version(), self.grant.minimum);
        // Older is older, whether it may be kept or not.
        if record.version.is_none() || version >= minimum {
            return Attempted::Resolved(match cacheable {
                true => self.commit(epoch, record).await,
                false => self.pass(epoch, &record, load).await,
            });
        }
        tracing::debug!(
            target: REFUSED,
            guard = core.observer.guard(),
            %version,
            %minimum,
            "load refused: older than the record"
        );
        core.observer.load_refused(self.completer.name(), Refusal::Outdated);
        Attempted::Behind(version)
    }

    /// Waits until the origin is to be asked again, and says whether the lease is still held.
    async fn wait_for_replica(
        &self,
        renewal: &mut Renewing<'_, V>,
        mut news: Message,
        again: Instant,
    ) -> bool {
        let paused = tokio::time::sleep_until(again);
        tokio::pin!(paused);
        let mut heard = false;
        while renewal.is_held() && !paused.is_elapsed() {
            tokio::select! {
                biased;
                () = &mut paused => {}
                () = renewal.lost() => {}
                () = &mut news, if !heard => {
                    // News that left us the lease (our own message, come late) change nothing.
                    heard = true;
                    renewal.renew_now().await;
                }
            }
        }
        renewal.is_held()
    }

    /// What may not be kept ends the lease, and is for callers only that boarded before it was read.
    async fn pass(
        &self,
        epoch: Epoch,
        record: &Record<V>,
        load: &mut impl FlightLoader<V>,
    ) -> Resolution<V> {
        self.core.release(self.completer.name(), self.token).await;
        match load.is_passed_if_uncacheable() {
            true => Resolution::passed(epoch, fetched(record), self.grant.minimum),
            false => Resolution::visible_before(epoch, fetched(record)),
        }
    }

    async fn commit(&self, epoch: Epoch, record: Record<V>) -> Resolution<V> {
        let (core, name) = (self.core, self.completer.name());
        let loaded = record.entry.clone();
        let unshared = fetched(&record);
        match core.commit(name, self.token, record).await {
            // Accepted means that the lease was never revoked: no invalidation came between this
            // load's beginning and now, so the value is right also for callers that boarded meanwhile.
            Ok(Commit::Stored(entry)) => {
                // As good as a reading: it is not older than an invalidation that was heard of before.
                self.completer.begin_epoch();
                Resolution::loaded(entry, Outcome::Loaded, NearTtl::Shared)
            }
            Ok(refused) => {
                let lost = matches!(refused, Commit::Lost);
                tracing::debug!(
                    target: REFUSED,
                    guard = core.observer.guard(),
                    lost,
                    "commit refused: something newer came between"
                );
                let why = if lost { Refusal::LeaseLost } else { Refusal::Older };
                core.observer.load_refused(name, why);
                let reread = self.completer.begin_epoch();
                match core.found_in_far(name).await {
                    Some(entry) if core.freshness.age(&entry, core.now()) == Age::Fresh => {
                        Resolution::read(reread, entry, Outcome::Awaited)
                    }
                    _ => Resolution::visible_before(epoch, unshared),
                }
            }
            Err(fault) => {
                core.release_later(name, self.token);
                core.unshared(loaded, bypass_of(&fault))
            }
        }
    }

    /// Ends the lease, because its load failed, and has the answer for callers aboard.
    async fn failed(&self, error: Error) -> Resolution<V> {
        self.core.failed(self.completer, Some((self.token, self.grant)), error).await
    }
}

fn fetched<V>(record: &Record<V>) -> crate::Fetched<V> {
    crate::Fetched::new(record.entry.clone(), Outcome::Loaded)
}

/// What a fault of the far tier means for the answer.
pub(super) fn bypass_of(fault: &Fault) -> Bypass {
    match fault.kind().may_pass() {
        true => Bypass::FarUnavailable,
        false => Bypass::FarRefused,
    }
}

impl<V: Send + Sync + 'static> Core<V> {
    /// Loads while the far tier does not answer: one load for this process, kept shortly.
    pub(super) async fn load_unleased(
        &self,
        completer: &Completer<Answer<V>>,
        load: &mut impl FlightLoader<V>,
        budget: &LoadBudget,
        place: Option<Place>,
        bypass: Bypass,
    ) -> Resolution<V> {
        let loading = async {
            // With the place that it may have: a second one could be held by a load like this.
            let place = match place {
                Some(place) => place,
                None => self.place_for(load, budget).await?,
            };
            completer.begin_epoch();
            let is_far_there = bypass != Bypass::FarUnavailable;
            self.load_once(completer.name(), load, budget, place, is_far_there).await
        };
        match loading.await {
            Ok(loaded) => self.unshared_load(loaded, bypass),
            Err(error) => self.failed(completer, None, error).await,
        }
    }

    fn unshared_load(&self, loaded: Loaded<V>, bypass: Bypass) -> Resolution<V> {
        let cacheable = loaded.cacheable;
        let resolution = self.unshared(self.freshness.record(loaded, self.now()).entry, bypass);
        match cacheable {
            true => resolution,
            false => Resolution::of(resolution.completion),
        }
    }

    /// An answer that the far tier did not take.
    fn unshared(&self, entry: Arc<crate::Entry<V>>, bypass: Bypass) -> Resolution<V> {
        Resolution::loaded(entry, Outcome::Bypassed(bypass), NearTtl::Outage)
    }

    /// A codec's panic must not cost the others the lease's ttl: it counts as a value that cannot be encoded.
    async fn commit(
        &self,
        name: &Arc<str>,
        token: Token,
        record: Record<V>,
    ) -> Result<Commit<V>, Fault> {
        let committing = AssertUnwindSafe(self.far.commit(name, token, record)).catch_unwind();
        let committing = async {
            let panicked = Fault::saying(FaultKind::Codec, "the codec panicked");
            committing.await.unwrap_or(Err(panicked))
        };
        self.ask_about(name, committing).await
    }

    /// The answer after a failed load, and what becomes of its lease.
    async fn failed(
        &self,
        completer: &Completer<Answer<V>>,
        lease: Option<(Token, Grant)>,
        error: Error,
    ) -> Resolution<V> {
        let name = completer.name();
        if !self.counts(&error) {
            if let Some((token, _)) = lease {
                self.release(name, token).await;
            }
            return self.stale_instead(completer, error).await;
        }
        let known = lease.map_or(0, |(_, grant)| grant.failures);
        let failures = self.failures.failures(name, self.now()).max(known).saturating_add(1);
        // Spread, so that keys that failed together are not tried together.
        let pause = self.policy.backoff_after(failures).mul_f64(0.75 + fastrand::f64() / 4.0);
        let sharing = async {
            if let Some((token, _)) = lease {
                self.share_failure(name, token, pause).await;
            }
        };
        completer.begin_epoch();
        let ((), found) = futures::future::join(sharing, self.found_in_far(name)).await;
        self.back_off(found, error, pause, failures)
    }

    /// Has the whole fleet back off. The far tier ignores it for a lease that was lost meanwhile.
    async fn share_failure(&self, name: &Arc<str>, token: Token, pause: Duration) {
        if pause.is_zero() {
            return self.release(name, token).await;
        }
        if let Err(fault) = self.ask(self.far.fail(name, token, pause)).await {
            tracing::debug!(guard = self.observer.guard(), %fault, "failure not shared");
            self.release_later(name, token);
        }
    }

    pub(super) async fn release(&self, name: &Arc<str>, token: Token) {
        if let Err(fault) = self.ask(self.far.release(name, token)).await {
            tracing::debug!(guard = self.observer.guard(), %fault, "release failed");
            self.release_later(name, token);
        }
    }

    /// Releases in the background, after a call that may or may not have been carried out. Again and again, as
    /// long as the far tier is away: a lease without a holder would hold up the fleet when it is back.
    pub(super) fn release_later(&self, name: &Arc<str>, token: Token) {
        let (far, name, core) = (self.far.clone(), name.clone(), self.me.clone());
        let lease_ends = Instant::now() + self.policy.lease_ttl.min(FOREVER);
        tokio::spawn(async move {
            // Whether the breaker is open or not: what is sent now is carried out after what was sent
            // before.
            let mut released = far.release(&name, token).await;
            while let Err(fault) = &released {
                // Weak, so that the task keeps no guard alive.
                let Some(this) = core.upgrade() else { return };
                this.observer.far_failed(fault);
                let is_over = !fault.kind().is_outage() && Instant::now() >= lease_ends;
                if is_over || !fault.kind().may_pass() {
                    let guard = this.observer.guard();
                    tracing::debug!(guard, %fault, "release failed; the lease ends after its ttl");
                    return;
                }
                let back = this.breaker.closes();
                let closed = this.breaker.is_closed();
                drop(this);
                match closed {
                    true => tokio::time::sleep(RELEASE_AGAIN).await,
                    false => back.await,
                }
                let Some(this) = core.upgrade() else { return };
                released = this.ask(this.far.release(&name, token)).await;
            }
        });
    }
}

/// The target of events about values that were not written because something newer is known.
const REFUSED: &str = "cattleguard::refused";

/// How long to wait before asking a lagging origin again.
const REPLICA_LAG: Backoff =
    Backoff::new(Duration::from_millis(10), Duration::from_millis(500)).spread(1.0..1.0);

/// When to release again what the far tier did not answer to.
const RELEASE_AGAIN: Duration = Duration::from_millis(50);
