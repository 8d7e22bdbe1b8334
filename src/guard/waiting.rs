use std::future::Future;

use tokio::time::Instant;

use super::{
    answer::{Answer, abandoned},
    core::Core,
    nesting::Loading,
};
use crate::{Error, Fetched, flight::Waiter};

/// A caller's wait for a flight.
pub(super) struct Waiting<V> {
    pub(super) waiter: Waiter<Answer<V>>,
    /// What this caller alone has found, that is better than no answer.
    pub(super) expired: Option<Fetched<V>>,
}

impl<V: Send + Sync + 'static> Waiting<V> {
    /// A leader boards before its flight's first epoch, so every answer is for it.
    pub(super) async fn lead(self, core: &Core<V>, deadline: Option<Instant>) -> Answer<V> {
        match by(deadline, self.waiter.answer(|| core.now())).await {
            Some(answer) => self.told(core, answer).unwrap_or_else(abandoned),
            None => self.at_deadline(core),
        }
    }

    /// `None`: the flight's answer is not for this caller, which boards again.
    pub(super) async fn follow(
        self,
        core: &Core<V>,
        deadline: Option<Instant>,
    ) -> Option<Answer<V>> {
        let purged = self.begin(core);
        match by(deadline, self.waiter.answer(|| core.now())).await {
            Some(answer) => self.followed(core, purged, answer),
            None => Some(self.at_deadline(core)),
        }
    }

    /// As [`follow`](Self::follow), until the flight completes: not for what is served meanwhile.
    pub(super) async fn follow_to_its_end(self, core: &Core<V>) -> Option<Answer<V>> {
        let purged = self.begin(core);
        let answer = self.waiter.completion().await;
        self.followed(core, purged, answer)
    }

    /// Whether there was a purge since the flight was opened. Asked when the wait begins, and not when the answer is
    /// there: who boarded before a purge has asked before.
    fn begin(&self, core: &Core<V>) -> bool {
        self.waiter.waits_at(Loading::depth());
        core.epochs.last_purge().is_some_and(|at| self.waiter.is_of_flight_from(at))
    }

    fn followed(
        &self,
        core: &Core<V>,
        purged: bool,
        answer: Option<Answer<V>>,
    ) -> Option<Answer<V>> {
        if let Some(Ok(fetched)) = &answer
            && !core.may_follow(fetched, purged)
        {
            self.waiter.close(&core.flights);
            return None;
        }
        let followed = |fetched: Fetched<V>| fetched.with(fetched.outcome().followed());
        self.told(core, answer).map(|answer| answer.map(followed))
    }

    fn at_deadline(self, core: &Core<V>) -> Answer<V> {
        let provisional = self.waiter.at_deadline(|| core.now());
        let is_purged = |answer: &Answer<V>| {
            answer.as_ref().is_ok_and(|fetched| !core.is_current(fetched.entry()))
        };
        let provisional = provisional.filter(|answer| !is_purged(answer));
        let provisional = self.told(core, provisional);
        provisional.or(self.expired.map(Ok)).unwrap_or(Err(Error::DeadlineExceeded))
    }

    /// The flight's answer, once it is counted if it may be older than this process knows.
    fn told(&self, core: &Core<V>, answer: Option<Answer<V>>) -> Option<Answer<V>> {
        if let (Some(Ok(fetched)), Some(overtaken)) = (&answer, self.waiter.overtaken())
            && overtaken.outdates(fetched.version())
        {
            core.observer.served_outdated(overtaken.since.elapsed());
        }
        answer
    }
}

/// `None` if it takes beyond the deadline.
pub(super) async fn by<T>(deadline: Option<Instant>, work: impl Future<Output = T>) -> Option<T> {
    match deadline {
        Some(deadline) => tokio::time::timeout_at(deadline, work).await.ok(),
        None => Some(work.await),
    }
}
