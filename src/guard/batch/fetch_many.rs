use std::{borrow::Borrow, error, future::Future, sync::Arc};

use futures::{StreamExt, future::join_all, stream};
use tokio::time::Instant;
use tracing::Instrument;

use super::batch_load::{A_LITTLE, Batch, BatchKey, Member, Origin};
use crate::{
    Entry, Error, Fault, Fetched, Key, Loaded, Outcome, Tier,
    freshness::Found,
    guard::{
        answer::{Answer, abandoned},
        boarding::Step,
        core::{Core, Guard},
        departure::{Departure, Plan},
        limits::FOREVER,
        load::Place,
        nesting::Loading,
        refresh::RefreshPermit,
        waiting::Waiting,
    },
    key::name_of,
    observe::Stopwatch,
};

impl<K: Key + ?Sized, V: Send + Sync + 'static> Guard<K, V> {
    /// The values of many keys, in their order, as [`fetch`](Self::fetch) would find each: with one
    /// read of the far tier, and one call of `load_many` with those keys for which this process got
    /// the lease. The others are awaited.
    ///
    /// More than 10,000 keys go in rounds of so many, each with a read and a load of its own.
    ///
    /// `load_many` returns the keys it was asked for, in any order; those it leaves out are taken as
    /// [`absent`](Loaded::absent), as rows that a query did not find. It is called again, with one key,
    /// where another process held the lease and came to no answer (a failure that it shares is an answer), or where what was loaded is older than an acknowledged write. Its call takes
    /// one place in the bulkhead.
    ///
    /// # Cancel safety
    ///
    /// As for [`fetch`](Self::fetch): the load goes on and fills the cache.
    ///
    /// # Errors
    ///
    /// As for [`fetch`](Self::fetch), for each key. A failed load fails all keys it was called with;
    /// [`Loaded::failed`] fails one.
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
        let name_of = |key: &Q| Arc::from(&*name_of(key.borrow()));
        let origin = Origin::new(&self.core, name_of, load_many);
        let mut answers = Vec::with_capacity(keys.len());
        for round in keys.chunks(ROUND) {
            answers.extend(self.fetch_round(round, &origin).await);
        }
        answers
    }

    async fn fetch_round<Q>(&self, keys: &[Q], origin: &Arc<Origin<Q, V>>) -> Vec<Answer<V>>
    where
        Q: Borrow<K> + BatchKey,
    {
        let core = &self.core;
        let begun = Stopwatch::start();
        let (slots, wanted) = look_near_many(core, keys);
        let awaiting = core.board_many(&wanted, origin).await;
        let answers = wanted.into_iter().zip(awaiting);
        let answers =
            answers.map(|(wanted, awaiting)| core.settle(wanted, awaiting, origin, begun));
        let mut answers = join_all(answers).await.into_iter();
        let fill = |slot| match slot {
            Slot::Near(entry) => Ok(Fetched::new(entry, Outcome::Hit(Tier::Near))),
            Slot::Wanted => answers.next().unwrap_or_else(abandoned),
        };
        slots.into_iter().map(fill).collect()
    }
}

/// How many keys are read, leased and loaded together; more go in rounds. Bounds the memory of one call, some
/// 3 KB for each key that is loaded, and the length of its query.
const ROUND: usize = 10_000;

/// How many entries are checked for purges at the same time.
const A_FEW: usize = 16;

/// How many flights without room look for something stale at the same time.
const REFUSED_AT_ONCE: usize = 64;

/// Where the answer to one of the keys comes from.
enum Slot<V> {
    /// A near hit, which the look has counted.
    Near(Arc<Entry<V>>),
    /// The next of the wanted ones.
    Wanted,
}

/// A key that the near tier does not just answer.
struct Wanted<Q, V> {
    found: Found<V>,
    name: Arc<str>,
    key: Q,
}

/// How the answer to a wanted key comes about.
enum Awaiting<V> {
    Done(Answer<V>),
    Lead(Waiting<V>),
    Follow(Waiting<V>),
}

/// Names and clones are made by the user's code, which may panic: nothing is boarded yet.
fn look_near_many<K, Q, V>(core: &Core<V>, keys: &[Q]) -> (Vec<Slot<V>>, Vec<Wanted<Q, V>>)
where
    K: Key + ?Sized,
    Q: Borrow<K> + Clone,
    V: Send + Sync + 'static,
{
    let (mut slots, mut wanted) = (Vec::with_capacity(keys.len()), Vec::new());
    for key in keys {
        let name = name_of(key.borrow());
        slots.push(match core.look_near(&name) {
            Found::Fresh(entry) => Slot::Near(entry),
            found => {
                wanted.push(Wanted { found, name: (*name).into(), key: key.clone() });
                Slot::Wanted
            }
        });
    }
    (slots, wanted)
}

impl<V: Send + Sync + 'static> Core<V> {
    /// Boards all, reads the far tier once for those that read, and launches the flights that it leads.
    async fn board_many<Q: BatchKey>(
        self: &Arc<Self>,
        wanted: &[Wanted<Q, V>],
        origin: &Arc<Origin<Q, V>>,
    ) -> Vec<Awaiting<V>> {
        let mut permit = None;
        let board =
            |wanted: &Wanted<Q, V>| (self.board_one(wanted, &mut permit), wanted.key.clone());
        let steps: Vec<_> = wanted.iter().map(board).collect();
        if steps.is_empty() {
            return Vec::new();
        }
        let (task, core, origin) = (self.tasks.begin(), self.clone(), origin.clone());
        let boarding = async move {
            let _task = task;
            core.decide_and_launch(steps, permit, origin).await
        };
        // On a task of its own: other callers may wait for the flights already, so that they must begin
        // although this caller goes away.
        let boarding = Loading::scope(Loading::current(), boarding).in_current_span();
        match tokio::spawn(boarding).await {
            Ok(awaiting) => awaiting,
            Err(_) => wanted.iter().map(|_| Awaiting::Done(abandoned())).collect(),
        }
    }

    fn board_one<Q>(
        self: &Arc<Self>,
        wanted: &Wanted<Q, V>,
        permit: &mut Option<RefreshPermit>,
    ) -> Step<V> {
        let due = match &wanted.found {
            Found::Early(entry) => self.early(entry.clone(), Tier::Near),
            Found::Stale(entry) => self.stale(entry.clone(), Tier::Near),
            Found::Fresh(_) | Found::Expired(_) | Found::Dead(_) | Found::Nothing => {
                return self.board_in_batch(&wanted.name);
            }
        };
        let departure = self.refresh_near(&wanted.name, &due, permit);
        Step::Done(Ok(due.served), departure)
    }

    async fn decide_and_launch<Q: BatchKey>(
        self: Arc<Self>,
        steps: Vec<(Step<V>, Q)>,
        mut permit: Option<RefreshPermit>,
        origin: Arc<Origin<Q, V>>,
    ) -> Vec<Awaiting<V>> {
        let mut found = self.read_many(&steps).await.into_iter();
        let mut departures = Vec::new();
        let mut awaiting = Vec::with_capacity(steps.len());
        for (step, key) in steps {
            let step = match step {
                Step::Read(reader) => {
                    let found = found.next().unwrap_or(Ok(None));
                    self.decide(reader, found, &mut permit)
                }
                step => step,
            };
            let (departure, how) = match step {
                // `decide` reads no more, and a batch does not pass: it is one load.
                Step::Read(_) | Step::Pass(_) => (None, Awaiting::Done(abandoned())),
                Step::Done(answer, departure) => (departure, Awaiting::Done(answer)),
                Step::Lead(departure, waiting) => (Some(departure), Awaiting::Lead(waiting)),
                Step::Follow(waiting) => (None, Awaiting::Follow(waiting)),
            };
            departures.extend(departure.map(|departure| (departure, key)));
            awaiting.push(how);
        }
        // With the permit that nothing came of.
        drop(permit);
        self.launch_many(departures, origin).await;
        awaiting
    }

    /// Launches the flights once there is a place for their load: none asks for a lease before. Refreshes, for
    /// which no caller waits, go along if there is one at once.
    async fn launch_many<Q: BatchKey>(
        self: &Arc<Self>,
        mut departures: Vec<(Box<Departure<V>>, Q)>,
        origin: Arc<Origin<Q, V>>,
    ) {
        let mut place = self.place_for_all(&departures, false).await;
        if place.is_err() {
            let is_refresh = |(departure, _): &(Box<Departure<V>>, Q)| {
                matches!(departure.plan, Plan::Refresh(..))
            };
            let (refreshes, awaited) = departures.into_iter().partition(is_refresh);
            self.refuse_all(refreshes, &place).await;
            departures = awaited;
            place = self.place_for_all(&departures, true).await;
        }
        if place.is_err() {
            return self.refuse_all(departures, &place).await;
        }
        let batch = Batch::of(origin, departures.len(), place.ok().flatten());
        for (departure, key) in departures {
            let member = Member::of(&batch, key, departure.completer.name().clone());
            self.launch(*departure, member);
        }
    }

    /// A place for the load of all, if there is anything to load.
    async fn place_for_all<Q>(
        &self,
        departures: &[(Box<Departure<V>>, Q)],
        queues: bool,
    ) -> Result<Place, Error> {
        if departures.is_empty() {
            return Ok(None);
        }
        // Callers hear that there is no room a little before a load would be too late.
        let deadline = Instant::now() + self.policy.load_timeout.min(FOREVER);
        let deadline = deadline.checked_sub(A_LITTLE).unwrap_or(deadline);
        let depth = |(departure, _): &(Box<Departure<V>>, Q)| departure.completer.depth().clone();
        let depths: Vec<_> = departures.iter().map(depth).collect();
        match queues {
            true => self.place_by(deadline, true, &depths).await,
            false => {
                let deepest = depths.iter().max_by_key(|depth| depth.deepest());
                deepest.map_or(Ok(None), |deepest| self.free_place(deepest))
            }
        }
    }

    async fn refuse_all<Q>(
        &self,
        departures: Vec<(Box<Departure<V>>, Q)>,
        place: &Result<Place, Error>,
    ) {
        let Err(error) = place else { return };
        let refusing = departures.into_iter().map(|(departure, _)| async {
            let completer = departure.completer;
            let resolution = self.leave_as_served(&completer, error.clone()).await;
            self.complete(completer, resolution);
        });
        stream::iter(refusing).buffer_unordered(REFUSED_AT_ONCE).collect::<()>().await;
    }

    /// What the far tier has of each name that is read.
    async fn read_many<Q>(
        &self,
        steps: &[(Step<V>, Q)],
    ) -> Vec<Result<Option<Arc<Entry<V>>>, Fault>> {
        let name = |step: &'_ (Step<V>, Q)| match &step.0 {
            Step::Read(reader) => Some(reader.name().clone()),
            _ => None,
        };
        let names: Vec<Arc<str>> = steps.iter().filter_map(name).collect();
        if names.is_empty() {
            return Vec::new();
        }
        let names: Vec<&str> = names.iter().map(|name| &**name).collect();
        // Before the read: one that goes through meanwhile does not make what was read right.
        let may_ask: Vec<_> = names.iter().map(|name| self.may_ask_about(name)).collect();
        let reading = async {
            let mut found = self.far.read_many(&names).await;
            // One answer says that the far tier is there.
            match found.pop() {
                Some(Err(fault)) if found.iter().all(Result::is_err) => Err(fault),
                last => {
                    found.extend(last);
                    Ok(found)
                }
            }
        };
        match self.ask(reading).await {
            Ok(found) => {
                let faults = found.iter().filter_map(|found| found.as_ref().err());
                faults.for_each(|fault| self.observer.far_failed(fault));
                let found = may_ask.into_iter().zip(found);
                let current = found.map(|(may_ask, found)| async {
                    may_ask?;
                    self.if_current(found?).await
                });
                // A few at a time: the first to ask learns the epochs for the others.
                stream::iter(current).buffered(A_FEW).collect().await
            }
            Err(fault) => names.iter().map(|_| Err(fault.clone())).collect(),
        }
    }

    async fn settle<Q: BatchKey>(
        self: &Arc<Self>,
        wanted: Wanted<Q, V>,
        awaiting: Awaiting<V>,
        origin: &Arc<Origin<Q, V>>,
        begun: Stopwatch,
    ) -> Answer<V> {
        let (fetching, name) = (self.observer.fetching(begun), wanted.name);
        let answer = match awaiting {
            Awaiting::Done(answer) => answer,
            Awaiting::Lead(waiting) => waiting.lead(self, None).await,
            Awaiting::Follow(waiting) => match waiting.follow(self, None).await {
                Some(answer) => answer,
                None => {
                    let member = Member::single(origin.clone(), wanted.key, name.clone());
                    fetching.within(Box::pin(self.await_answer(&name, None, member))).await
                }
            },
        };
        fetching.answered(Some(&name), &answer);
        answer
    }
}
