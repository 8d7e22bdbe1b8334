//! What the watchers of a far tier hear over Redis, whether it grants the leases itself or another lock does.
//! A process is a far tier on a connection of its own: nothing is shared but the server.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use cattleguard::{
    Version,
    codec::Json,
    far::{Attempt, Commit, Far, Invalidated, Put, Token, Watcher},
    memory::MemoryLock,
    redis::{Connection, ElectedFar},
};
use libtest_mimic::Trial;

use crate::{
    contract::{self, LONG, Recorder, eventually, fresh_name},
    servers,
    setup::{self, Servers, Tier, trials},
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
    let own_leases = trials!(
        servers, "redis_messages";
        only_who_waits_is_woken,
        more_waiters_than_a_lease_notes_are_all_told,
        what_nobody_asks_to_confirm_is_not_confirmed,
        confirmations_travel_together,
        a_commit_over_what_was_invalidated_is_told_to_nobody,
        a_channel_that_is_refused_takes_nothing_from_the_others,
    );
    let all = [messages!("redis", Tier), messages!("elected", Elected), own_leases];
    all.into_iter().flatten().collect()
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

async fn process_of(url: &str) -> Process<Tier> {
    Process::start(url, "").await
}

async fn waits(process: &Process<Tier>, name: &str) -> usize {
    let held = process.far.look_up_or_lease(name, Token::random(), LONG, Duration::ZERO).await;
    let Ok(Attempt::Held { ahead, .. }) = held else { panic!("{held:?}") };
    ahead
}

async fn only_who_waits_is_woken(_: Arc<Servers>) {
    let server = servers::Redis::start().expect("a server");
    let (one, waiter, third) = (
        process_of(&server.url()).await,
        process_of(&server.url()).await,
        process_of(&server.url()).await,
    );
    // Of the same process, and of another namespace: not meant.
    let redis = Connection::open(&server.url()).await.expect("a connection").timeout(TIMEOUT);
    let (mine, yours) = (Tier::new(redis.clone(), Json), Tier::new(redis, Json).namespace("yours"));
    let heard_by = [watched(&mine), watched(&yours)];
    yours.read("any").await.expect("a read");
    for recorder in &heard_by {
        told(recorder, CONNECTED).await;
    }
    let (first, last) = (fresh_name(), fresh_name());
    let (token, _) = contract::lease(&one.far, &first, LONG).await;
    assert_eq!((waits(&waiter, &first).await, waits(&waiter, &first).await), (0, 0));
    let held = mine.look_up_or_lease(&first, Token::random(), LONG, Duration::ZERO).await;
    assert!(matches!(held, Ok(Attempt::Held { ahead: 1, .. })), "{held:?}");
    one.far.release(&first, token).await.expect("a release");
    one.put(&last, 1).await;
    let released = [format!("released {first}")];
    for (recorder, expected) in
        [(&waiter.recorder, &released[..]), (&heard_by[0], &released), (&third.recorder, &[])]
    {
        eventually(async || (!recorder.about(&last).is_empty()).then_some(())).await;
        assert_eq!(recorder.about(&first), expected);
    }
    assert_eq!(heard_by[1].about(&first), [""; 0]);
}

/// All were told of the invalidation, before.
async fn a_commit_over_what_was_invalidated_is_told_to_nobody(_: Arc<Servers>) {
    let server = servers::Redis::start().expect("a server");
    let process = process_of(&server.url()).await;
    let (name, last) = (fresh_name(), fresh_name());
    process.put(&name, 1).await;
    process.invalidate(&name, None).await;
    process.commit(&name, 2).await;
    process.put(&last, 1).await;
    heard(&process.recorder, &last, &[format!("put {last} 1")]).await;
    let expected = [format!("put {name} 1"), format!("invalidated {name} None")];
    assert_eq!(process.recorder.about(&name), expected);
}

/// A lock, say, in a service whose user has no right to its channel.
async fn a_channel_that_is_refused_takes_nothing_from_the_others(_: Arc<Servers>) {
    let server = servers::Redis::start().expect("a server");
    let user = "ACL SETUSER app on >secret +@all ~* resetchannels &cg:{mine:* &cg:process:*";
    assert!(servers::ask_redis(server.port(), user).contains("+OK"));
    let url = format!("redis://app:secret@127.0.0.1:{}/", server.port());
    let redis = Connection::open(&url).await.expect("a connection").timeout(TIMEOUT);
    let [mine, yours] =
        ["mine", "yours"].map(|name| Tier::new(redis.clone(), Json).namespace(name));
    let recorders = [watched(&yours), watched(&mine)];
    for far in [&yours, &mine] {
        let _ = far.invalidate("name", None, LONG).await;
    }
    told(&recorders[1], CONNECTED).await;
    let done = mine.invalidate("name", None, LONG).await.expect("an invalidation");
    assert_eq!(done, Invalidated::Everywhere);
    assert!(recorders[0].heard.lock().iter().all(|event| event != CONNECTED));
}

/// A lease notes 64 processes that wait. From then on all are told.
async fn more_waiters_than_a_lease_notes_are_all_told(_: Arc<Servers>) {
    let server = servers::Redis::start().expect("a server");
    let one = process_of(&server.url()).await;
    let mut waiters = Vec::new();
    for _ in 0..70 {
        waiters.push(process_of(&server.url()).await);
    }
    for end in ["release", "commit"] {
        let name = fresh_name();
        let (token, _) = contract::lease(&one.far, &name, LONG).await;
        for (place, waiter) in waiters.iter().enumerate() {
            assert_eq!(waits(waiter, &name).await, place.min(64));
        }
        let expected = if end == "release" {
            one.far.release(&name, token).await.expect("a release");
            format!("released {name}")
        } else {
            let record = contract::record(&one.far, Some("a"), 1);
            let _ = one.far.commit(&name, token, record).await.expect("a commit");
            format!("committed {name} 1")
        };
        for waiter in &waiters {
            eventually(async || waiter.recorder.about(&name).contains(&expected).then_some(()))
                .await;
        }
    }
}

async fn what_nobody_asks_to_confirm_is_not_confirmed(_: Arc<Servers>) {
    let server = servers::Redis::start().expect("a server");
    let (one, other) = (process_of(&server.url()).await, process_of(&server.url()).await);
    let guard: cattleguard::Guard<str, String> =
        cattleguard::Guard::builder().far(one.far.clone()).build();
    let before = publishes(&server);
    let name = fresh_name();
    for _ in 0..10 {
        let done = guard.invalidate(&name).unconfirmed().await.expect("an invalidation");
        assert_eq!(done, Invalidated::Unconfirmed);
    }
    let done = guard.invalidate(&name).await.expect("an invalidation");
    assert_eq!(done, Invalidated::Everywhere);
    assert_eq!(other.recorder.about(&name).len(), 11);
    assert_eq!(publishes(&server) - before, 12, "with the confirmation of the last");
}

/// One message for all that was dropped since the last.
async fn confirmations_travel_together(_: Arc<Servers>) {
    let server = servers::Redis::start().expect("a server");
    let (one, _other) = (process_of(&server.url()).await, process_of(&server.url()).await);
    let before = publishes(&server);
    let invalidating = (0..1000).map(|number| {
        let far = one.far.clone();
        async move { far.invalidate(&format!("n{number}"), None, LONG).await }
    });
    for done in futures::future::join_all(invalidating).await {
        assert!(matches!(done, Ok(Invalidated::Everywhere)), "{done:?}");
    }
    let confirmations = publishes(&server) - before - 1000;
    assert!((1..500).contains(&confirmations), "{confirmations} messages for 1,000 invalidations");
}

fn publishes(server: &servers::Redis) -> u64 {
    let stats = servers::ask_redis(server.port(), "INFO commandstats");
    let calls = stats.lines().find_map(|line| line.strip_prefix("cmdstat_publish:calls="));
    calls.and_then(|calls| calls.split(',').next()?.parse().ok()).unwrap_or(0)
}
