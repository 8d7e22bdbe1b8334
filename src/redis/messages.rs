use std::{
    sync::{
        Arc, LazyLock, OnceLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ::redis::{Cmd, Script};

use super::{
    audience::Listener,
    channel::{Address, Bucket, ProcessId, Scope},
    confirmations::Confirming,
    connection::Connection,
    message::{Message, ReplyTo},
    namespace::Namespace,
    permissions::{Permissions, Publisher},
    script::script,
    subscriber::Membership,
    subscriptions::Topics,
};
use crate::{
    Fault,
    far::{Event, Invalidated, Watcher, Watchers},
    subscription::State,
};

/// Messages over Redis' pub/sub about one namespace: wake-ups, near coherence, and confirmations of invalidations.
/// Clones share the membership in the connection's subscription.
///
/// An invalidation is [`Unconfirmed`](Invalidated::Unconfirmed) wherever the subscribers cannot be counted:
/// in a Cluster older than Redis 7, and for a second after the server was away, because other processes may not have
/// subscribed again.
#[derive(Clone)]
pub(super) struct Messages {
    inner: Arc<Inner>,
}

struct Inner {
    connection: Connection,
    namespace: Arc<Namespace>,
    handler: Arc<Handler>,
    /// From the first use on: a far tier that only leads to another one, of a namespace, hears nothing.
    membership: OnceLock<Membership>,
    permissions: Arc<Permissions>,
}

/// Tells the watchers what arrives.
#[derive(Default)]
struct Handler {
    watchers: Watchers,
    /// Whether messages are not sent at all, so that none can be relied on.
    mute: AtomicBool,
    refusal_told: AtomicBool,
}

impl Messages {
    pub(super) fn new(
        connection: Connection,
        namespace: Arc<Namespace>,
        permissions: Arc<Permissions>,
    ) -> Self {
        let (handler, membership) = (Arc::default(), OnceLock::new());
        Self { inner: Arc::new(Inner { connection, namespace, handler, membership, permissions }) }
    }

    fn membership(&self) -> &Membership {
        let Inner { connection, namespace, handler, membership, .. } = &*self.inner;
        membership.get_or_init(|| {
            let topics =
                Topics { events: namespace.channel(), subscribers: Some(namespace.subscribers()) };
            connection.subscriber().join(topics, handler.clone())
        })
    }

    /// Who waits in this process, for those that are to wake it.
    pub(super) fn process(&self) -> ProcessId {
        self.inner.connection.subscriber().process()
    }

    /// Where messages about `name` go, as far as this process knows now: to be asked once for each.
    pub(super) fn address(&self, name: &str) -> Address {
        let Inner { connection, namespace, permissions, .. } = &*self.inner;
        let permitted = permissions.get();
        if permitted.publisher == Publisher::Nobody {
            return Address::default();
        }
        let scope = match permitted.sharded && connection.subscriber().is_sharded() {
            true => Scope::Shard(Bucket::of_key(&namespace.key(name))),
            false => Scope::Global,
        };
        let is_counted = permitted.count && scope == Scope::Global;
        Address {
            scope,
            command: if permitted.publisher == Publisher::Script { scope.command() } else { "" },
            events: scope.topic(&namespace.channel()),
            processes: scope.processes(),
            subscribers: if is_counted { namespace.subscribers() } else { String::new() },
        }
    }

    /// Begins to count confirmations, where they can be counted. Call it before the message is sent.
    pub(super) fn confirming(&self, address: &Address) -> Option<Confirming<'_>> {
        // A Cluster does not count who listens to plain channels.
        let is_uncounted = self.inner.connection.is_cluster() && address.scope == Scope::Global;
        let is_silent = address.events.is_empty();
        if is_silent || is_uncounted { None } else { self.membership().confirming() }
    }

    fn far_timeout(&self) -> Duration {
        self.inner.connection.far_timeout()
    }

    pub(super) fn watch(&self, watcher: Weak<dyn Watcher>) {
        self.inner.handler.watchers.add(watcher.clone());
        // Added first, so that no event is missed; a second `Connected` does no harm. The state stays
        // borrowed over the call, so that a `Disconnected` follows it.
        let state = self.membership().state();
        if *state == State::Connected
            && !self.inner.handler.mute.load(Ordering::SeqCst)
            && let Some(watcher) = watcher.upgrade()
        {
            watcher.on_event(Event::Connected);
        }
    }

    pub(super) fn start(&self) {
        self.membership().start();
    }

    pub(super) async fn ready(&self) -> bool {
        if self.inner.permissions.get().publisher == Publisher::Nobody {
            self.inner.handler.mute();
            return false;
        }
        self.unmute();
        self.membership().ready(self.far_timeout() / 2).await
    }

    /// Messages may be sent again. The state stays borrowed: see `watch`.
    fn unmute(&self) {
        let handler = &self.inner.handler;
        if !handler.mute.load(Ordering::SeqCst) {
            return;
        }
        let state = self.membership().state();
        if handler.mute.swap(false, Ordering::SeqCst) && *state == State::Connected {
            handler.watchers.tell(Event::Connected);
        }
    }

    /// Publishes by a command of its own, to all that listen. How many that are, those that listen by a pattern
    /// among them.
    pub(super) async fn publish(&self, address: &Address, message: &[u8]) -> Result<usize, Fault> {
        if address.events.is_empty() {
            return Ok(0);
        }
        let mut publish = Cmd::new();
        publish.arg(address.scope.command()).arg(&address.events).arg(message);
        self.inner.connection.query(&publish).await
    }

    /// Publishes an event, and waits for its confirmations if there are to be any.
    pub(super) async fn tell(
        &self,
        name: &str,
        event: Event<'_>,
        is_confirmed: bool,
    ) -> Result<Invalidated, Fault> {
        self.ready().await;
        let address = self.address(name);
        let confirming = if is_confirmed { self.confirming(&address) } else { None };
        let Some(message) = Message::of(event, confirming.as_ref().map(Confirming::reply_to))
        else {
            return Ok(Invalidated::Unconfirmed);
        };
        let counts = confirming.is_some() && !address.command.is_empty();
        let receivers = match counts && !address.subscribers.is_empty() {
            true => {
                let mut call = PUBLISH_COUNTED.prepare_invoke();
                call.arg(address.events).arg(message).arg(address.subscribers);
                let receivers: i64 = self.inner.connection.run(&call).await?;
                usize::try_from(receivers).unwrap_or(0)
            }
            false => self.publish(&address, &message).await?,
        };
        Ok(self.delivery(confirming, receivers).await)
    }

    /// Waits until every receiver of an invalidation has confirmed it.
    pub(super) async fn delivery(
        &self,
        confirming: Option<Confirming<'_>>,
        receivers: usize,
    ) -> Invalidated {
        let arrive = || self.membership().is_connected();
        match confirming {
            Some(confirming)
                if receivers > 0 && confirming.by(receivers, self.far_timeout(), arrive).await =>
            {
                Invalidated::Everywhere
            }
            _ => Invalidated::Unconfirmed,
        }
    }
}

/// KEYS none. ARGV channel, message, channel of the subscribers.
static PUBLISH_COUNTED: LazyLock<Script> = LazyLock::new(|| {
    let publish = "return publish_counted('PUBLISH', ARGV[1], ARGV[2], ARGV[3])";
    script(&[include_str!("lua/publish_counted.lua"), publish])
});

impl Listener for Handler {
    fn on_message(&self, payload: &[u8]) -> Option<ReplyTo> {
        let (event, reply_to) = Message::read(payload)?;
        self.watchers.tell(event);
        reply_to
    }

    fn on_connected(&self) {
        if !self.mute.load(Ordering::SeqCst) {
            self.watchers.tell(Event::Connected);
        }
    }

    fn on_disconnected(&self) {
        self.watchers.tell(Event::Disconnected);
    }

    fn on_refused(&self) {
        if !self.refusal_told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "Redis is not as needed: it refuses SUBSCRIBE or channels that begin with `cg`, so waiters poll, \
                 and near entries live for a short time only"
            );
        }
    }
}

impl Handler {
    /// Messages are not sent: near entries must not rely on them.
    fn mute(&self) {
        if !self.mute.swap(true, Ordering::SeqCst) {
            self.watchers.tell(Event::Disconnected);
        }
    }
}
