//! The one subscription of a process for all that use a [`Connection`](super::Connection): guards' messages, locks' turns,
//! wake-ups and confirmations for this process.
//!
//! - Who listens [joins](Subscriber::join) with a topic, and leaves by dropping the [`Membership`]. It hears its own
//!   topic and nothing else.
//! - It is told `connected` once the server has confirmed all its channels, and `disconnected` before the next attempt.
//! - In a Cluster of Redis 7 there is a connection to each primary. When one ends, all do, and are made again from what the
//!   Cluster says then: a failover or a slot that moved.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ::redis::{Cmd, Msg};
use futures::{FutureExt, future::select_all};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use super::{
    audience::{Audience, Listener, Member},
    channel::{Bucket, ProcessId, Scope, Topic, random_process},
    confirmations::{Confirming, Counts, Outbox},
    message::{DirectMessage, Message},
    options::CONNECT_TIMEOUT,
    push_connection::PushConnection,
    route::Route,
    subscriptions::{Subscriptions, Topics},
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

pub(super) struct Subscriber {
    subscription: Subscription<Arc<Hub>>,
    hub: Arc<Hub>,
}

/// One that listens, until it is dropped.
pub(super) struct Membership {
    member: Arc<Member>,
    subscriber: Arc<Subscriber>,
}

struct Hub {
    route: Route,
    process: ProcessId,
    /// The topic of what is sent to this process alone.
    direct: String,
    /// Shared by those that look through them: this is asked for with every message.
    members: Mutex<Arc<Vec<Arc<Member>>>>,
    /// Somebody has joined or left.
    changed: Notify,
    counts: Counts,
    outbox: Outbox,
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
        let hub = Arc::new(Hub {
            outbox: Outbox::new(route.clone(), process),
            route,
            process,
            direct: Scope::Global.process(process),
            members: Mutex::default(),
            changed: Notify::new(),
            counts: Counts::default(),
            is_sharded: AtomicBool::new(false),
            connected_before: AtomicBool::new(false),
            others_back: Mutex::default(),
        });
        Self { subscription: Subscription::new(hub.clone()), hub }
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
        counts.then(|| hub.counts.begin(hub.process))
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

/// The connections of the moment, and who listens over them.
struct Connected {
    connections: Vec<PushConnection>,
    audience: Audience,
}

impl Feed for Arc<Hub> {
    type Connection = Connected;

    const BACKOFF: Backoff = Backoff::new(Duration::from_millis(20), LONGEST_PAUSE);

    fn is_possible(&self) -> bool {
        self.route.can_subscribe()
    }

    async fn connect(&self, attempt: usize) -> Result<Connected, Fault> {
        let connected = self.connected(attempt).await;
        if let Err(fault) = &connected {
            self.not_connected(fault);
        }
        connected
    }

    async fn deliver(&self, connected: Connected) -> Result<(), Fault> {
        let Connected { connections, mut audience } = connected;
        let reading = connections.into_iter().map(|connection| {
            connection.read(|message| self.handle(message), |channel| self.wants(channel)).boxed()
        });
        tokio::select! {
            (ended, ..) = select_all(reading) => ended,
            ended = self.follow_members(&mut audience) => ended,
            () = self.route.demoted() => Ok(()),
            () = self.shards_appear() => Ok(()),
        }
    }

    fn on_starting(&self) {
        for member in &*self.members() {
            member.state.send_replace(State::Starting);
        }
    }

    fn on_connected(&self) {
        if self.connected_before.swap(true, Ordering::Relaxed) {
            *self.others_back.lock() = Some(Instant::now() + ALL_BACK);
        }
    }

    fn on_disconnected(&self) {
        // Who joins from now on finds the subscription broken. Not under the lock: who holds a state borrowed may wait
        // for it.
        for member in &*self.members() {
            if member.state.send_replace(State::Broken) == State::Connected {
                member.listener.on_disconnected();
            }
        }
    }
}

impl Hub {
    fn members(&self) -> Arc<Vec<Arc<Member>>> {
        self.members.lock().clone()
    }

    async fn connected(&self, attempt: usize) -> Result<Connected, Fault> {
        let opened = Subscriptions::open(&self.route, self.process, attempt).await?;
        let (connections, subscriptions) = opened;
        self.is_sharded.store(subscriptions.is_sharded(), Ordering::Relaxed);
        let mut audience = Audience::of(subscriptions);
        audience.follow(&self.members()).await?;
        Ok(Connected { connections, audience })
    }

    fn not_connected(&self, fault: &Fault) {
        for member in &*self.members() {
            member.state.send_replace(State::Broken);
            if fault.kind() == FaultKind::Refused {
                member.listener.on_refused();
            }
        }
    }

    /// Subscribes for who joins, and unsubscribes for who leaves.
    async fn follow_members(&self, audience: &mut Audience) -> Result<(), Fault> {
        audience.tell_connected();
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            audience.follow(&self.members()).await?;
            audience.tell_connected();
            changed.await;
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
            let channel = Scope::Shard(Bucket::of_key("")).process(self.process);
            publish.arg("SPUBLISH").arg(channel).arg("");
            if self.route.send::<i64>(&publish, CONNECT_TIMEOUT).await.is_ok()
                && matches!(
                    Subscriptions::open_to_shards(&self.route, self.process).await,
                    Ok(Some(_))
                )
            {
                return;
            }
        }
    }

    fn handle(&self, message: &Msg) {
        let (scope, topic) = Scope::of(message.get_channel_name());
        let payload = message.get_payload_bytes();
        if topic != self.direct {
            return self.hear(scope, topic, payload);
        }
        match DirectMessage::read(payload) {
            Some(DirectMessage::Confirmations { by, numbers }) => {
                numbers.for_each(|number| self.counts.confirmed(number, by));
            }
            Some(DirectMessage::Wakeup { channel, message }) => {
                let (scope, topic) = Scope::of(channel);
                self.hear(scope, topic, message);
            }
            None => {}
        }
    }

    fn hear(&self, scope: Scope, topic: &Topic, payload: &[u8]) {
        let all = self.members();
        let mut members = all.iter().filter(|member| member.topics.events == *topic).peekable();
        let reply_to = match members.peek() {
            Some(_) => members.fold(None, |_, member| member.listener.on_message(payload)),
            // They have left, and keep nothing: still counted, until the server has heard of it.
            None => Message::read(payload).and_then(|(_, reply_to)| reply_to),
        };
        match reply_to {
            Some(own) if own.process == self.process => {
                self.counts.confirmed(own.number, self.process)
            }
            Some(reply_to) => self.outbox.add(reply_to, scope),
            None => {}
        }
    }

    /// Whether a channel is listened to.
    fn wants(&self, channel: &str) -> bool {
        let (_, topic) = Scope::of(channel);
        topic == self.direct || self.members().iter().any(|member| member.topics.events == *topic)
    }

    fn others_are_away(&self) -> bool {
        let mut back = self.others_back.lock();
        *back = back.filter(|back| Instant::now() < *back);
        back.is_some()
    }
}
