use std::{
    fmt::Write,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::time::Instant;

use super::{Notifier, Reach, Watchers, message::Message};
use crate::{
    far::{Error, ErrorKind, Event, Watcher},
    lock,
    postgres::{self, Connections, Listener, State, Subscriber},
    sql::Failure,
};

/// Messages over PostgreSQL's `NOTIFY`: wake-ups and near coherence, for a service that has no Redis.
/// Every connected process hears every message once, in the order in which one process published them.
/// A message is one statement, and each process that listens takes one connection besides those of the
/// set.
///
/// - *Cost*: the server carries out all commits that notify one after another, whatever they are about. A
///   message alone is not waited for on disk; a commit that also writes, like that of a released
///   [`PostgresRow`](crate::lock::PostgresRow), holds up the others until it is.
/// - *Confirmations*: none. An invalidation is always [`Unconfirmed`](Reach::Unconfirmed).
/// - *Breaks* are noticed at once, a silent server half a second and one
///   [timeout](Connections::timeout) later. It is asked for a sign of life every half second without
///   messages.
/// - *Names* of more than 3,958 bytes do not fit into a message. One about them tells all that anything may
///   have happened: [`Event::Disconnected`], then [`Event::Connected`].
/// - *Servers*: those who connect to the same database hear each other, on the primary only. Any user
///   of the database may send and hear.
/// - *Proxies*: none that pools transactions or statements, where a listener is told that it listens and
///   hears nothing. PgBouncer's `session` mode works.
///
/// Listening begins with the first use and ends with the last clone. Clones share the connection.
///
/// ```no_run
/// # async fn users() -> Result<(), Box<dyn std::error::Error>> {
/// use cattleguard::{Guard, far, lock, notify, postgres::Connections, store};
///
/// let connections = Connections::open("postgres://user:password@127.0.0.1/database")?;
/// let notifier = notify::Postgres::new(connections.clone()).namespace("users");
/// let far = far::Paired::new(store::Memory::new(), lock::PostgresSession::new(connections), notifier);
/// let users: Guard<u64, String> = Guard::builder().far(far).build();
/// # Ok(()) }
/// ```
///
/// # Cancel safety
///
/// A dropped `publish` may have sent its message, and costs its connection. A dropped `ready` does not
/// end the attempt to connect.
///
/// # Errors
///
/// All within the timeout: [`ErrorKind::Timeout`] also when no connection is free (a session lock needs
/// one for each lease), [`ErrorKind::Refused`] also when the server's queue is full because a listener of
/// any program has not read for long.
#[derive(Clone)]
pub struct Postgres {
    inner: Arc<Inner>,
}

struct Inner {
    connections: Connections,
    ear: Arc<Ear>,
    subscriber: Subscriber<Ear>,
}

struct Ear {
    channel: String,
    watchers: Watchers,
}

/// For the first connection.
const PATIENCE: Duration = Duration::from_millis(100);
const QUEUE_FULL: &[&str] = &["54000"];

impl Postgres {
    /// Messages over these connections, in the empty namespace.
    pub fn new(connections: Connections) -> Self {
        Self::within(connections, "")
    }

    /// Keeps the messages apart from those about other kinds of values. Default: the empty one.
    ///
    /// The channel is `cattleguard_events_{namespace}`, and `cattleguard_events` for the empty one. A
    /// namespace of more than 44 bytes, or of others than ASCII letters, digits, `_`, `-`, `.` and `:`,
    /// is replaced by a hash.
    pub fn namespace(self, namespace: &str) -> Self {
        Self::within(self.inner.connections.clone(), namespace)
    }

    fn within(connections: Connections, namespace: &str) -> Self {
        let ear = Arc::new(Ear { channel: channel(namespace), watchers: Watchers::default() });
        let subscriber = Subscriber::new(&connections, ear.clone());
        Self { inner: Arc::new(Inner { connections, ear, subscriber }) }
    }

    async fn send(&self, payload: &str) -> Result<(), Failure> {
        let Inner { connections: Connections(connections), ear, .. } = &*self.inner;
        let until = Instant::now() + connections.timeout();
        let notify = || sqlx::query("SELECT pg_notify($1, $2)").bind(&ear.channel).bind(payload);
        let mut link = connections.link(until).await?;
        let mut answer = link.row_until(notify(), until).await;
        if link.had_died(&answer) {
            link = connections.new_link(until).await?;
            answer = link.row_until(notify(), until).await;
        }
        answer.map(drop)
    }
}

impl Notifier for Postgres {
    fn watch(&self, watcher: Weak<dyn Watcher>) {
        self.inner.ear.watchers.add(watcher.clone());
        // Added first, so no event falls between; a second `Connected` does no harm. The state is
        // borrowed over the call, so that a `Disconnected` comes after it.
        let state = self.inner.subscriber.state();
        if *state == State::Connected
            && let Some(watcher) = watcher.upgrade()
        {
            watcher.on_event(Event::Connected);
        }
    }

    fn start(&self) {
        self.inner.subscriber.start();
    }

    async fn ready(&self) -> bool {
        self.inner.subscriber.ready(PATIENCE).await == State::Connected
    }

    async fn publish(&self, event: Event<'_>) -> Result<Reach, Error> {
        let Some(message) = Message::of(event, None) else { return Ok(Reach::Unconfirmed) };
        match self.send(&payload(&message)).await {
            Ok(()) => Ok(Reach::Unconfirmed),
            Err(failure) if failure.is(QUEUE_FULL) => Err(Error::new(ErrorKind::Refused, failure)),
            Err(failure) => Err(lock::Error::from(failure).into()),
        }
    }
}

impl Listener for Ear {
    fn channel(&self) -> &str {
        &self.channel
    }

    fn on_connected(&self) {
        self.watchers.tell(Event::Connected);
    }

    fn on_message(&self, payload: &str) {
        if payload == ANYTHING {
            self.watchers.tell(Event::Disconnected);
            return self.watchers.tell(Event::Connected);
        }
        let Some(message) = message(payload) else { return };
        if let Some((event, _)) = Message::read(&message) {
            self.watchers.tell(event);
        }
    }

    fn on_disconnected(&self) {
        self.watchers.tell(Event::Disconnected);
    }
}

/// What the server cuts off without a word.
const LONGEST_CHANNEL: usize = 63;
/// What the server takes is shorter than 8000 bytes.
const LONGEST_PAYLOAD: usize = 7999;
/// Instead of a message that is too long.
const ANYTHING: &str = "*";

fn channel(namespace: &str) -> String {
    let mut channel = "cattleguard_events".to_owned();
    if namespace.is_empty() {
        return channel;
    }
    channel.push('_');
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:".contains(&byte);
    if channel.len() + namespace.len() <= LONGEST_CHANNEL && namespace.bytes().all(plain) {
        channel.push_str(namespace);
    } else {
        // No plain namespace looks like this.
        let _ = write!(channel, "%{:016x}", postgres::hash(namespace));
    }
    channel
}

/// In hexadecimal digits: a payload is text in the database's encoding, without zero bytes.
fn payload(message: &[u8]) -> String {
    if message.len() * 2 > LONGEST_PAYLOAD {
        return ANYTHING.into();
    }
    let mut payload = String::with_capacity(message.len() * 2);
    for byte in message {
        let _ = write!(payload, "{byte:02x}");
    }
    payload
}

fn message(payload: &str) -> Option<Vec<u8>> {
    let digit = |digit: &u8| char::from(*digit).to_digit(16);
    let pairs = payload.as_bytes().chunks(2);
    pairs
        .map(|pair| match pair {
            [high, low] => u8::try_from(digit(high)? << 4 | digit(low)?).ok(),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_namespace_has_a_channel_of_its_own() {
        assert_eq!(channel(""), "cattleguard_events");
        assert_eq!(channel("users"), "cattleguard_events_users");
        let (fits, long) = ("n".repeat(44), "n".repeat(45));
        assert_eq!(channel(&fits), format!("cattleguard_events_{fits}"));
        let odd = [&*long, "ä", "a\"b", "a\0b", " "].map(channel);
        for (at, channel) in odd.iter().enumerate() {
            assert!(channel.len() <= LONGEST_CHANNEL && channel.is_ascii(), "{channel}");
            assert!(!odd[..at].contains(channel), "{channel}");
        }
    }

    #[test]
    fn a_name_that_does_not_fit_stands_for_anything() {
        let of = |length| payload(&Message::released(&"n".repeat(length)));
        assert_eq!(of(3958).len(), 7998);
        assert_eq!(of(3959), ANYTHING);
        let fits = message(&of(3958)).expect("our own");
        assert!(
            matches!(Message::read(&fits), Some((Event::Released { name }, _)) if name.len() == 3958)
        );
    }

    #[test]
    fn rubbish_is_no_message() {
        assert_eq!(message("00fF"), Some(vec![0, 255]));
        for rubbish in ["0", "000", "0g", "+1", "ä", "*"] {
            assert_eq!(message(rubbish), None, "{rubbish}");
        }
    }
}
