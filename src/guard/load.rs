//! The load side of a flight: the origin is asked here and nowhere else.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use futures::future::select_all;
use tokio::{task::JoinHandle, time::Instant};
use tracing::Instrument;

use super::{
    Core,
    bulkhead::{Full, Permit},
    fetch::Answer,
    fly::{Arrival, Patience},
    loader::Loader,
    nesting::Loading,
    waiters::Waiter,
};
use crate::{
    Bypass, Entry, Error, Fetched, Loaded, Outcome, Version,
    entry::Age,
    far::{Commit, Grant, Record, Renewal, Token},
    flight::{Depth, Landing, Mark, Ticket},
    observe::Stopwatch,
};

impl<V: Send + Sync + 'static> Core<V> {
    /// Loads under a lease and commits; renews the lease meanwhile. `None`: somebody wrote or
    /// invalidated while the origin was found to be behind; look again.
    pub(super) async fn load_leased(
        &self,
        ticket: &Ticket<Answer<V>>,
        waiter: &Waiter<'_>,
        token: Token,
        grant: Grant,
        load: &mut impl Loader<V>,
        patience: &Patience,
    ) -> Option<Arrival<V>> {
        let name = ticket.name();
        let keeper = self.keep_lease(name, token);
        tokio::pin!(keeper);
        let mut held = true;
        let mut pause = FIRST_PAUSE;
        loop {
            let news = waiter.notify.notified();
            tokio::pin!(news);
            news.as_mut().enable();
            let mark = ticket.mark();
            let loading = self.load_once(name, load, patience);
            tokio::pin!(loading);
            // Both are polled all the time: a load that takes longer than the lease keeps it.
            let loaded = loop {
                tokio::select! {
                    loaded = &mut loading => break loaded,
                    () = &mut keeper, if held => held = false,
                }
            };
            let loaded = match loaded {
                Ok(loaded) => loaded,
                Err(error) => {
                    let lease = Some((token, grant.failures));
                    return Some(self.failed(ticket, lease, error).await);
                }
            };
            let cacheable = loaded.cacheable;
            let record = self.record(loaded);
            if !cacheable {
                self.release(name, token).await;
                return Some(Arrival::of_those_before(mark, record.entry));
            }
            let version = record.entry.version();
            if record.version.is_none() || version >= grant.minimum {
                return Some(self.commit(ticket, token, mark, record).await);
            }

            // The origin is behind what was acknowledged: a lagging replica. Ask again, and keep
            // the others from doing the same meanwhile.
            self.observer.commit_refused("outdated");
            tracing::debug!(target: REFUSED, %version, minimum = %grant.minimum, "load refused: older than the record");
            let again = Instant::now() + pause;
            if again >= patience.deadline {
                let error = Error::Outdated { loaded: version, minimum: grant.minimum };
                let lease = Some((token, grant.failures));
                return Some(self.failed(ticket, lease, error).await);
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
            let paused = tokio::time::sleep_until(again);
            tokio::pin!(paused);
            let mut heard = false;
            while held && !paused.is_elapsed() {
                tokio::select! {
                    () = &mut paused => {}
                    () = &mut keeper => held = false,
                    () = &mut news, if !heard => {
                        // News that left us the lease (our own message, come late) change nothing.
                        heard = true;
                        let renewing = self.far.renew(name, token, self.policy.lease_ttl);
                        let renewed = self.ask(renewing).await;
                        held = matches!(renewed, Ok(Renewal::Renewed));
                    }
                }
            }
            if !held {
                return None;
            }
        }
    }

    /// Loads while the far tier does not answer: one load for this process, kept shortly.
    pub(super) async fn load_alone(
        &self,
        ticket: &Ticket<Answer<V>>,
        mut load: impl Loader<V>,
        patience: &Patience,
    ) -> Arrival<V> {
        match self.load_once(ticket.name(), &mut load, patience).await {
            Ok(loaded) => {
                let cacheable = loaded.cacheable;
                let arrival = self.unshared(self.record(loaded).entry);
                if cacheable { arrival } else { Arrival { keep: None, ..arrival } }
            }
            Err(error) => self.failed(ticket, None, error).await,
        }
    }

    async fn commit(
        &self,
        ticket: &Ticket<Answer<V>>,
        token: Token,
        mark: Mark,
        record: Record<V>,
    ) -> Arrival<V> {
        let name = ticket.name();
        let loaded = record.entry.clone();
        match self.ask(self.far.commit(name, token, record)).await {
            // Accepted means that the lease was never revoked: no invalidation came between this
            // load's beginning and now, so the value is right also for who boarded meanwhile.
            Ok(Commit::Stored(entry)) => {
                let answer = Ok(Fetched::new(entry.clone(), Outcome::Loaded));
                Arrival::of(Landing::for_all(answer)).keeping(entry, self.policy.near_ttl)
            }
            Ok(refused) => {
                let lost = matches!(refused, Commit::Lost);
                self.observer.commit_refused(if lost { "lease_lost" } else { "older" });
                tracing::debug!(
                    target: REFUSED,
                    lost,
                    "commit refused: something newer came between"
                );
                let reread = ticket.mark();
                match self.ask(self.far.read(name)).await {
                    Ok(Some(entry)) if entry.age(self.now(), Duration::ZERO) == Age::Fresh => {
                        self.arrive(reread, entry, Outcome::Awaited)
                    }
                    _ => Arrival::of_those_before(mark, loaded),
                }
            }
            Err(_) => {
                self.release_later(name, token);
                self.unshared(loaded)
            }
        }
    }

    /// An answer that the far tier did not take.
    fn unshared(&self, entry: Arc<Entry<V>>) -> Arrival<V> {
        let outcome = Outcome::Bypassed(Bypass::FarUnavailable);
        let answer = Ok(Fetched::new(entry.clone(), outcome));
        Arrival::of(Landing::for_all(answer)).keeping(entry, self.policy.near_outage_ttl)
    }

    /// One call to the origin, on its own task: a loader that blocks or panics harms neither the
    /// lease's renewal nor the flight.
    async fn load_once(
        &self,
        name: &Arc<str>,
        load: &mut impl Loader<V>,
        patience: &Patience,
    ) -> Result<Loaded<V>, Error> {
        if self.tasks.closing() {
            return Err(Error::ShutDown);
        }
        let permit = match load.has_own_permit() {
            true => None,
            false => {
                let depths = std::slice::from_ref(&patience.depth);
                self.room_for_a_load(patience.deadline, patience.queues, depths).await?
            }
        };
        let begun = Instant::now();
        // A batch has one load for all its members, and counts it itself.
        let counted = (!load.has_own_permit()).then(|| self.observer.load());
        let loaded = self.call(name, load, patience, permit).await;
        if let Some(counted) = counted {
            counted.ended(&loaded);
        }
        let took = begun.elapsed();
        // A batch has told already, without the wait for its members.
        let timed = |loaded: Loaded<V>| match loaded.load_time {
            Duration::ZERO => Loaded { load_time: took, ..loaded },
            _ => loaded,
        };
        loaded.map(timed)
    }

    async fn call(
        &self,
        name: &Arc<str>,
        load: &mut impl Loader<V>,
        patience: &Patience,
        permit: Option<Permit>,
    ) -> Result<Loaded<V>, Error> {
        // The closure itself may panic before there is a future.
        let Ok(loading) = catch_unwind(AssertUnwindSafe(|| load.load(patience))) else {
            return Err(Error::LoadPanicked);
        };
        let within = Loading::of(self.id(), name);
        let loading = Loading::scope(within, async move {
            // Until the task is gone the origin is busy with it.
            let _permit = permit;
            loading.await
        });
        let mut task = AbortOnDrop(tokio::spawn(loading.instrument(tracing::debug_span!("load"))));
        tokio::select! {
            biased;
            joined = &mut task.0 => match joined {
                Ok(loaded) => loaded,
                Err(joined) if joined.is_panic() => Err(Error::LoadPanicked),
                Err(_) => Err(Error::Abandoned),
            },
            () = tokio::time::sleep_until(patience.deadline) => {
                Err(Error::LoadTimeout { after: self.policy.load_timeout })
            }
            () = self.tasks.closed() => Err(Error::ShutDown),
        }
    }

    /// A place in the bulkhead, at the level of the deepest load that waits for this one: see
    /// [`Bulkheads`](super::bulkhead::Bulkheads). `None`: too deep for there to be a level.
    pub(super) async fn room_for_a_load(
        &self,
        deadline: Instant,
        queues: bool,
        depths: &[Arc<Depth>],
    ) -> Result<Option<Permit>, Error> {
        let overloaded = |Full { retry_after }| Error::Overloaded { retry_after };
        if !queues {
            return self.bulkheads.outermost().try_enter().map(Some).map_err(overloaded);
        }
        let mut depth = Loading::depth(self.id());
        loop {
            let Some(bulkhead) = self.bulkheads.at(depth) else { return Ok(None) };
            let deeper = select_all(depths.iter().map(|deepest| Box::pin(deepest.beyond(depth))));
            tokio::select! {
                biased;
                entered = bulkhead.enter(deadline) => {
                    return entered.map(Some).map_err(overloaded);
                }
                (deeper, ..) = deeper => depth = deeper,
                () = self.tasks.closed() => return Err(Error::ShutDown),
            }
        }
    }

    /// Renews until the lease is lost.
    async fn keep_lease(&self, name: &str, token: Token) {
        let ttl = self.policy.lease_ttl;
        loop {
            tokio::time::sleep(ttl / 3).await;
            match self.ask(self.far.renew(name, token, ttl)).await {
                Ok(Renewal::Renewed) => {}
                Ok(Renewal::Lost) => {
                    tracing::debug!("lease lost while loading");
                    return;
                }
                // It may still be ours: the commit will tell.
                Err(error) => tracing::debug!(%error, "lease renewal failed"),
            }
        }
    }

    pub(super) async fn release(&self, name: &Arc<str>, token: Token) {
        if let Err(error) = self.ask(self.far.release(name, token)).await {
            tracing::debug!(%error, "release failed");
            self.release_later(name, token);
        }
    }

    /// Releases without being waited for, after a call of which nobody knows whether it was carried out.
    /// Again and again, as long as the far tier is away: a lease of nobody would hold up the fleet when it
    /// is back.
    pub(super) fn release_later(&self, name: &Arc<str>, token: Token) {
        let (far, name, core) = (self.far.clone(), name.clone(), self.me.clone());
        tokio::spawn(async move {
            // Whether the breaker is open or not: what is sent now is carried out after what was sent
            // before.
            let mut released = far.release(&name, token).await;
            while let Err(error) = &released {
                // Weak, so that what nobody waits for keeps no guard alive.
                let Some(this) = core.upgrade() else { return };
                this.observer.far_failed(error);
                if !error.kind().is_outage() {
                    tracing::debug!(%error, "release failed; the lease ends after its ttl");
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

    /// What is to be stored for a load, with its times set by the policy.
    pub(super) fn record(&self, loaded: Loaded<V>) -> Record<V> {
        let default = match loaded.value {
            Some(_) => self.policy.ttl,
            None => self.policy.negative_ttl,
        };
        let ttl = self.policy.spread(loaded.ttl.unwrap_or(default));
        let entry = Entry::new(
            loaded.value,
            loaded.version.unwrap_or(Version::ZERO),
            self.now().after(ttl),
        )
        .loaded_in(loaded.load_time);
        let windows = self.last_resort(&entry).max(self.policy.last_resort());
        let retention = self.policy.retention(ttl, windows);
        Record { entry: Arc::new(entry), version: loaded.version, ttl, retention }
    }

    /// Past every tier, for a request that has no key.
    pub(super) async fn go_past(
        core: Arc<Self>,
        loading: impl Future<Output = Result<Loaded<V>, Error>>,
    ) -> Answer<V> {
        let fetching = core.observer.fetching(Stopwatch::start());
        let answer = fetching.within(loading).await.map(|loaded| {
            Fetched::new(core.record(loaded).entry, Outcome::Bypassed(Bypass::NoKey))
        });
        fetching.answered(&answer);
        answer
    }
}

/// The target of events about values that were not written because something newer is known.
const REFUSED: &str = "cattleguard::refused";

/// How long to wait before asking a lagging origin again, doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// When to release again what the far tier did not answer to.
const RELEASE_AGAIN: Duration = Duration::from_millis(50);

struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
