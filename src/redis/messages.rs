use std::{
    collections::HashMap,
    pin::pin,
    sync::{
        Arc, LazyLock, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use ::redis::{Cmd, Script};
use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use super::{
    channels::{Channels, LONGEST_PAUSE, MessageHandler},
    connection::Connection,
    message::{Message, ReplyTo, SubscriberId},
    namespace::Namespace,
    permissions::{Permissions, Publisher},
    script::script,
};
use crate::{
    Fault, FaultKind,
    backoff::Backoff,
    far::{Event, Invalidated, Watcher, Watchers},
    subscription::{Feed, State, Subscription},
    token::Token,
};

/// Messages over Redis' pub/sub, one channel per namespace: wake-ups, near coherence, and
/// confirmations of invalidations. Clones share the subscription.
///
/// A message costs the publisher one `PUBLISH`, and Redis one delivery to each subscribed process. Each
/// process confirms an invalidation after its near tier has dropped the entry: no later caller there gets
/// the older one.
///
/// An invalidation is [`Unconfirmed`](Invalidated::Unconfirmed) wherever the subscribers cannot be counted:
/// always in a Cluster, and for a second after the server was away, because other processes may not have
/// subscribed again.
#[derive(Clone)]
pub(super) struct Messages {
    inner: Arc<Inner>,
}

struct Inner {
    connection: Connection,
    handler: Arc<EventHandler>,
    subscription: Subscription<OwnChannels>,
    permissions: Arc<Permissions>,
}

/// Tells the watchers what arrives, confirms invalidations, and counts the confirmations of our own.
struct EventHandler {
    connection: Connection,
    channel: String,
    /// Says that we are one of those that confirm.
    subscribers: String,
    id: SubscriberId,
    replies: String,
    watchers: Watchers,
    unconfirmed: Mutex<HashMap<u64, Confirmations>>,
    next_number: AtomicU64,
    connected_before: AtomicBool,
    /// Whether messages are not sent at all, so that none can be relied on.
    mute: AtomicBool,
    /// Until when other processes may not have subscribed again. A process that subscribes
    /// earlier than they do would count too few.
    others_back: Mutex<Option<Instant>>,
}

#[derive(Default)]
struct Confirmations {
    count: usize,
    notify: Arc<Notify>,
}

/// An invalidation whose confirmations are counted until it is dropped.
pub(super) struct Confirming<'a> {
    inner: &'a Inner,
    number: u64,
    notify: Arc<Notify>,
}

impl Messages {
    pub(super) fn new(
        connection: Connection,
        namespace: &Namespace,
        permissions: Arc<Permissions>,
    ) -> Self {
        let id: SubscriberId = *Token::random().as_bytes();
        let handler = Arc::new(EventHandler {
            connection: connection.clone(),
            channel: namespace.channel(),
            subscribers: namespace.subscribers(),
            id,
            replies: reply_channel(id),
            watchers: Watchers::default(),
            unconfirmed: Mutex::default(),
            next_number: AtomicU64::new(1),
            connected_before: AtomicBool::new(false),
            mute: AtomicBool::new(false),
            others_back: Mutex::default(),
        });
        let channels = Channels { connection: connection.clone(), handler: handler.clone() };
        let feed = OwnChannels { channels, told: AtomicBool::new(false) };
        let subscription = Subscription::new(feed);
        Self { inner: Arc::new(Inner { connection, handler, subscription, permissions }) }
    }

    pub(super) fn channel(&self) -> &str {
        &self.inner.handler.channel
    }

    /// Begins to count confirmations, where they can be counted. Call it before the message is sent.
    pub(super) fn confirming(&self) -> Option<Confirming<'_>> {
        // The number of receivers includes this process, if it is subscribed. A Cluster does not tell it.
        let counted = *self.inner.subscription.state() == State::Connected;
        let silent = self.inner.permissions.get().publisher == Publisher::Nobody;
        if !counted
            || silent
            || self.inner.connection.is_cluster()
            || self.inner.handler.others_are_away()
        {
            return None;
        }
        let number = self.inner.handler.next_number.fetch_add(1, Ordering::Relaxed);
        let confirmations = Confirmations::default();
        let notify = confirmations.notify.clone();
        self.inner.handler.unconfirmed.lock().insert(number, confirmations);
        Some(Confirming { inner: &self.inner, number, notify })
    }

    /// Publishes to all, and returns how many of them are to confirm.
    async fn publish_counted(&self, message: &[u8]) -> Result<usize, Fault> {
        let mut call = PUBLISH_COUNTED.prepare_invoke();
        call.arg(self.channel()).arg(message).arg(&self.inner.handler.subscribers);
        self.inner.connection.run(&call).await
    }

    fn far_timeout(&self) -> Duration {
        self.inner.connection.far_timeout()
    }

    pub(super) fn watch(&self, watcher: Weak<dyn Watcher>) {
        self.inner.handler.watchers.add(watcher.clone());
        // Added first, so that no event is missed; a second `Connected` does no harm. The state stays
        // borrowed over the call, so that a `Disconnected` follows it.
        let state = self.inner.subscription.state();
        if *state == State::Connected
            && !self.inner.handler.mute.load(Ordering::SeqCst)
            && let Some(watcher) = watcher.upgrade()
        {
            watcher.on_event(Event::Connected);
        }
    }

    pub(super) fn start(&self) {
        self.inner.subscription.start();
    }

    pub(super) async fn ready(&self) -> bool {
        if self.inner.permissions.get().publisher == Publisher::Nobody {
            self.inner.handler.mute();
            return false;
        }
        self.unmute();
        self.inner.subscription.ready(self.far_timeout() / 2).await == State::Connected
    }

    /// Messages may be sent again. The state stays borrowed: see `watch`.
    fn unmute(&self) {
        let handler = &self.inner.handler;
        if !handler.mute.load(Ordering::SeqCst) {
            return;
        }
        let state = self.inner.subscription.state();
        if handler.mute.swap(false, Ordering::SeqCst) && *state == State::Connected {
            handler.watchers.tell(Event::Connected);
        }
    }

    pub(super) async fn publish(&self, event: Event<'_>) -> Result<Invalidated, Fault> {
        self.ready().await;
        let invalidated = matches!(event, Event::Invalidated { .. });
        let confirming = if invalidated { self.confirming() } else { None };
        let reply_to = confirming.as_ref().map(Confirming::reply_to);
        let Some(message) = Message::of(event, reply_to) else {
            return Ok(Invalidated::Unconfirmed);
        };
        let permitted = self.inner.permissions.get();
        let receivers = match permitted.publisher {
            Publisher::Nobody => return Ok(Invalidated::Unconfirmed),
            Publisher::Script if confirming.is_some() && permitted.count => {
                self.publish_counted(&message).await?
            }
            Publisher::Script | Publisher::Client => {
                let mut publish = Cmd::new();
                publish.arg("PUBLISH").arg(self.channel()).arg(message);
                self.inner.connection.query(&publish).await?
            }
        };
        Ok(delivery(confirming, receivers, self.far_timeout()).await)
    }
}

/// KEYS none. ARGV channel, message, channel of the subscribers.
static PUBLISH_COUNTED: LazyLock<Script> = LazyLock::new(|| {
    let publish = "return publish_counted(ARGV[1], ARGV[2], ARGV[3])";
    script(&[include_str!("lua/publish_counted.lua"), publish])
});

/// Waits until every receiver of an invalidation has confirmed it.
pub(super) async fn delivery(
    confirming: Option<Confirming<'_>>,
    receivers: usize,
    timeout: Duration,
) -> Invalidated {
    match confirming {
        Some(confirming) if receivers > 0 && confirming.by(receivers, timeout).await => {
            Invalidated::Everywhere
        }
        _ => Invalidated::Unconfirmed,
    }
}

impl Confirming<'_> {
    pub(super) fn reply_to(&self) -> ReplyTo {
        ReplyTo { subscriber: self.inner.handler.id, number: self.number }
    }

    /// Whether `receivers` processes confirm in time.
    async fn by(&self, receivers: usize, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout.min(LONGEST);
        loop {
            let mut notified = pin!(self.notify.notified());
            notified.as_mut().enable();
            if self.count() >= receivers {
                return true;
            }
            if *self.inner.subscription.state() != State::Connected
                || tokio::time::timeout_at(deadline, notified).await.is_err()
            {
                return self.count() >= receivers;
            }
        }
    }

    fn count(&self) -> usize {
        self.inner.handler.unconfirmed.lock().get(&self.number).map_or(0, |found| found.count)
    }
}

impl Drop for Confirming<'_> {
    fn drop(&mut self) {
        self.inner.handler.unconfirmed.lock().remove(&self.number);
    }
}

/// The channels, and a word where they are refused.
struct OwnChannels {
    channels: Channels<EventHandler>,
    told: AtomicBool,
}

impl Feed for OwnChannels {
    type Connection = <Channels<EventHandler> as Feed>::Connection;

    const BACKOFF: Backoff = <Channels<EventHandler> as Feed>::BACKOFF;

    fn is_possible(&self) -> bool {
        self.channels.is_possible()
    }

    async fn connect(&self, attempt: usize) -> Result<Self::Connection, Fault> {
        let connected = self.channels.connect(attempt).await;
        let is_refused =
            connected.as_ref().err().is_some_and(|fault| fault.kind() == FaultKind::Refused);
        if is_refused && !self.told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "Redis is not as needed: it refuses SUBSCRIBE or channels that begin with `cg`, so waiters poll, \
                 and near entries live for a short time only"
            );
        }
        connected
    }

    async fn deliver(&self, connection: Self::Connection) -> Result<(), Fault> {
        self.channels.deliver(connection).await
    }

    fn on_connected(&self) {
        self.channels.on_connected();
    }

    fn on_disconnected(&self) {
        self.channels.on_disconnected();
    }
}

impl MessageHandler for EventHandler {
    fn channels(&self) -> Vec<String> {
        vec![self.channel.clone(), self.subscribers.clone(), self.replies.clone()]
    }

    fn on_message(&self, channel: &str, payload: &[u8]) {
        if channel == self.replies {
            return self.confirmed(payload);
        }
        let Some((event, reply_to)) = Message::read(payload) else { return };
        self.watchers.tell(event);
        // After the watchers have acted on it.
        if let Some(reply_to) = reply_to {
            self.confirm(reply_to);
        }
    }

    fn on_connected(&self) {
        if self.connected_before.swap(true, Ordering::Relaxed) {
            *self.others_back.lock() = Some(Instant::now() + ALL_BACK);
        }
        if !self.mute.load(Ordering::SeqCst) {
            self.watchers.tell(Event::Connected);
        }
    }

    fn on_disconnected(&self) {
        self.watchers.tell(Event::Disconnected);
    }
}

/// Longer than any wait for confirmations, and short enough to add to an `Instant`.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

impl EventHandler {
    /// Messages are not sent: near entries must not rely on them.
    fn mute(&self) {
        if !self.mute.swap(true, Ordering::SeqCst) {
            self.watchers.tell(Event::Disconnected);
        }
    }

    fn others_are_away(&self) -> bool {
        let mut back = self.others_back.lock();
        *back = back.filter(|back| Instant::now() < *back);
        back.is_some()
    }

    fn confirmed(&self, number: &[u8]) {
        let Ok(number) = number.try_into().map(u64::from_be_bytes) else { return };
        if let Some(found) = self.unconfirmed.lock().get_mut(&number) {
            found.count += 1;
            found.notify.notify_waiters();
        }
    }

    fn confirm(&self, reply_to: ReplyTo) {
        if reply_to.subscriber == self.id {
            return self.confirmed(&reply_to.number.to_be_bytes());
        }
        let connection = self.connection.clone();
        // On a task of its own: the next message must not wait for a round trip.
        tokio::spawn(async move {
            let mut publish = Cmd::new();
            publish.arg("PUBLISH").arg(reply_channel(reply_to.subscriber));
            publish.arg(&reply_to.number.to_be_bytes());
            if let Err(fault) = connection.query::<()>(&publish).await {
                tracing::debug!(%fault, "confirmation not sent");
            }
        });
    }
}

/// How much later than this process another one may subscribe again once the server is back: the longest
/// pause, and time to connect.
const ALL_BACK: Duration = LONGEST_PAUSE.saturating_add(Duration::from_millis(500));

/// The channel of the confirmations for a subscriber.
fn reply_channel(subscriber: SubscriberId) -> String {
    format!("cg:replies:{:032x}", u128::from_be_bytes(subscriber))
}
