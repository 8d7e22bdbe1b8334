//! Many keys in one fetch: one read, the leases side by side, one load.
//!
//! - Each key has a flight of its own, which others may board, and which ends by itself. That is why a
//!   batch cannot lock up with another one, or with single fetches: a flight that must wait for another
//!   process first *stands by*, and the batch's load begins without it.
//! - When every flight has decided, one load is made for those that hold a lease. A flight that stood by
//!   and is granted the lease later, or must load again, loads its one key.

use std::{borrow::Borrow, error, future::Future, sync::Arc};

use futures::{FutureExt, future::join_all};
use tracing::Instrument;

use self::joint::{Batch, BatchKey, Member, Origin};
use super::{
    Core, Guard,
    fetch::{Answer, Found, abandoned},
    fly::{Arrival, Route},
    nesting::Loading,
    refresh::RefreshPermit,
};
use crate::{
    Error, Fetched, Key, Loaded, Moment, Outcome, Tier,
    flight::{Boarding, Landing, Mark, Seat, Ticket},
    near::Look,
    observe::Stopwatch,
};

mod joint;

impl<K: Key + ?Sized, V: Send + Sync + 'static> Guard<K, V> {
    /// The values of many keys, in their order, as [`fetch`](Self::fetch) would find each: with one
    /// read of the far tier, and one call of `load_many` with those keys for which this process got
    /// the lease. The others are awaited.
    ///
    /// `load_many` returns the keys it was asked for, in any order; those it leaves out are taken as
    /// [`absent`](Loaded::absent), as rows that a query did not find. It is called again, with one key,
    /// where another process held the lease and came to no answer (a failure that it shares as a failure
    /// pause is an answer), or where what was loaded is older than an acknowledged write. Its call takes
    /// one place in the bulkhead.
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
        let begun = Stopwatch::start();
        // Names and clones are made by the user's code, which may panic: nothing is boarded yet.
        let looked: Vec<_> = keys
            .iter()
            .map(|key| {
                let name = key.borrow().name();
                match core.look_near(&name) {
                    Look::Fresh(entry) => Ok(Fetched::new(entry, Outcome::Hit(Tier::Near))),
                    look => Err(Wanted { look, name: (*name).into(), key: key.clone() }),
                }
            })
            .collect();
        let origin: Arc<Origin<Q, V>> = Arc::new(Origin {
            core: core.clone(),
            name_of: |key| (*key.borrow().name()).into(),
            load: Box::new(move |keys| {
                let loading = load_many(keys);
                let shared = |error: E| Error::Origin(Arc::from(error.into()));
                async move { loading.await.map_err(shared) }.boxed()
            }),
        });
        let mut boarding = Boarded::default();
        let answers: Vec<_> = looked
            .into_iter()
            .map(|looked| match looked {
                Ok(hit) => Awaiting::Counted(Ok(hit)),
                Err(wanted) => core.board_one(wanted, &origin, &mut boarding),
            })
            .collect();
        if boarding.is_empty() {
            // With the permit that nothing came of.
            drop(boarding);
        } else {
            let task = core.tasks.begin();
            let flying = core.clone().fly_many(boarding, origin);
            let flying = async move {
                let _task = task;
                flying.await;
            };
            tokio::spawn(Loading::scope(Loading::current(), flying).in_current_span());
        }
        join_all(answers.into_iter().map(|answer| core.settle(answer, begun))).await
    }
}

/// A key that the near tier does not just answer.
struct Wanted<Q, V> {
    look: Look<V>,
    name: Arc<str>,
    key: Q,
}

/// How the answer to one key of a batch comes about.
enum Awaiting<Q: BatchKey, V: Send + Sync + 'static> {
    /// A near hit, which the look has counted.
    Counted(Answer<V>),
    Answered(Answer<V>),
    Leader(Seat<Answer<V>>),
    /// With what it takes to go round again.
    Follower(Seat<Answer<V>>, Member<Q, V>),
}

/// The flights of a batch, before their take-off.
struct Boarded<Q, V> {
    missing: Vec<(Ticket<Answer<V>>, Q)>,
    flying: Vec<(Ticket<Answer<V>>, Q, Route)>,
    /// One for all: they are one load.
    refresh_permit: Option<RefreshPermit>,
}

impl<Q, V> Default for Boarded<Q, V> {
    fn default() -> Self {
        Self { missing: Vec::new(), flying: Vec::new(), refresh_permit: None }
    }
}

impl<Q, V> Boarded<Q, V> {
    fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.flying.is_empty()
    }
}

impl<V: Send + Sync + 'static> Core<V> {
    fn board_one<Q: BatchKey>(
        self: &Arc<Self>,
        Wanted { look, name, key }: Wanted<Q, V>,
        origin: &Arc<Origin<Q, V>>,
        boarded: &mut Boarded<Q, V>,
    ) -> Awaiting<Q, V> {
        let (served, refresh) = match look {
            Look::Fresh(entry) => {
                return Awaiting::Counted(Ok(Fetched::new(entry, Outcome::Hit(Tier::Near))));
            }
            Look::Early(entry) => self.early(entry, Tier::Near),
            Look::Stale(entry) => self.stale(entry, Tier::Near),
            Look::Miss => return self.board_missing(name, key, origin, boarded),
        };
        if let Some(permit) = self.refresh_permit(&name, &mut boarded.refresh_permit) {
            let valid = || self.near.holds(&name, served.entry());
            let meanwhile = || self.meanwhile(&served, refresh.until);
            let ticket = self.flights.refresh(&name, meanwhile, abandoned, valid);
            let refreshing = ticket.map(|ticket| (ticket, key, Route::Refresh(permit, refresh)));
            boarded.flying.extend(refreshing);
        }
        Awaiting::Answered(Ok(served))
    }

    fn board_missing<Q: BatchKey>(
        self: &Arc<Self>,
        name: Arc<str>,
        key: Q,
        origin: &Arc<Origin<Q, V>>,
        boarded: &mut Boarded<Q, V>,
    ) -> Awaiting<Q, V> {
        if Loading::is_current(self.id(), &name) {
            return Awaiting::Answered(Err(Error::Nested));
        }
        if let Some(answer) = self.paused(&name) {
            return Awaiting::Answered(answer);
        }
        match self.flights.fly(&name, abandoned) {
            Boarding::Leader(ticket, seat) => {
                boarded.missing.push((ticket, key));
                Awaiting::Leader(seat)
            }
            Boarding::Follower(seat) => {
                seat.waits_at(Loading::depth(self.id()));
                Awaiting::Follower(seat, Member::single(origin.clone(), key, name))
            }
            // `fly` does not go alone.
            Boarding::Alone(_) => Awaiting::Answered(abandoned()),
        }
    }

    async fn settle<Q: BatchKey>(
        self: &Arc<Self>,
        awaiting: Awaiting<Q, V>,
        begun: Stopwatch,
    ) -> Answer<V> {
        let now = || self.now();
        let fetching = match awaiting {
            Awaiting::Counted(answer) => return answer,
            _ => self.observer.fetching(begun),
        };
        let answer = match awaiting {
            Awaiting::Counted(answer) | Awaiting::Answered(answer) => answer,
            Awaiting::Leader(seat) => seat.landed(now).await.unwrap_or_else(abandoned),
            Awaiting::Follower(seat, member) => match seat.landed(now).await {
                Some(answer) => answer.map(|fetched| fetched.with(fetched.outcome().followed())),
                None => {
                    let name = member.name().clone();
                    fetching.within(Box::pin(Self::fly_along(self, name, None, member))).await
                }
            },
        };
        fetching.answered(&answer);
        answer
    }

    /// On a task of its own, so that no caller's end leaves those who follow without an answer.
    async fn fly_many<Q: BatchKey>(
        self: Arc<Self>,
        boarded: Boarded<Q, V>,
        origin: Arc<Origin<Q, V>>,
    ) {
        let Boarded { missing, mut flying, mut refresh_permit } = boarded;
        let marks: Vec<_> = missing.iter().map(|(ticket, _)| ticket.mark()).collect();
        let found = self.read_many(&missing).await;
        for (((ticket, key), mark), found) in missing.into_iter().zip(marks).zip(found) {
            let decided = self.decide(ticket, mark, found, &mut refresh_permit);
            flying.extend(decided.map(|(ticket, route)| (ticket, key, route)));
        }
        let batch = Batch::of(origin, flying.len());
        for (ticket, key, route) in flying {
            let member = Member::of(&batch, key, ticket.name().clone());
            self.clone().take_off(ticket, member, route);
        }
    }

    /// What the far tier has of each, or `None` where it did not say.
    async fn read_many<Q>(&self, missing: &[(Ticket<Answer<V>>, Q)]) -> Vec<Option<Found<V>>> {
        if missing.is_empty() {
            return Vec::new();
        }
        let names: Vec<_> = missing.iter().map(|(ticket, _)| &**ticket.name()).collect();
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
        match self.ask(reading).await {
            Ok(found) => {
                let failed = |error: &_| self.observer.far_failed(error);
                found
                    .into_iter()
                    .map(|found| Some(self.look_at(found.inspect_err(failed).ok()?)))
                    .collect()
            }
            Err(_) => names.iter().map(|_| None).collect(),
        }
    }

    /// Lands the flight, or says how it goes on.
    fn decide(
        &self,
        ticket: Ticket<Answer<V>>,
        mark: Mark,
        found: Option<Found<V>>,
        refresh_permit: &mut Option<RefreshPermit>,
    ) -> Option<(Ticket<Answer<V>>, Route)> {
        let arrival = match found {
            Some(Found::Nothing) => return Some((ticket, Route::Leased)),
            Some(Found::Expired(fetched)) => {
                ticket.offer(|| self.meanwhile(&fetched, Moment::FAR_FUTURE));
                return Some((ticket, Route::Leased));
            }
            Some(Found::Fresh(entry)) => self.arrive(mark, entry, Outcome::Hit(Tier::Far)),
            Some(Found::Due(served, refresh)) => {
                if let Some(permit) = self.refresh_permit(ticket.name(), refresh_permit) {
                    ticket.answer(|| self.meanwhile(&served, refresh.until));
                    return Some((ticket, Route::Refresh(permit, refresh)));
                }
                Arrival::of(Landing::for_those_before(mark, Ok(served)))
            }
            None => match self.pauses.now(ticket.name(), || self.now()) {
                // The origin is not asked because the far tier cannot say more.
                Some(pause) => Arrival::failed(pause.error(self.now())),
                None => return Some((ticket, Route::Unleased)),
            },
        };
        self.land(ticket, arrival);
        None
    }
}
