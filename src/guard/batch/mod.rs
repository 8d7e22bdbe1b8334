//! Many keys in one fetch: one read, the leases side by side, one load.
//!
//! - Each key has a flight of its own, which others may board, and which ends by itself. That is why a
//!   batch cannot lock up with another one, or with single fetches: a flight that must wait for another
//!   process first *stands by*, and the batch's load begins without it.
//! - When every flight has decided, one load is made for those that hold a lease. A flight that stood by
//!   and is granted the lease later, or must load again, loads its one key.

use std::{borrow::Borrow, error, future::Future, sync::Arc, time::Duration};

use futures::{FutureExt, future::join_all};
use tokio::time::Instant;
use tracing::Instrument;

use self::joint::{Batch, BatchKey, Member, Origin};
use super::{
    Core, Guard,
    fetch::{Answer, abandoned},
    fly::{Arrival, Route},
    nesting::Loading,
};
use crate::{
    Error, Fetched, Key, Loaded, Outcome, Tier,
    flight::{Boarding, Landing, Seat, Ticket},
    near::Look,
};

mod joint;

impl<K: Key + ?Sized, V: Send + Sync + 'static> Guard<K, V> {
    /// The values of many keys, in their order, as [`fetch`](Self::fetch) would find each: with one
    /// read of the far tier, and one call of `load_many` with those keys for which this process got
    /// the lease. The others are awaited.
    ///
    /// `load_many` returns the keys it was asked for, in any order; those it leaves out are taken as
    /// [`absent`](Loaded::absent), as rows that a query did not find. It is called again, with one key,
    /// where another process has failed to load it, or the answer was older than an acknowledged
    /// write. Its call takes one place in the bulkhead.
    ///
    /// # Cancel safety
    ///
    /// As for [`fetch`](Self::fetch): the load goes on and fills the cache.
    ///
    /// # Errors
    ///
    /// As for [`fetch`](Self::fetch), for each key. A failed load fails all keys it was called with.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[derive(Clone)] struct Database;
    /// # impl Database { async fn users(&self, ids: &[u64]) -> std::io::Result<Vec<(u64, String, u64)>> { Ok(vec![]) } }
    /// # async fn show(guard: cattleguard::Guard<u64, String>, database: Database) {
    /// use cattleguard::Loaded;
    ///
    /// let users = guard
    ///     .fetch_many(&[7, 8, 9], move |ids: Vec<u64>| {
    ///         let database = database.clone();
    ///         async move {
    ///             // SELECT id, name, version FROM users WHERE id = ANY($1)
    ///             let rows = database.users(&ids).await?;
    ///             let loaded = |(id, name, version)| (id, Loaded::found(name, version));
    ///             Ok::<_, std::io::Error>(rows.into_iter().map(loaded).collect())
    ///         }
    ///     })
    ///     .await;
    /// # }
    /// ```
    pub async fn fetch_many<Q, F, Fut, E>(
        &self,
        keys: &[Q],
        load_many: F,
    ) -> Vec<Result<Fetched<V>, Error>>
    where
        Q: Borrow<K> + Clone + Send + Sync + 'static,
        F: Fn(Vec<Q>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Vec<(Q, Loaded<V>)>, E>> + Send + 'static,
        E: Into<Box<dyn error::Error + Send + Sync>> + 'static,
    {
        let core = &self.core;
        let origin: Arc<Origin<Q, V>> = Arc::new(Origin {
            core: core.clone(),
            name_of: |key| (*key.borrow().name()).into(),
            load: Box::new(move |keys| {
                let loading = load_many(keys);
                let shared = |error: E| Error::Origin(Arc::from(error.into()));
                async move { loading.await.map_err(shared) }.boxed()
            }),
        });
        let mut boarded = Vec::new();
        let answers: Vec<_> = keys
            .iter()
            .map(|key| {
                let name: Arc<str> = (*key.borrow().name()).into();
                core.board_one(name, key, &origin, &mut boarded)
            })
            .collect();
        if !boarded.is_empty() {
            let task = core.tasks.begin();
            let flying = core.clone().fly_many(boarded, origin);
            let flying = async move {
                let _task = task;
                flying.await;
            };
            tokio::spawn(Loading::scope(Loading::current(), flying).in_current_span());
        }
        join_all(answers.into_iter().map(|answer| core.settle(answer))).await
    }
}

/// How the answer to one key of a batch comes about.
enum Awaiting<Q: BatchKey, V: Send + Sync + 'static> {
    Answered(Answer<V>),
    Leader(Seat<Answer<V>>),
    /// With what it takes to go round again.
    Follower(Seat<Answer<V>>, Arc<str>, Member<Q, V>),
}

/// A flight of a batch, before its take-off.
struct Boarded<Q, V> {
    ticket: Ticket<Answer<V>>,
    key: Q,
    /// For a near entry that is refreshed.
    refresh: Option<Route>,
}

impl<V: Send + Sync + 'static> Core<V> {
    fn board_one<Q: BatchKey>(
        self: &Arc<Self>,
        name: Arc<str>,
        key: &Q,
        origin: &Arc<Origin<Q, V>>,
        boarded: &mut Vec<Boarded<Q, V>>,
    ) -> Awaiting<Q, V> {
        let (served, fresh_for) = match self.look_near(&name) {
            // Counted by the look already.
            Look::Fresh(entry) => {
                return Awaiting::Answered(Ok(Fetched::new(entry, Outcome::Hit(Tier::Near))));
            }
            Look::Early(entry) => {
                let fresh_for = self.beyond(&entry);
                (Fetched::new(entry, Outcome::Hit(Tier::Near)), fresh_for)
            }
            Look::Stale(entry) => (Fetched::new(entry, Outcome::Stale(Tier::Near)), Duration::ZERO),
            Look::Miss => return self.board_missing(name, key, origin, boarded),
        };
        if let Some(permit) = self.refresh_permit(&name) {
            let valid = || self.near.holds(&name, served.entry());
            let refreshed = self.flights.refresh(&name, Ok(served.clone()), abandoned, valid);
            boarded.extend(refreshed.map(|ticket| {
                let refresh = Some(Route::Refresh { permit, fresh_for });
                Boarded { ticket, key: key.clone(), refresh }
            }));
        }
        Awaiting::Answered(self.counted(Ok(served)))
    }

    fn board_missing<Q: BatchKey>(
        self: &Arc<Self>,
        name: Arc<str>,
        key: &Q,
        origin: &Arc<Origin<Q, V>>,
        boarded: &mut Vec<Boarded<Q, V>>,
    ) -> Awaiting<Q, V> {
        if Loading::is_current(self.id(), &name) {
            return Awaiting::Answered(self.counted(Err(Error::Nested)));
        }
        if let Some(answer) = self.paused(&name) {
            return Awaiting::Answered(self.counted(answer));
        }
        match self.flights.fly(&name, abandoned) {
            Boarding::Leader(ticket, seat) => {
                boarded.push(Boarded { ticket, key: key.clone(), refresh: None });
                Awaiting::Leader(seat)
            }
            Boarding::Follower(seat) => {
                Awaiting::Follower(seat, name, Member::single(origin.clone(), key.clone()))
            }
            // `fly` does not go alone.
            Boarding::Alone(_) => Awaiting::Answered(abandoned()),
        }
    }

    async fn settle<Q: BatchKey>(self: &Arc<Self>, awaiting: Awaiting<Q, V>) -> Answer<V> {
        let begun = Instant::now();
        let answer = match awaiting {
            Awaiting::Answered(answer) => return answer,
            Awaiting::Leader(seat) => seat.landed().await.unwrap_or_else(abandoned),
            Awaiting::Follower(seat, name, member) => match seat.landed().await {
                Some(answer) => answer.map(|fetched| fetched.with(fetched.outcome().followed())),
                None => Box::pin(Self::fly_along(self.clone(), name, member)).await,
            },
        };
        self.observer.waited(begun.elapsed());
        self.counted(answer)
    }

    fn counted(&self, answer: Answer<V>) -> Answer<V> {
        match &answer {
            Ok(fetched) => self.observer.fetched(fetched.outcome()),
            Err(error) => self.observer.failed(error),
        }
        answer
    }

    /// On a task of its own, so that no caller's end leaves those who follow without an answer.
    async fn fly_many<Q: BatchKey>(
        self: Arc<Self>,
        boarded: Vec<Boarded<Q, V>>,
        origin: Arc<Origin<Q, V>>,
    ) {
        let (refreshing, missing): (Vec<_>, Vec<_>) =
            boarded.into_iter().partition(|boarded| boarded.refresh.is_some());
        let marks: Vec<_> = missing.iter().map(|boarded| boarded.ticket.mark()).collect();
        let names: Vec<_> = missing.iter().map(|boarded| &**boarded.ticket.name()).collect();
        let reading = async {
            let mut found = self.far.read_many(&names).await;
            // One answer says that the far tier is there.
            match found.pop() {
                Some(Err(error)) if found.iter().all(Result::is_err) => Err(error),
                last => {
                    found.extend(last);
                    Ok(found)
                }
            }
        };
        let found = self.ask(reading).await;
        let mut members: Vec<_> = refreshing
            .into_iter()
            .filter_map(|boarded| Some((boarded.ticket, boarded.key, boarded.refresh?)))
            .collect();
        let mut found = found.ok().map(Vec::into_iter);
        for (Boarded { ticket, key, .. }, mark) in missing.into_iter().zip(marks) {
            let look = match found.as_mut().and_then(Iterator::next) {
                Some(Ok(found)) => self.look_at(found),
                Some(Err(_)) | None => {
                    members.push((ticket, key, Route::Unleased));
                    continue;
                }
            };
            let (served, fresh_for) = match look {
                Look::Miss => {
                    members.push((ticket, key, Route::Leased));
                    continue;
                }
                Look::Fresh(entry) => {
                    self.land(ticket, self.arrive(mark, entry, Outcome::Hit(Tier::Far)));
                    continue;
                }
                Look::Early(entry) => {
                    let fresh_for = self.beyond(&entry);
                    (Fetched::new(entry, Outcome::Hit(Tier::Far)), fresh_for)
                }
                Look::Stale(entry) => {
                    (Fetched::new(entry, Outcome::Stale(Tier::Far)), Duration::ZERO)
                }
            };
            match self.refresh_permit(ticket.name()) {
                Some(permit) => {
                    ticket.answer(Landing::for_all(Ok(served)));
                    members.push((ticket, key, Route::Refresh { permit, fresh_for }));
                }
                None => {
                    let landing = Landing::for_those_before(mark, Ok(served));
                    self.land(ticket, Arrival::of(landing));
                }
            }
        }
        let batch = Batch::of(origin, members.len());
        for (ticket, key, route) in members {
            self.clone().take_off(ticket, Member::of(&batch, key), route);
        }
    }
}
