//! What callers are answered while a flight takes its time: something stale, looked for again and again.

use std::{convert::Infallible, sync::Arc, time::Duration};

use super::{
    answer::{Answer, Resolution},
    core::Core,
    limits::FOREVER,
    refresh::{Refresh, Serving},
};
use crate::{Entry, Moment, StaleReason, flight::Completer};

impl<V: Send + Sync + 'static> Core<V> {
    /// A solo reader beside the flight may find something stale for its callers: it is theirs until the end then,
    /// as that of any refresh.
    pub(super) async fn serve_what_the_solo_reader_found(
        &self,
        completer: &Completer<Answer<V>>,
    ) -> Infallible {
        completer.solo_reader_has_found().await;
        let first = self.provisional_ttl() / 8 * 7;
        self.keep_serving(completer, first, |found| self.while_refreshing(found)).await
    }

    /// Answers callers with something stale if it takes too long, and continues.
    pub(super) async fn resolve_with_soft_timeout(
        &self,
        completer: &Completer<Answer<V>>,
        resolving: impl Future<Output = Resolution<V>>,
    ) -> Resolution<V> {
        if self.policy.soft_timeout >= FOREVER {
            return resolving.await;
        }
        let served = |found: &_| {
            let served = self.stale_fallback(found, StaleReason::Slow)?;
            let until = Moment::FAR_FUTURE;
            Some(Serving { served, until, changes_at: until })
        };
        tokio::select! {
            biased;
            resolution = resolving => resolution,
            never = self.keep_serving(completer, self.policy.soft_timeout, served) => match never {},
        }
    }

    /// Answers callers with what is refreshed.
    pub(super) async fn resolve_while_serving(
        &self,
        completer: &Completer<Answer<V>>,
        resolving: impl Future<Output = Resolution<V>>,
        refresh: Refresh,
    ) -> Resolution<V> {
        // A provisional answer has been given already.
        let first = self.look_again_in(refresh.until, refresh.changes_at);
        let served = |found: &_| self.while_refreshing(found);
        tokio::select! {
            biased;
            resolution = resolving => resolution,
            never = self.keep_serving(completer, first, served) => match never {},
        }
    }

    /// Looks, each time that the provisional answer ends, whether there is still something to serve: this finds
    /// an invalidation whose message was lost.
    async fn keep_serving(
        &self,
        completer: &Completer<Answer<V>>,
        first: Duration,
        serving: impl Fn(&Arc<Entry<V>>) -> Option<Serving<V>>,
    ) -> Infallible {
        let mut pause = first;
        loop {
            tokio::time::sleep(pause).await;
            let found = self.found_in_far(completer.name()).await;
            pause = match found.and_then(|entry| serving(&entry)) {
                Some(Serving { served, until, changes_at }) => {
                    completer.provide(|| self.serve_meanwhile(&served, until));
                    self.look_again_in(until, changes_at)
                }
                None => self.provisional_ttl() / 8 * 7,
            };
            pause = pause.max(SHORTEST_LOOK);
        }
    }
}

/// How often a flight looks, at most, for something to serve meanwhile.
const SHORTEST_LOOK: Duration = Duration::from_millis(50);
