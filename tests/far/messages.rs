//! What the watchers of a far tier hear over Redis, whether it grants the leases itself or another lock does.
//! A process is a far tier on a connection of its own: nothing is shared but the server.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use cattleguard::{
    Version,
    codec::Json,
    far::{Commit, Far, Invalidated, Put, Token, Watcher},
    memory::MemoryLock,
    redis::{Connection, ElectedFar},
};
use libtest_mimic::Trial;

use crate::{
    contract::{self, LONG, Recorder, eventually, fresh_name},
    servers,
    setup::{self, Servers, Tier},
};

pub fn trials(servers: &Arc<Servers>) -> Vec<Trial> {
    macro_rules! over {
        ($name:literal, $kind:ty; $($test:ident),* $(,)?) => {
            vec![$(setup::trial(
                concat!($name, "_messages::", stringify!($test)),
                servers,
                async |on: Arc<Servers>| $test::<$kind>(on).await,
            )),*]
        };
    }
    macro_rules! messages {
        ($name:literal, $kind:ty) => {
            over!(
                $name, $kind;
                all_hear_in_the_order_of_publishing,
                a_later_watcher_hears_what_comes_later,
                no_message_is_too_long,
                namespaces_are_apart,
                a_server_that_is_gone_is_told,
                for_a_while_after_an_outage_nobody_claims_to_have_reached_everybody,
            )
        };
    }
    [messages!("redis", Tier), messages!("elected", Elected)].into_iter().flatten().collect()
}

/// Messages do not depend on the lock.
type Elected = ElectedFar<String, Json, MemoryLock>;

/// A far tier whose messages are tested.
trait Tested: Far<String> + Sized {
    /// Whether a commit and a release wait for their message however long that takes. If not, the next call
    /// may overtake it on a busy machine.
    const WAITS_FOR_MESSAGES: bool;

    fn over(redis: Tier) -> Self;
}

impl Tested for Tier {
    const WAITS_FOR_MESSAGES: bool = true;

    fn over(redis: Tier) -> Self {
        redis
    }
}

impl Tested for Elected {
    const WAITS_FOR_MESSAGES: bool = false;

    fn over(redis: Tier) -> Self {
        // A lock of each process' own: no test here has two of them load one name.
        redis.elected_by(MemoryLock::new()).lock_timeout(TIMEOUT)
    }
}

/// Two cores, many servers: the default is for production machines.
const TIMEOUT: Duration = Duration::from_secs(2);

const CONNECTED: &str = "connected";
const DISCONNECTED: &str = "disconnected";

/// A process that is connected, and what it hears.
struct Process<F> {
    far: F,
    recorder: Arc<Recorder>,
}

impl<F: Tested> Process<F> {
    async fn start(url: &str, namespace: &str) -> Self {
        let redis = Connection::open(url).await.expect("a connection").timeout(TIMEOUT);
        let far = F::over(Tier::new(redis, Json).namespace(namespace));
        let recorder = watched(&far);
        far.read("any").await.expect("a read");
        told(&recorder, CONNECTED).await;
        Self { far, recorder }
    }

    async fn commit(&self, name: &str, version: u64) {
        let (token, _) = contract::lease_soon(&self.far, name).await;
        let record = contract::stale(&self.far, "a", version);
        let committed = self.far.commit(name, token, record).await;
        assert!(matches!(committed, Ok(Commit::Stored(_))), "{committed:?}");
    }

    async fn invalidate(&self, name: &str, version: Option<u64>) {
        let version = version.map(Version::new);
        self.far.invalidate(name, version, LONG).await.expect("an invalidation");
    }

    async fn put(&self, name: &str, version: u64) {
        let put = self.far.put(name, contract::stale(&self.far, "b", version)).await;
        assert!(matches!(put, Ok(Put::Stored(_))), "{put:?}");
    }

    /// When the last call's message may still be on its way, waits for it.
    async fn settled(&self, name: &str, expected: &[String]) {
        if !F::WAITS_FOR_MESSAGES {
            heard(&self.recorder, name, expected).await;
        }
    }
}

fn watched(far: &impl Far<String>) -> Arc<Recorder> {
    let recorder = Arc::new(Recorder::default());
    let weak: Weak<dyn Watcher> = Arc::downgrade(&recorder) as _;
    far.watch(weak);
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
    // Without wake-ups: a lock's holder that finds an entry frees it, and tells all.
    let about = || {
        let all = recorder.about(name).into_iter();
        all.filter(|event| !event.starts_with("released")).collect::<Vec<_>>()
    };
    eventually(async || (about().len() >= expected.len()).then_some(())).await;
    assert_eq!(about(), expected);
}

async fn all_hear_in_the_order_of_publishing<F: Tested>(on: Arc<Servers>) {
    let (url, namespace) = (on.redis(), fresh_name());
    let one = Process::<F>::start(&url, &namespace).await;
    let other = Process::<F>::start(&url, &namespace).await;
    let third = watched(&other.far);
    for process in [&one, &other] {
        let name = fresh_name();
        let mut expected = Vec::new();
        for round in 0..20 {
            let version = (1 << 53) + 10 * round;
            process.put(&name, version).await;
            expected.push(format!("put {name} {version}"));
            process.commit(&name, version + 1).await;
            expected.push(format!("committed {name} {}", version + 1));
            process.settled(&name, &expected).await;
            process.invalidate(&name, Some(version + 2)).await;
            let invalidated = Some(Version::new(version + 2));
            expected.push(format!("invalidated {name} {invalidated:?}"));
            process.invalidate(&name, None).await;
            expected.push(format!("invalidated {name} None"));
        }
        for recorder in [&one.recorder, &other.recorder, &third] {
            heard(recorder, &name, &expected).await;
        }
    }
}

/// Where messages flow already.
async fn a_later_watcher_hears_what_comes_later<F: Tested>(on: Arc<Servers>) {
    let process = Process::<F>::start(&on.redis(), &fresh_name()).await;
    let (before, after) = (fresh_name(), fresh_name());
    process.put(&before, 1).await;
    heard(&process.recorder, &before, &[format!("put {before} 1")]).await;
    let late = watched(&process.far);
    told(&late, CONNECTED).await;
    process.put(&after, 1).await;
    heard(&late, &after, &[format!("put {after} 1")]).await;
    assert_eq!(late.about(&before), [""; 0]);
}

async fn no_message_is_too_long<F: Tested>(on: Arc<Servers>) {
    let process = Process::<F>::start(&on.redis(), &fresh_name()).await;
    for length in [300, 4_000, 20_000] {
        let name = fresh_name() + &"n".repeat(length);
        process.put(&name, 1).await;
        heard(&process.recorder, &name, &[format!("put {name} 1")]).await;
    }
    assert!(!process.recorder.heard.lock().contains(&DISCONNECTED.to_owned()));
}

async fn namespaces_are_apart<F: Tested>(on: Arc<Servers>) {
    let url = on.redis();
    let long = fresh_name() + &"x".repeat(100);
    let namespaces = ["", "lock", "plain", &long, &format!("{long}x")];
    let mut all = Vec::new();
    for namespace in namespaces {
        all.push(Process::<F>::start(&url, namespace).await);
    }
    // Each in its own, then one message that comes after all others.
    let names = namespaces.map(|_| fresh_name());
    for (process, name) in all.iter().zip(&names) {
        process.put(name, 1).await;
        process.settled(name, &[format!("put {name} 1")]).await;
    }
    let last = fresh_name();
    for (process, own) in all.iter().zip(&names) {
        process.put(&last, 1).await;
        heard(&process.recorder, &last, &[format!("put {last} 1")]).await;
        for name in &names {
            assert_eq!(process.recorder.about(name).len(), usize::from(name == own));
        }
    }
}

async fn a_server_that_is_gone_is_told<F: Tested>(_: Arc<Servers>) {
    let mut server = servers::Redis::start().expect("a server");
    let (url, namespace) = (server.url(), fresh_name());
    let one = Process::<F>::start(&url, &namespace).await;
    let other = Process::<F>::start(&url, &namespace).await;
    for fault in ["frozen", "dead"] {
        // Over a connection that is kept.
        eventually(async || one.far.read("warm").await.ok()).await;
        match fault {
            "frozen" => server.freeze(),
            _ => server.kill(),
        }
        let begin = Instant::now();
        let error = one.far.invalidate("secret-name", None, LONG).await.expect_err(fault);
        assert!(begin.elapsed() < TIMEOUT + Duration::from_secs(1), "{:?}", begin.elapsed());
        is_quiet_outage(&error, fault);

        for process in [&one, &other] {
            told(&process.recorder, DISCONNECTED).await;
        }
        let begin = Instant::now();
        one.far
            .look_up_or_lease(&fresh_name(), Token::random(), LONG, Duration::ZERO)
            .await
            .expect_err(fault);
        assert!(begin.elapsed() < TIMEOUT + Duration::from_secs(1), "{:?}", begin.elapsed());
        assert!(watched(&other.far).heard.lock().is_empty(), "not connected");
        match fault {
            "frozen" => server.thaw(),
            _ => server.restart().expect("a server"),
        }
        for process in [&one, &other] {
            told(&process.recorder, CONNECTED).await;
        }
        let name = fresh_name();
        eventually(async || one.far.invalidate(&name, None, LONG).await.ok()).await;
        for process in [&one, &other] {
            eventually(async || (!process.recorder.about(&name).is_empty()).then_some(())).await;
        }
    }
}

fn is_quiet_outage(error: &cattleguard::Fault, fault: &str) {
    use cattleguard::FaultKind::{Refused, Timeout, Unreachable};

    assert!([Unreachable, Timeout, Refused].contains(&error.kind()), "{fault}: {error:?}");
    let mut text = format!("{error} {error:?}");
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text += &format!(" {cause} {cause:?}");
        source = cause.source();
    }
    assert!(!text.contains("secret"), "{text}");
}

/// Who is back first does not know whether the others are.
async fn for_a_while_after_an_outage_nobody_claims_to_have_reached_everybody<F: Tested>(
    _: Arc<Servers>,
) {
    let mut server = servers::Redis::start().expect("a server");
    let process = Process::<F>::start(&server.url(), &fresh_name()).await;
    let reached =
        async || eventually(async || process.far.invalidate("name", None, LONG).await.ok()).await;
    assert_eq!(reached().await, Invalidated::Everywhere);
    server.kill();
    told(&process.recorder, DISCONNECTED).await;
    server.restart().expect("a server");
    told(&process.recorder, CONNECTED).await;
    assert_eq!(reached().await, Invalidated::Unconfirmed);
    eventually(async || (reached().await == Invalidated::Everywhere).then_some(())).await;
}
