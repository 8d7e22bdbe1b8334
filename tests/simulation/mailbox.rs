//! The messages to one process, as `redis/subscriber.rs` gets them: in order over one subscription, counted by the store while
//! it knows of that, lost from the moment the subscription breaks until it is made again, and confirmed once the guard has
//! been told.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Weak},
    time::Duration,
};

use cattleguard::{
    Version,
    far::{Event, Watcher},
};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, mpsc},
    time::Instant,
};

use crate::life::{Life, pass};

pub(crate) struct Mailbox {
    process: u32,
    life: Arc<Life>,
    state: Mutex<State>,
    watchers: Mutex<Vec<Weak<dyn Watcher>>>,
    inbox: mpsc::UnboundedSender<Delivery>,
    /// The invalidations of this process that others are to confirm: by whom they are.
    counts: Mutex<BTreeMap<u64, BTreeSet<u32>>>,
    confirmed: Notify,
}

#[derive(Default)]
struct State {
    /// Grows with each subscription: what was sent over another one is lost.
    subscription: u32,
    hears: bool,
    /// Whether the store takes it for a subscriber.
    is_counted: bool,
    /// What the guard was told last.
    is_connected: bool,
    /// Until when others may not have subscribed again.
    others_back: Option<Instant>,
    delays: Delays,
    /// When the last message that was sent arrives.
    arrives: Option<Instant>,
    is_mute: bool,
}

/// How messages travel.
#[derive(Clone, Copy, Default)]
pub(crate) struct Delays {
    /// The chances of a message to be late, to come twice, to be overtaken by others.
    pub(crate) late: f64,
    pub(crate) twice: f64,
    pub(crate) overtaken: f64,
    /// In milliseconds.
    pub(crate) longest: u64,
}

/// A message on its way.
#[derive(Clone)]
pub(crate) struct Message {
    pub(crate) name: Arc<str>,
    pub(crate) what: What,
    pub(crate) reply_to: Option<ReplyTo>,
}

#[derive(Clone, Copy)]
pub(crate) enum What {
    Committed(Version),
    Put(Version),
    Invalidated(Option<Version>),
    Released,
}

/// Who waits for confirmations of what.
#[derive(Clone)]
pub(crate) struct ReplyTo {
    pub(crate) writer: Arc<Mailbox>,
    pub(crate) number: u64,
}

struct Delivery {
    at: Instant,
    subscription: u32,
    message: Message,
}

/// How long other processes may take to subscribe again, as in `redis/subscriber.rs`.
const ALL_BACK: Duration = Duration::from_secs(1);

impl Mailbox {
    pub(crate) fn new(process: u32, life: Arc<Life>) -> Arc<Self> {
        let (inbox, arriving) = mpsc::unbounded_channel();
        let this = Arc::new(Self {
            process,
            life,
            state: Mutex::default(),
            watchers: Mutex::default(),
            inbox,
            counts: Mutex::default(),
            confirmed: Notify::new(),
        });
        tokio::spawn(this.clone().listen(arriving));
        this
    }

    pub(crate) fn watch(&self, watcher: Weak<dyn Watcher>) {
        self.watchers.lock().push(watcher);
    }

    /// How its messages travel from now on.
    pub(crate) fn set_delays(&self, delays: Delays) {
        self.state.lock().delays = delays;
    }

    /// Whether its confirmations get lost.
    pub(crate) fn set_mute(&self, is_mute: bool) {
        self.state.lock().is_mute = is_mute;
    }

    /// Whether this subscriber is to confirm what is sent now.
    pub(crate) fn is_counted(&self) -> bool {
        self.state.lock().is_counted
    }

    /// Messages get lost from now on. In a half-open connection the store still takes it for a subscriber.
    pub(crate) fn deafen(&self, is_half_open: bool) {
        let mut state = self.state.lock();
        state.hears = false;
        state.is_counted &= is_half_open;
        state.subscription += 1;
    }

    /// Notices that messages get lost.
    pub(crate) fn disconnect(&self) {
        self.deafen(false);
        let was_connected = std::mem::take(&mut self.state.lock().is_connected);
        if was_connected {
            self.tell(Event::Disconnected);
            self.confirmed.notify_waiters();
        }
    }

    /// Subscribes, and is told.
    pub(crate) async fn connect(&self) {
        let has_not_noticed = {
            let state = self.state.lock();
            state.is_connected && !state.hears
        };
        if has_not_noticed {
            self.disconnect();
        }
        {
            let mut state = self.state.lock();
            state.subscription += 1;
            (state.hears, state.is_counted) = (true, true);
        }
        pass(1).await;
        if !self.life.is_awake().await {
            return;
        }
        {
            let mut state = self.state.lock();
            if !state.hears || state.is_connected {
                return;
            }
            state.is_connected = true;
            if state.subscription > 2 {
                state.others_back = Some(Instant::now() + ALL_BACK);
            }
        }
        self.tell(Event::Connected);
    }

    /// A killed process: the store sees the end of its connection.
    pub(crate) fn end(&self) {
        self.deafen(false);
        self.watchers.lock().clear();
    }

    pub(crate) fn send(self: &Arc<Self>, message: Message) {
        let mut state = self.state.lock();
        if !state.hears {
            return;
        }
        let (now, subscription) = (Instant::now(), state.subscription);
        let Delays { late, twice, overtaken, longest } = state.delays;
        let some_time = || now + Duration::from_millis(fastrand::u64(0..=longest));
        if fastrand::f64() < twice {
            let message = message.clone();
            self.send_apart(Delivery { at: some_time(), subscription, message });
        }
        if fastrand::f64() < overtaken {
            return self.send_apart(Delivery { at: some_time(), subscription, message });
        }
        let by_itself = if fastrand::f64() < late { some_time() } else { now };
        let at = by_itself.max(state.arrives.unwrap_or(now));
        state.arrives = Some(at);
        let _ = self.inbox.send(Delivery { at, subscription, message });
    }

    /// A number under which confirmations are counted, if this process can count them now.
    pub(crate) fn confirming(self: &Arc<Self>, number: u64) -> Option<ReplyTo> {
        let mut state = self.state.lock();
        state.others_back = state.others_back.filter(|back| Instant::now() < *back);
        let counts = state.is_connected && state.others_back.is_none();
        counts.then(|| {
            self.counts.lock().insert(number, BTreeSet::new());
            ReplyTo { writer: self.clone(), number }
        })
    }

    /// Whether so many, this process among them, confirm in time.
    pub(crate) async fn is_confirmed(&self, number: u64, receivers: usize) -> bool {
        let wait = if receivers > 25 { 200 } else { 50 };
        let deadline = Instant::now() + Duration::from_millis(wait);
        let confirmed = loop {
            let mut notified = std::pin::pin!(self.confirmed.notified());
            notified.as_mut().enable();
            if self.has_all(number, receivers) {
                break true;
            }
            if !self.state.lock().is_connected
                || tokio::time::timeout_at(deadline, notified).await.is_err()
            {
                break false;
            }
        };
        self.counts.lock().remove(&number);
        confirmed
    }

    fn has_all(&self, number: u64, receivers: usize) -> bool {
        let counts = self.counts.lock();
        let by = counts.get(&number).filter(|by| by.len() >= receivers && receivers > 0);
        by.is_some_and(|by| by.contains(&self.process))
    }

    fn confirmed_by(&self, number: u64, process: u32) {
        if self.state.lock().hears
            && let Some(by) = self.counts.lock().get_mut(&number)
        {
            by.insert(process);
            self.confirmed.notify_waiters();
        }
    }

    async fn listen(self: Arc<Self>, mut arriving: mpsc::UnboundedReceiver<Delivery>) {
        while let Some(delivery) = arriving.recv().await {
            self.arrive(delivery).await;
        }
    }

    /// Out of order.
    fn send_apart(self: &Arc<Self>, delivery: Delivery) {
        let this = self.clone();
        tokio::spawn(async move { this.arrive(delivery).await });
    }

    async fn arrive(&self, Delivery { at, subscription, message }: Delivery) {
        if at > Instant::now() {
            tokio::time::sleep_until(at).await;
        }
        if !self.life.is_awake().await || self.state.lock().subscription != subscription {
            return;
        }
        self.tell(message.event());
        if let Some(reply_to) = message.reply_to {
            self.confirm(reply_to);
        }
    }

    /// After the guard was told, which has dropped its near entry.
    fn confirm(&self, ReplyTo { writer, number }: ReplyTo) {
        let Delays { late, longest, .. } = self.state.lock().delays;
        if self.state.lock().is_mute {
            return;
        }
        let process = self.process;
        if writer.process == process || longest == 0 {
            return writer.confirmed_by(number, process);
        }
        let longest = if fastrand::f64() < late { longest } else { 0 };
        tokio::spawn(async move {
            pass(longest).await;
            writer.confirmed_by(number, process);
        });
    }

    fn tell(&self, event: Event<'_>) {
        tell_all(&self.watchers.lock().clone(), event);
    }
}

fn tell_all(watchers: &[Weak<dyn Watcher>], event: Event<'_>) {
    for watcher in watchers.iter().filter_map(Weak::upgrade) {
        watcher.on_event(event);
    }
}

impl Message {
    pub(crate) fn of(event: Event<'_>, reply_to: Option<ReplyTo>) -> Option<Self> {
        let (name, what) = match event {
            Event::Committed { name, version } => (name, What::Committed(version)),
            Event::Put { name, version } => (name, What::Put(version)),
            Event::Invalidated { name, version } => (name, What::Invalidated(version)),
            Event::Released { name } => (name, What::Released),
            _ => return None,
        };
        Some(Self { name: name.into(), what, reply_to })
    }

    fn event(&self) -> Event<'_> {
        let name = &*self.name;
        match self.what {
            What::Committed(version) => Event::Committed { name, version },
            What::Put(version) => Event::Put { name, version },
            What::Invalidated(version) => Event::Invalidated { name, version },
            What::Released => Event::Released { name },
        }
    }
}
