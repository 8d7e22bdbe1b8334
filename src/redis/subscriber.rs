//! The one subscription of a process for all that use a [`Connection`](super::Connection): guards' messages, locks' turns,
//! wake-ups and confirmations for this process.
//!
//! - Who listens [joins](Subscriber::join) with a topic, and leaves by dropping the [`Membership`]. It hears its own
//!   topic and nothing else.
//! - It is told `connected` once the server has confirmed all its channels, and `disconnected` before the next attempt.
//! - In a Cluster of Redis 7 there is a line to each primary. When one ends, all do, and are made again from what the
//!   Cluster says then: a failover or a slot that moved.

use std::{
    collections::{HashMap, HashSet},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ::redis::{Cmd, Msg};
use futures::{
    FutureExt,
    future::{join_all, select_all},
};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use super::{
    channel::{Bucket, Place, ProcessId, Topic, random_process},
    cluster::Primary,
    confirmations::{Awaited, Confirming, Owed},
    fault::is_not_offered,
    line::{Kind, Line, Talk},
    message::{Letter, Message, ReplyTo},
    options::CONNECT_TIMEOUT,
    route::Route,
};
use crate::{
    Fault, FaultKind,
    backoff::{Backoff, spread},
    subscription::{Feed, State, Subscription},
};

/// The longest pause between attempts to subscribe, before it is spread.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// How much later than this process another one may subscribe again once the server is back: the longest
/// pause, and time to connect.
const ALL_BACK: Duration = LONGEST_PAUSE.saturating_add(Duration::from_millis(500));

/// How often a Cluster without sharded channels is asked whether it has them now.
const ASK_FOR_SHARDS: Duration = Duration::from_secs(10);

/// Hears what arrives. Called on the task that reads the messages: must be quick and must not block.
pub(super) trait Listener: Send + Sync + 'static {
    /// Whom to confirm to, once this returns.
    fn on_message(&self, payload: &[u8]) -> Option<ReplyTo>;
    fn on_connected(&self) {}
    fn on_disconnected(&self) {}
    /// The server refuses the channels.
    fn on_refused(&self) {}
}

/// What is listened to.
#[derive(Clone)]
pub(super) struct Topics {
    /// Has a sharded channel in each bucket where there are such, and a plain one in any case: a publisher may not be
    /// allowed to publish to the others.
    pub(super) events: String,
    /// Has a plain channel only, and no messages.
    pub(super) presence: Option<String>,
    pub(super) is_sharded: bool,
}

pub(super) struct Subscriber {
    subscription: Subscription<Hub>,
    hub: Arc<Shared>,
}

/// One that listens, until it is dropped.
pub(super) struct Membership {
    member: Arc<Member>,
    subscriber: Arc<Subscriber>,
}

struct Member {
    topics: Topics,
    listener: Arc<dyn Listener>,
    state: watch::Sender<State>,
}

struct Hub {
    shared: Arc<Shared>,
}

struct Shared {
    route: Route,
    process: ProcessId,
    /// The topic of this process' own letters.
    letters: String,
    /// Shared by those that look through them: this is asked for with every message.
    members: Mutex<Arc<Vec<Arc<Member>>>>,
    /// Somebody has joined or left.
    changed: Notify,
    awaited: Awaited,
    owed: Owed,
    /// Whether there are sharded channels, as far as this process knows.
    is_sharded: AtomicBool,
    connected_before: AtomicBool,
    /// Until when other processes may not have subscribed again. A process that subscribes
    /// earlier than they do would count too few.
    others_back: Mutex<Option<Instant>>,
}

impl Subscriber {
    pub(super) fn new(route: Route) -> Self {
        let process = random_process();
        let hub = Arc::new(Shared {
            owed: Owed::new(route.clone(), process),
            route,
            process,
            letters: Place::Everywhere.process(process),
            members: Mutex::default(),
            changed: Notify::new(),
            awaited: Awaited::default(),
            is_sharded: AtomicBool::new(false),
            connected_before: AtomicBool::new(false),
            others_back: Mutex::default(),
        });
        Self { subscription: Subscription::new(Hub { shared: hub.clone() }), hub }
    }

    pub(super) fn join(
        self: &Arc<Self>,
        topics: Topics,
        listener: Arc<dyn Listener>,
    ) -> Membership {
        // Asked under the lock: a member that the end of a connection does not find here finds that it has ended.
        let mut members = self.hub.members.lock();
        let state = match *self.subscription.state() {
            State::Broken => State::Broken,
            State::Starting | State::Connected => State::Starting,
        };
        let state = watch::Sender::new(state);
        let member = Arc::new(Member { topics, listener, state });
        Arc::make_mut(&mut members).push(member.clone());
        drop(members);
        self.hub.changed.notify_one();
        Membership { member, subscriber: self.clone() }
    }

    pub(super) fn process(&self) -> ProcessId {
        self.hub.process
    }

    /// Whether this process listens to sharded channels.
    pub(super) fn is_sharded(&self) -> bool {
        self.hub.is_sharded.load(Ordering::Relaxed)
    }
}

impl Membership {
    /// The state now. It cannot change while it is borrowed.
    pub(super) fn state(&self) -> watch::Ref<'_, State> {
        self.member.state.borrow()
    }

    pub(super) fn is_connected(&self) -> bool {
        *self.state() == State::Connected
    }

    /// Subscribes unless that has begun.
    pub(super) fn start(&self) {
        self.subscriber.subscription.start();
    }

    /// Subscribes unless that has begun, and waits while the first attempt is under way, for no longer than `limit`.
    pub(super) async fn ready(&self, limit: Duration) -> bool {
        self.start();
        if self.is_connected() {
            return true;
        }
        let mut states = self.member.state.subscribe();
        let decided = states.wait_for(|state| *state != State::Starting);
        matches!(tokio::time::timeout(limit, decided).await, Ok(Ok(state)) if *state == State::Connected)
    }

    /// Begins to count confirmations, where they can be counted. Call it before the message is sent.
    pub(super) fn confirming(&self) -> Option<Confirming<'_>> {
        let hub = &self.subscriber.hub;
        // The number of receivers includes this process, if it is subscribed.
        let counts = self.is_connected() && !hub.others_are_away();
        counts.then(|| hub.awaited.begin(hub.process))
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let mut members = self.subscriber.hub.members.lock();
        Arc::make_mut(&mut members).retain(|member| !Arc::ptr_eq(member, &self.member));
        drop(members);
        self.subscriber.hub.changed.notify_one();
    }
}

/// The lines of the moment, and what is subscribed over them.
struct Lines {
    lines: Vec<Line>,
    subscribed: Subscribed,
}

/// What a process listens to now.
struct Subscribed {
    talks: Vec<Talk>,
    /// In a Cluster with sharded channels, which line has the bucket.
    line_of: HashMap<Bucket, usize>,
    /// By line.
    channels: HashSet<(usize, Kind, String)>,
    members: Vec<Arc<Member>>,
    /// Whose channels the server refuses.
    refused: Vec<Arc<Member>>,
}

impl Feed for Hub {
    type Connection = Lines;

    const BACKOFF: Backoff = Backoff::new(Duration::from_millis(20), LONGEST_PAUSE);

    fn is_possible(&self) -> bool {
        self.shared.route.can_subscribe()
    }

    async fn connect(&self, attempt: usize) -> Result<Lines, Fault> {
        let connected = self.shared.connect(attempt).await;
        if let Err(fault) = &connected {
            self.shared.not_connected(fault);
        }
        connected
    }

    async fn deliver(&self, Lines { lines, mut subscribed }: Lines) -> Result<(), Fault> {
        let shared = &*self.shared;
        let reading = lines.into_iter().map(|line| {
            line.read(|message| shared.handle(message), |channel| shared.wants(channel)).boxed()
        });
        tokio::select! {
            (ended, ..) = select_all(reading) => ended,
            ended = shared.follow_members(&mut subscribed) => ended,
            () = shared.route.demoted() => Ok(()),
            () = shared.shards_appear() => Ok(()),
        }
    }

    fn on_starting(&self) {
        let members = self.shared.members.lock().clone();
        for member in &*members {
            member.state.send_replace(State::Starting);
        }
    }

    fn on_connected(&self) {
        if self.shared.connected_before.swap(true, Ordering::Relaxed) {
            *self.shared.others_back.lock() = Some(Instant::now() + ALL_BACK);
        }
    }

    fn on_disconnected(&self) {
        // Who joins from now on finds the subscription broken. Not under the lock: who holds a state borrowed may wait
        // for it.
        let members = self.shared.members.lock().clone();
        for member in &*members {
            if member.state.send_replace(State::Broken) == State::Connected {
                member.listener.on_disconnected();
            }
        }
    }
}

impl Shared {
    async fn connect(&self, attempt: usize) -> Result<Lines, Fault> {
        let (lines, line_of) = match self.lines_to_shards().await? {
            Some(found) => found,
            None => {
                let subscription = self.route.subscription(attempt).await?;
                (vec![Line::to_server(subscription)], HashMap::new())
            }
        };
        self.is_sharded.store(!line_of.is_empty(), Ordering::Relaxed);
        let talks = lines.iter().map(|line| line.talk.clone()).collect();
        let channels = HashSet::new();
        let (members, refused) = (Vec::new(), Vec::new());
        let mut subscribed = Subscribed { talks, line_of, channels, members, refused };
        self.follow(&mut subscribed).await?;
        Ok(Lines { lines, subscribed })
    }

    /// A line to each primary of a Cluster that has sharded channels and lets us listen there.
    async fn lines_to_shards(&self) -> Result<Option<(Vec<Line>, HashMap<Bucket, usize>)>, Fault> {
        let primaries = self.route.primaries().await?;
        if primaries.is_empty() {
            return Ok(None);
        }
        // With many shards not all have the slot of a channel.
        let has_channel =
            |primary: &Primary| Bucket::all().any(|bucket| primary.has(bucket.slot()));
        let primaries: Vec<_> = primaries.into_iter().filter(has_channel).collect();
        let mut line_of = HashMap::new();
        for bucket in Bucket::all() {
            let found = primaries.iter().position(|primary| primary.has(bucket.slot()));
            // Nobody has the slot: the Cluster is about to change.
            line_of.insert(bucket, found.ok_or(FaultKind::Unreachable)?);
        }
        let lines = primaries.iter().map(|primary| self.line_to_shard(primary));
        match join_all(lines).await.into_iter().collect::<Result<Vec<_>, Fault>>() {
            Ok(lines) => Ok(Some((lines, line_of))),
            // Alike for all processes. Any other refusal may be ours alone, who would not hear what the others send.
            Err(fault) if is_not_offered(&fault) => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// Subscribes to a channel: the node says whether it knows such, and lets us listen.
    async fn line_to_shard(&self, primary: &Primary) -> Result<Line, Fault> {
        let bucket = Bucket::all().find(|bucket| primary.has(bucket.slot()));
        let channel = Place::In(bucket.ok_or(FaultKind::Unreachable)?).process(self.process);
        let mut line = Line::to_node(&self.route, &primary.client).await?;
        line.talk.subscribe(Kind::Sharded, std::slice::from_ref(&channel)).await?;
        // A replica lets us listen, too, but nobody counts who does.
        line.talk.has(&channel).await?;
        Ok(line)
    }

    fn not_connected(&self, fault: &Fault) {
        let members = self.members.lock().clone();
        for member in &*members {
            member
                .state
                .send_if_modified(|state| std::mem::replace(state, State::Broken) != State::Broken);
            if fault.kind() == FaultKind::Refused {
                member.listener.on_refused();
            }
        }
    }

    /// Subscribes for who joins, and unsubscribes for who leaves.
    async fn follow_members(&self, subscribed: &mut Subscribed) -> Result<(), Fault> {
        loop {
            self.tell_connected(&subscribed.members);
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            self.follow(subscribed).await?;
            self.tell_connected(&subscribed.members);
            changed.await;
        }
    }

    /// Brings what is subscribed in line with who is there. Whose channels are refused is left out.
    async fn follow(&self, subscribed: &mut Subscribed) -> Result<(), Fault> {
        let all = self.members.lock().clone();
        let new = all.iter().filter(|member| {
            !is_in(&subscribed.members, member) && !is_in(&subscribed.refused, member)
        });
        let new: Vec<_> = new.cloned().collect();
        let mut admitted = subscribed.members.clone();
        admitted.retain(|member| is_in(&all, member));
        let together: Vec<_> = admitted.iter().chain(&new).cloned().collect();
        match self.bring(subscribed, together).await {
            Err(fault) if fault.kind() == FaultKind::Refused && !new.is_empty() => {}
            brought => return brought,
        }
        self.bring(subscribed, admitted).await?;
        for member in new {
            let with = subscribed.members.iter().chain([&member]).cloned().collect();
            match self.bring(subscribed, with).await {
                Err(fault) if fault.kind() == FaultKind::Refused => {
                    member.state.send_replace(State::Broken);
                    member.listener.on_refused();
                    subscribed.refused.push(member);
                }
                brought => brought?,
            }
        }
        Ok(())
    }

    /// Subscribes for these, and for nobody else.
    async fn bring(
        &self,
        subscribed: &mut Subscribed,
        members: Vec<Arc<Member>>,
    ) -> Result<(), Fault> {
        let wanted = self.channels(&members, &subscribed.line_of);
        let of =
            |line: usize, kind: Kind, channels: &HashSet<_>, but: &HashSet<_>| -> Vec<String> {
                let here =
                    channels.difference(but).filter(|(at, what, _)| (*at, *what) == (line, kind));
                here.map(|(.., channel): &(usize, Kind, String)| channel.clone()).collect()
            };
        for (line, talk) in subscribed.talks.iter_mut().enumerate() {
            for kind in [Kind::Plain, Kind::Sharded] {
                talk.subscribe(kind, &of(line, kind, &wanted, &subscribed.channels)).await?;
                talk.unsubscribe(kind, &of(line, kind, &subscribed.channels, &wanted)).await?;
            }
        }
        (subscribed.channels, subscribed.members) = (wanted, members);
        Ok(())
    }

    fn channels(
        &self,
        members: &[Arc<Member>],
        line_of: &HashMap<Bucket, usize>,
    ) -> HashSet<(usize, Kind, String)> {
        let plain = |channel: String| (0, Kind::Plain, channel);
        let mut channels = HashSet::from([plain(Place::Everywhere.process(self.process))]);
        for (&bucket, &line) in line_of {
            channels.insert((line, Kind::Sharded, Place::In(bucket).process(self.process)));
        }
        for Topics { events, presence, is_sharded } in members.iter().map(|member| &member.topics) {
            channels.insert(plain(events.clone()));
            channels.extend(presence.clone().map(plain));
            let buckets = line_of.iter().filter(|_| *is_sharded);
            channels
                .extend(buckets.map(|(&bucket, &line)| {
                    (line, Kind::Sharded, Place::In(bucket).topic(events))
                }));
        }
        channels
    }

    fn tell_connected(&self, members: &[Arc<Member>]) {
        for member in members {
            if member.state.send_replace(State::Connected) != State::Connected {
                member.listener.on_connected();
            }
        }
    }

    /// Resolves when a Cluster that had no sharded channels has them: processes that use them would not be heard.
    async fn shards_appear(&self) {
        let asks = self.route.is_cluster() && !self.is_sharded.load(Ordering::Relaxed);
        if !asks {
            return std::future::pending().await;
        }
        loop {
            tokio::time::sleep(spread(ASK_FOR_SHARDS, 0.75..1.25)).await;
            // Over the connection that there is: to dial all nodes is for when there is hope.
            let mut publish = Cmd::new();
            let channel = Place::In(Bucket::of_key("")).process(self.process);
            publish.arg("SPUBLISH").arg(channel).arg("");
            if self.route.send::<i64>(&publish, CONNECT_TIMEOUT).await.is_ok()
                && matches!(self.lines_to_shards().await, Ok(Some(_)))
            {
                return;
            }
        }
    }

    fn handle(&self, message: &Msg) {
        let (place, topic) = Place::of(message.get_channel_name());
        let payload = message.get_payload_bytes();
        if topic != self.letters {
            return self.hear(place, topic, payload);
        }
        match Letter::read(payload) {
            Some(Letter::Confirmations { by, numbers }) => {
                numbers.for_each(|number| self.awaited.confirmed(number, by));
            }
            Some(Letter::Wakeup { channel, message }) => {
                let (place, topic) = Place::of(channel);
                self.hear(place, topic, message);
            }
            None => {}
        }
    }

    fn hear(&self, place: Place, topic: &Topic, payload: &[u8]) {
        let all = self.members.lock().clone();
        let mut members = all.iter().filter(|member| member.topics.events == *topic).peekable();
        let reply_to = match members.peek() {
            Some(_) => members.fold(None, |_, member| member.listener.on_message(payload)),
            // They have left, and keep nothing: still counted, until the server has heard of it.
            None => Message::read(payload).and_then(|(_, reply_to)| reply_to),
        };
        match reply_to {
            Some(own) if own.process == self.process => {
                self.awaited.confirmed(own.number, self.process)
            }
            Some(reply_to) => self.owed.add(reply_to, place),
            None => {}
        }
    }

    /// Whether a channel is listened to.
    fn wants(&self, channel: &str) -> bool {
        let (_, topic) = Place::of(channel);
        topic == self.letters
            || self.members.lock().iter().any(|member| member.topics.events == *topic)
    }

    fn others_are_away(&self) -> bool {
        let mut back = self.others_back.lock();
        *back = back.filter(|back| Instant::now() < *back);
        back.is_some()
    }
}

fn is_in(list: &[Arc<Member>], member: &Arc<Member>) -> bool {
    list.iter().any(|other| Arc::ptr_eq(other, member))
}
