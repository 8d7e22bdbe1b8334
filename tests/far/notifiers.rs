//! The contract in `cattleguard::notify`, for any implementer. A function `open` makes a notifier of a
//! namespace as another process would have it: nothing is shared with others but the server.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use cattleguard::{
    Version,
    far::{ErrorKind, Event},
    notify::{self, Notifier, Reach},
    postgres::Pool,
    redis::Connection,
    zookeeper::Session,
};
use sqlx::Connection as _;

use crate::{
    contract::{Recorder, eventually, fresh_name},
    servers,
};

pub fn memory() -> impl AsyncFn(&str) -> notify::Memory {
    let memory = notify::Memory::new();
    async move |_: &str| memory.clone()
}

pub fn redis(url: String) -> impl AsyncFn(&str) -> notify::Redis {
    async move |namespace: &str| {
        let redis = Connection::open(&url).await.expect("a connection").timeout(TIMEOUT);
        notify::Redis::new(redis).namespace(namespace)
    }
}

pub fn postgres(url: String) -> impl AsyncFn(&str) -> notify::Postgres {
    async move |namespace: &str| {
        let connections = Connections::open(&url).expect("a URL").timeout(TIMEOUT);
        notify::Postgres::new(connections).namespace(namespace)
    }
}

pub fn zookeeper(address: String) -> impl AsyncFn(&str) -> notify::Zookeeper {
    async move |namespace: &str| {
        let session = Session::open(&address).await.expect("a session");
        notify::Zookeeper::new(session).namespace(namespace).expect("a namespace")
    }
}

/// Two cores, many servers: a default may be for production machines.
const TIMEOUT: Duration = Duration::from_secs(2);

/// A server that a test may disturb.
pub trait Server: Send + 'static {
    fn start() -> Self;
    /// Stays the same over a restart.
    fn address(&self) -> String;
    fn freeze(&self);
    fn thaw(&self);
    fn kill(&mut self);
    fn restart(&mut self);
}

macro_rules! server {
    ($server:ty, $address:ident) => {
        impl Server for $server {
            fn start() -> Self {
                Self::start().expect("a server")
            }

            fn address(&self) -> String {
                self.$address()
            }

            fn freeze(&self) {
                self.freeze();
            }

            fn thaw(&self) {
                self.thaw();
            }

            fn kill(&mut self) {
                self.kill();
            }

            fn restart(&mut self) {
                self.restart().expect("a server");
            }
        }
    };
}
server!(servers::Redis, url);
server!(servers::Postgres, url);
server!(servers::Zookeeper, address);

const CONNECTED: &str = "connected";
const DISCONNECTED: &str = "disconnected";

fn watched(notifier: &impl Notifier) -> Arc<Recorder> {
    let recorder = Arc::new(Recorder::default());
    let weak: Weak<Recorder> = Arc::downgrade(&recorder);
    notifier.watch(weak);
    recorder
}

/// Until this is the last word about the connection.
async fn told(recorder: &Recorder, word: &str) {
    eventually(async || {
        let heard = recorder.heard.lock();
        let mut words = heard.iter().filter(|event| [CONNECTED, DISCONNECTED].contains(&&***event));
        words.next_back().is_some_and(|last| last == word).then_some(())
    })
    .await;
}

async fn heard(recorder: &Recorder, name: &str, expected: &[String]) {
    eventually(async || (recorder.about(name).len() >= expected.len()).then_some(())).await;
    assert_eq!(recorder.about(name), expected);
}

/// A notifier that is connected, and its watcher.
async fn opened<N: Notifier>(
    open: &impl AsyncFn(&str) -> N,
    namespace: &str,
) -> (N, Arc<Recorder>) {
    let notifier = open(namespace).await;
    let recorder = watched(&notifier);
    notifier.start();
    told(&recorder, CONNECTED).await;
    assert!(notifier.ready().await);
    (notifier, recorder)
}

async fn release(notifier: &impl Notifier, name: &str) {
    let _ = notifier.publish(Event::Released { name }).await.expect("a message");
}

/// Clause 1.
pub async fn all_hear_in_the_order_of_publishing<N: Notifier>(open: impl AsyncFn(&str) -> N) {
    let namespace = fresh_name();
    let (one, first) = opened(&open, &namespace).await;
    let (other, second) = opened(&open, &namespace).await;
    let third = watched(&other);
    for notifier in [&one, &other] {
        let name = fresh_name();
        let mut expected = Vec::new();
        for round in 0..20 {
            let version = Version::new(u64::MAX - round);
            let events = [
                (Event::Committed { name: &name, version }, format!("committed {name} {version}")),
                (Event::Put { name: &name, version }, format!("put {name} {version}")),
                (
                    Event::Invalidated { name: &name, version: Some(version) },
                    format!("invalidated {name} {:?}", Some(version)),
                ),
                (
                    Event::Invalidated { name: &name, version: None },
                    format!("invalidated {name} None"),
                ),
                (Event::Released { name: &name }, format!("released {name}")),
            ];
            for (event, text) in events {
                let _ = notifier.publish(event).await.expect("a message");
                expected.push(text);
            }
        }
        for recorder in [&first, &second, &third] {
            heard(recorder, &name, &expected).await;
        }
    }
}

/// Clauses 1 and 2, where messages flow already.
pub async fn a_later_watcher_hears_what_comes_later<N: Notifier>(open: impl AsyncFn(&str) -> N) {
    let (notifier, early) = opened(&open, &fresh_name()).await;
    let (before, after) = (fresh_name(), fresh_name());
    release(&notifier, &before).await;
    heard(&early, &before, &[format!("released {before}")]).await;
    let late = watched(&notifier);
    told(&late, CONNECTED).await;
    release(&notifier, &after).await;
    heard(&late, &after, &[format!("released {after}")]).await;
    assert_eq!(late.about(&before), [""; 0]);
}

/// Clauses 1 and 2: a message that cannot be sent as it is may be lost, but not silently.
pub async fn no_message_is_too_long<N: Notifier>(open: impl AsyncFn(&str) -> N) {
    let (notifier, recorder) = opened(&open, &fresh_name()).await;
    for length in [300, 4_000, 20_000] {
        recorder.heard.lock().clear();
        let name = fresh_name() + &"n".repeat(length);
        release(&notifier, &name).await;
        eventually(async || (!recorder.heard.lock().is_empty()).then_some(())).await;
        if recorder.about(&name).is_empty() {
            assert!(length > 1_000, "names of this length are not rare");
            eventually(async || (recorder.heard.lock().len() > 1).then_some(())).await;
            assert_eq!(*recorder.heard.lock(), [DISCONNECTED, CONNECTED]);
        }
        assert!(notifier.ready().await);
    }
    let name = fresh_name();
    release(&notifier, &name).await;
    heard(&recorder, &name, &[format!("released {name}")]).await;
}

pub async fn namespaces_are_apart<N: Notifier>(open: impl AsyncFn(&str) -> N) {
    let long = fresh_name() + &"x".repeat(100);
    let namespaces = ["", "lock", "plain", &long, &format!("{long}x")];
    let mut all = Vec::new();
    for namespace in namespaces {
        all.push(opened(&open, namespace).await);
    }
    // Each in its own, then one message that comes after all others.
    let names = namespaces.map(|_| fresh_name());
    for ((notifier, _), name) in all.iter().zip(&names) {
        release(notifier, name).await;
    }
    let last = fresh_name();
    for ((notifier, recorder), own) in all.iter().zip(&names) {
        release(notifier, &last).await;
        heard(recorder, &last, &[format!("released {last}")]).await;
        for name in &names {
            assert_eq!(recorder.about(name).len(), usize::from(name == own));
        }
    }
}

/// Clauses 2, 3 and 4.
pub async fn a_server_that_is_gone_is_told<S: Server, N: Notifier>(
    mut server: S,
    open: impl AsyncFn(&str) -> N,
) {
    let namespace = fresh_name();
    let (one, first) = opened(&open, &namespace).await;
    let (other, second) = opened(&open, &namespace).await;
    for fault in ["frozen", "dead"] {
        // Over a connection that is kept.
        eventually(async || one.publish(Event::Released { name: "warm" }).await.ok()).await;
        match fault {
            "frozen" => server.freeze(),
            _ => server.kill(),
        }
        let begin = Instant::now();
        let event = Event::Invalidated { name: "secret-name", version: None };
        let error = one.publish(event).await.expect_err(fault);
        assert!(begin.elapsed() < TIMEOUT + Duration::from_secs(1), "{:?}", begin.elapsed());
        let kinds = [ErrorKind::Unreachable, ErrorKind::Timeout, ErrorKind::Refused];
        assert!(kinds.contains(&error.kind()), "{fault}: {error:?}");
        let mut text = format!("{error} {error:?}");
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            text += &format!(" {cause} {cause:?}");
            source = cause.source();
        }
        assert!(!text.contains("secret"), "{text}");

        for recorder in [&first, &second] {
            told(recorder, DISCONNECTED).await;
        }
        let begin = Instant::now();
        assert!(!one.ready().await, "{fault}");
        assert!(begin.elapsed() < TIMEOUT, "{:?}", begin.elapsed());
        assert!(watched(&other).heard.lock().is_empty(), "not connected");
        match fault {
            "frozen" => server.thaw(),
            _ => server.restart(),
        }
        for recorder in [&first, &second] {
            told(recorder, CONNECTED).await;
        }
        let name = fresh_name();
        eventually(async || one.publish(Event::Released { name: &name }).await.ok()).await;
        for recorder in [&first, &second] {
            eventually(async || (!recorder.about(&name).is_empty()).then_some(())).await;
        }
    }
}

/// Who is back first does not know whether the others are.
pub async fn for_a_while_after_an_outage_nobody_claims_to_have_reached_everybody() {
    let mut server = servers::Redis::start().expect("a server");
    let open = redis(server.url());
    let (notifier, recorder) = opened(&open, &fresh_name()).await;
    let reach = async || {
        let event = Event::Invalidated { name: "name", version: None };
        eventually(async || notifier.publish(event).await.ok()).await
    };
    assert_eq!(reach().await, Reach::Everywhere);
    server.kill();
    told(&recorder, DISCONNECTED).await;
    server.restart().expect("a server");
    told(&recorder, CONNECTED).await;
    assert_eq!(reach().await, Reach::Unconfirmed);
    eventually(async || (reach().await == Reach::Everywhere).then_some(())).await;
}

/// A connection is a process of the server: none may be left over.
pub async fn listening_ends_with_the_last_clone(url: String) {
    let mark = format!("mark{}", fastrand::u64(..));
    let options: sqlx::postgres::PgConnectOptions = url.parse().expect("a URL");
    let connections = Connections::with(options.clone().application_name(&mark)).timeout(TIMEOUT);
    let mut counting = sqlx::PgConnection::connect_with(&options).await.expect("a connection");
    let mut count = async || {
        let count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1";
        let count = sqlx::query_scalar::<_, i64>(count).bind(&mark);
        count.fetch_one(&mut counting).await.expect("a count")
    };
    let notifier = notify::Postgres::new(connections).namespace(&fresh_name());
    let recorder = watched(&notifier);
    assert_eq!(count().await, 0, "not before the first use");
    for _ in 0..10 {
        notifier.start();
    }
    told(&recorder, CONNECTED).await;
    assert_eq!(count().await, 1);
    let clone = notifier.clone();
    drop(notifier);
    release(&clone, "name").await;
    heard(&recorder, "name", &["released name".into()]).await;
    drop(clone);
    told(&recorder, DISCONNECTED).await;
    eventually(async || (count().await == 0).then_some(())).await;
}
