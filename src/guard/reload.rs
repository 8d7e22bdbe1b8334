use std::sync::Arc;

use super::{
    answer::{Answer, abandoned},
    core::Core,
    departure::{Departure, Plan},
    limits::FOREVER,
    loader::FlightLoader,
    nesting::Loading,
    refresh::{Reload, Serving},
    waiting::Waiting,
};
use crate::{Entry, Error, flight::Boarded};

impl<V: Send + Sync + 'static> Core<V> {
    /// Loads `name` anew, in a flight for all that ask for it at one time. One that is open already will do, if it
    /// brings something else than `previous`.
    pub(super) async fn reload(
        self: &Arc<Self>,
        name: &Arc<str>,
        previous: Option<Arc<Entry<V>>>,
        load: impl FlightLoader<V>,
    ) -> Answer<V> {
        if Loading::is_current(self.id(), name) {
            return Err(Error::Nested);
        }
        let replaces = previous.as_ref().map(|previous| previous.fresh_until());
        let mut answer = None;
        for _ in 0..RELOAD_ROUNDS {
            match self.fly(name) {
                // The others are served meanwhile; who asks for a reload waits for its end.
                Boarded::Leader(completer, waiter) => {
                    let meanwhile =
                        previous.as_ref().and_then(|entry| self.while_refreshing(entry));
                    if let Some(Serving { served, until, .. }) = &meanwhile {
                        completer.provide(|| self.serve_meanwhile(served, *until));
                    }
                    let meanwhile = meanwhile.map(|serving| serving.refresh(FOREVER));
                    let plan = Plan::Reload(Reload { replaces, meanwhile });
                    self.launch(*Departure::of(completer, plan, previous), load);
                    return waiter.completion().await.unwrap_or_else(abandoned);
                }
                Boarded::Follower(waiter) => {
                    let waiting = Waiting { waiter, expired: None };
                    let Some(followed) = waiting.follow_to_its_end(self).await else { continue };
                    let is_new = followed
                        .as_ref()
                        .is_ok_and(|fetched| Some(fetched.entry().fresh_until()) != replaces);
                    // What brought nothing new may have read what there was, once.
                    if answer.replace(followed).is_some() || is_new {
                        break;
                    }
                }
            }
        }
        answer.unwrap_or(Err(Error::WaitTimeout { after: self.policy.wait_timeout }))
    }
}

/// How often a reload boards, at most, while each flight is overtaken by an invalidation.
const RELOAD_ROUNDS: usize = 16;
