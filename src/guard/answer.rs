use std::sync::Arc;

use super::failure_backoff::FailureBackoff;
use crate::{
    Entry, Error, Fetched, Outcome, Version,
    flight::{Completion, Epoch},
};

/// What a caller gets.
pub(super) type Answer<V> = Result<Fetched<V>, Error>;

/// The answer of a flight whose task was dropped.
pub(super) fn abandoned<V>() -> Answer<V> {
    Err(Error::Abandoned)
}

/// How a flight ends: its answer, and what this process keeps of it.
pub(super) struct Resolution<V> {
    pub(super) completion: Completion<Answer<V>>,
    pub(super) keep: Keep<V>,
}

pub(super) enum Keep<V> {
    Nothing,
    /// In the near tier, for as long as it may.
    Entry(Arc<Entry<V>>, NearTtl),
    /// That what was loaded may not be kept, and the version on record.
    Pass(Version),
    /// That the load failed.
    Failure(Arc<FailureBackoff<V>>),
}

/// How long an entry may live in the near tier.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum NearTtl {
    /// The far tier has it, too.
    Shared,
    /// No message tells when it is outdated.
    Outage,
}

impl<V> Resolution<V> {
    pub(super) fn of(completion: Completion<Answer<V>>) -> Self {
        Self { completion, keep: Keep::Nothing }
    }

    pub(super) fn failed(error: Error) -> Self {
        Self::of(Completion::for_all(Err(error)))
    }

    /// An answer that only callers may have that boarded before it was read.
    pub(super) fn visible_before(epoch: Epoch, fetched: Fetched<V>) -> Self {
        Self::of(Completion::visible_before(epoch, Ok(fetched)))
    }

    /// What may not be kept, for callers only that boarded before it was read.
    pub(super) fn passed(epoch: Epoch, fetched: Fetched<V>, minimum: Version) -> Self {
        Self { keep: Keep::Pass(minimum), ..Self::visible_before(epoch, fetched) }
    }

    /// An entry that was read from the far tier in this epoch.
    pub(super) fn read(epoch: Epoch, entry: Arc<Entry<V>>, outcome: Outcome) -> Self {
        let fetched = Fetched::new(entry.clone(), outcome);
        Self::visible_before(epoch, fetched).keeping(entry, NearTtl::Shared)
    }

    /// A loaded value that is right for everyone aboard.
    pub(super) fn loaded(entry: Arc<Entry<V>>, outcome: Outcome, ttl: NearTtl) -> Self {
        let answer = Ok(Fetched::new(entry.clone(), outcome));
        Self::of(Completion::for_all(answer)).keeping(entry, ttl)
    }

    fn keeping(self, entry: Arc<Entry<V>>, ttl: NearTtl) -> Self {
        Self { keep: Keep::Entry(entry, ttl), ..self }
    }
}
