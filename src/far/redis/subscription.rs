//! One subscription per process: wake-ups, near coherence, and confirmations of invalidations.
//!
//! - A task connects, subscribes to the namespace's channel and to this subscriber's own reply
//!   channel, and says `Connected` only when both are confirmed.
//! - It hands each message to the watchers, and *then* confirms it where the sender asked for that:
//!   a confirmation means that no later caller of this process gets the older entry.
//! - A silent connection is pinged. Whatever ends it, watchers hear `Disconnected` before the task
//!   tries again, so waiters look for themselves and near entries live shortly.

use std::{
    collections::HashMap,
    pin::pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use ::redis::{Client, Cmd};
use futures::{Stream, StreamExt};
use parking_lot::{Mutex, RwLock};
use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
    time::Instant,
};

use super::wire::{Message, ReplyTo, Subscriber, reply_channel};
use crate::{
    far::{Error, ErrorKind, Event, Watcher},
    redis::{Connection, subscribe, typed},
};

const PING_EVERY: Duration = Duration::from_millis(500);
const PING_TIMEOUT: Duration = Duration::from_millis(500);
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// The first attempt is under way: worth a short wait.
    Starting,
    Connected,
    Broken,
}

pub(super) struct Subscription {
    shared: Arc<Shared>,
    /// Asked with every read: cheaper than the lock.
    started: AtomicBool,
    task: Mutex<Option<AbortHandle>>,
}

struct Shared {
    connection: Connection,
    channel: String,
    subscriber: Subscriber,
    state: watch::Sender<State>,
    watchers: RwLock<Vec<Weak<dyn Watcher>>>,
    unconfirmed: Mutex<HashMap<u64, Confirmations>>,
    next_number: AtomicU64,
}

#[derive(Default)]
struct Confirmations {
    count: usize,
    bell: Arc<Notify>,
}

/// An invalidation whose confirmations are counted until it is dropped.
pub(super) struct Confirming<'a> {
    shared: &'a Shared,
    number: u64,
    bell: Arc<Notify>,
}

impl Subscription {
    pub(super) fn new(connection: Connection, channel: String) -> Self {
        let state =
            if connection.subscribers().is_empty() { State::Broken } else { State::Starting };
        Self {
            shared: Arc::new(Shared {
                connection,
                channel,
                subscriber: fastrand::u128(..).to_be_bytes(),
                state: watch::Sender::new(state),
                watchers: RwLock::default(),
                unconfirmed: Mutex::default(),
                next_number: AtomicU64::new(1),
            }),
            started: AtomicBool::new(state == State::Broken),
            task: Mutex::new(None),
        }
    }

    pub(super) fn watch(&self, watcher: Weak<dyn Watcher>) {
        let mut watchers = self.shared.watchers.write();
        watchers.retain(|watcher| watcher.strong_count() > 0);
        watchers.push(watcher.clone());
        drop(watchers);
        // Added first, so no event falls between; a second `Connected` does no harm. The state is
        // borrowed over the call, so that a `Disconnected` comes after it.
        let state = self.shared.state.borrow();
        if *state == State::Connected
            && let Some(watcher) = watcher.upgrade()
        {
            watcher.on_event(Event::Connected);
        }
    }

    /// Starts the task with the first use, which is inside a runtime; waits while the first attempt
    /// to subscribe is under way, up to `patience`.
    pub(super) async fn ready(&self, patience: Duration) -> State {
        self.start();
        let mut state = self.shared.state.subscribe();
        let decided = state.wait_for(|state| *state != State::Starting);
        match tokio::time::timeout(patience, decided).await {
            Ok(Ok(state)) => *state,
            _ => State::Broken,
        }
    }

    pub(super) fn start(&self) {
        if self.started.load(Ordering::Relaxed) {
            return;
        }
        let mut task = self.task.lock();
        if task.is_none() {
            *task = Some(tokio::spawn(run(self.shared.clone())).abort_handle());
            self.started.store(true, Ordering::Relaxed);
        }
    }

    /// Begins to count confirmations. Call it before the message is sent.
    pub(super) fn confirming(&self) -> Confirming<'_> {
        let number = self.shared.next_number.fetch_add(1, Ordering::Relaxed);
        let confirmations = Confirmations::default();
        let bell = confirmations.bell.clone();
        self.shared.unconfirmed.lock().insert(number, confirmations);
        Confirming { shared: &self.shared, number, bell }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some(task) = self.task.get_mut().take() {
            task.abort();
        }
    }
}

impl Confirming<'_> {
    pub(super) fn reply_to(&self) -> ReplyTo {
        ReplyTo { subscriber: self.shared.subscriber, number: self.number }
    }

    /// Whether `receivers` have confirmed before `deadline`.
    pub(super) async fn by(&self, receivers: usize, deadline: Instant) -> bool {
        loop {
            let mut rung = pin!(self.bell.notified());
            rung.as_mut().enable();
            if self.count() >= receivers {
                return true;
            }
            if *self.shared.state.borrow() != State::Connected
                || tokio::time::timeout_at(deadline, rung).await.is_err()
            {
                return self.count() >= receivers;
            }
        }
    }

    fn count(&self) -> usize {
        self.shared.unconfirmed.lock().get(&self.number).map_or(0, |found| found.count)
    }
}

impl Drop for Confirming<'_> {
    fn drop(&mut self) {
        self.shared.unconfirmed.lock().remove(&self.number);
    }
}

impl Shared {
    fn tell(&self, event: Event<'_>) {
        let watchers: Vec<_> = self.watchers.read().iter().filter_map(Weak::upgrade).collect();
        for watcher in watchers {
            watcher.on_event(event);
        }
    }

    fn confirmed(&self, number: &[u8]) {
        let Ok(number) = number.try_into().map(u64::from_be_bytes) else { return };
        if let Some(found) = self.unconfirmed.lock().get_mut(&number) {
            found.count += 1;
            found.bell.notify_waiters();
        }
    }
}

async fn run(shared: Arc<Shared>) {
    let mut pause = FIRST_PAUSE;
    // Any node of a cluster hears every message; another one is tried when one fails.
    for client in shared.connection.subscribers().iter().cycle() {
        let listening = Listening(&shared);
        let attempt = listen(&shared, client).await;
        if *shared.state.borrow() == State::Connected {
            pause = FIRST_PAUSE;
        }
        drop(listening);
        if let Err(error) = attempt {
            tracing::debug!(%error, "subscription ended");
        }
        tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// However listening ends, also when the task is dropped with its runtime, nobody goes on believing
/// that messages arrive.
struct Listening<'a>(&'a Shared);

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        if self.0.state.send_replace(State::Broken) == State::Connected {
            self.0.tell(Event::Disconnected);
        }
    }
}

/// One connection, from its beginning to its end.
async fn listen(shared: &Shared, client: &Client) -> Result<(), Error> {
    let (mut sink, mut messages) = subscribe(client).await?.split();
    let replies = reply_channel(shared.subscriber);
    let channels = [&shared.channel, &replies];
    bounded(sink.subscribe(&channels)).await?;
    shared.state.send_replace(State::Connected);
    shared.tell(Event::Connected);

    loop {
        let message = match tokio::time::timeout(PING_EVERY, messages.next()).await {
            Ok(Some(message)) => message,
            Ok(None) => return Ok(()),
            Err(_) => {
                // The messages must be read meanwhile, or a full buffer would hold up the pong.
                bounded(reading(shared, &replies, &mut messages, sink.ping::<()>())).await?;
                continue;
            }
        };
        take(shared, &replies, &message);
    }
}

/// Waits for `work` and goes on taking messages.
async fn reading<T>(
    shared: &Shared,
    replies: &str,
    messages: &mut (impl Stream<Item = ::redis::Msg> + Unpin),
    work: impl Future<Output = T>,
) -> T {
    let mut work = pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            Some(message) = messages.next() => take(shared, replies, &message),
        }
    }
}

fn take(shared: &Shared, replies: &str, message: &::redis::Msg) {
    let payload = message.get_payload_bytes();
    if message.get_channel_name() == replies {
        return shared.confirmed(payload);
    }
    let Some((event, reply_to)) = Message::read(payload) else { return };
    shared.tell(event);
    if let Some(reply_to) = reply_to {
        confirm(shared, reply_to);
    }
}

fn confirm(shared: &Shared, reply_to: ReplyTo) {
    if reply_to.subscriber == shared.subscriber {
        return shared.confirmed(&reply_to.number.to_be_bytes());
    }
    let connection = shared.connection.clone();
    // On a task of its own: the next message must not wait for a round trip.
    tokio::spawn(async move {
        let mut publish = Cmd::new();
        publish.arg("PUBLISH").arg(reply_channel(reply_to.subscriber));
        publish.arg(&reply_to.number.to_be_bytes());
        if let Err(error) = connection.query::<()>(&publish).await {
            tracing::debug!(%error, "confirmation not sent");
        }
    });
}

async fn bounded<T>(work: impl Future<Output = ::redis::RedisResult<T>>) -> Result<T, Error> {
    match tokio::time::timeout(PING_TIMEOUT, work).await {
        Ok(done) => done.map_err(typed),
        Err(_) => Err(ErrorKind::Timeout.into()),
    }
}
