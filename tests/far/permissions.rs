//! A Redis that does not let its user do everything: what still works, and what is said about the rest.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use cattleguard::{
    Guard, Loaded, Outcome, Policy,
    codec::Json,
    far::{Attempt, Commit, Far, Invalidated, Token},
};
use libtest_mimic::Trial;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tracing::{Dispatch, subscriber::NoSubscriber};

use crate::{
    bounded,
    contract::{self, LONG, Recorder, eventually, fresh_name, lease},
    servers,
    setup::{self, Servers, Tier, trials},
};

pub fn trials(servers: &Arc<Servers>) -> Vec<Trial> {
    trials!(
        servers, "permissions";
        whatever_is_refused_is_said_once_and_what_can_be_done_is_done,
        a_redis_as_needed_is_not_talked_about,
        a_redis_that_may_evict_leases_is_told,
        who_cannot_be_noted_polls,
        without_publish_waiters_poll_and_near_entries_do_not_rely_on_messages,
        where_scripts_may_not_publish_the_client_does,
        without_time_fences_grow_and_entries_age,
        rights_that_are_taken_later_are_told_and_worked_around,
        errors_and_logs_show_neither_key_nor_value,
    )
}

/// What is logged while this test's thread runs.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock()).into_owned()
    }

    fn dispatch(&self, level: tracing::Level) -> Dispatch {
        let log = self.clone();
        let subscriber = tracing_subscriber::fmt().with_max_level(level).with_ansi(false);
        Dispatch::new(subscriber.with_writer(move || log.clone()).finish())
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Keeps tracing from asking only the first thread that comes by a callsite.
fn second_subscriber() -> Dispatch {
    Dispatch::new(NoSubscriber::default())
}

/// A server with a user that may do all but this, and the URL for the user.
fn limited(server: &servers::Redis, rights: &str) -> String {
    let made = format!("ACL SETUSER limited reset on >pass ~* &* +@all {rights}");
    let reply = servers::ask_redis(server.port(), &made);
    assert!(reply.starts_with("+OK"), "{reply}");
    format!("redis://limited:pass@127.0.0.1:{}/", server.port())
}

async fn far(url: &str) -> Tier {
    Tier::new(setup::open(url).await, Json)
}

fn guard(far: &Tier) -> Guard<str, String> {
    let policy = Policy::default().jitter(0.0).early_refresh(0.0);
    Guard::builder().policy(policy).far(far.clone()).build()
}

async fn fetched(guard: &Guard<str, String>, name: &str) -> Outcome {
    let load = || async { Ok::<_, io::Error>(Loaded::found("value".to_owned(), 1)) };
    bounded(guard.fetch(name, load)).await.expect("a value").outcome()
}

async fn whatever_is_refused_is_said_once_and_what_can_be_done_is_done(_: Arc<Servers>) {
    let _second = second_subscriber();
    let server = servers::Redis::start().expect("a Redis");
    for (rights, said, stores) in [
        ("-time", &["refuses TIME, so entries follow its clock"][..], true),
        ("-time -info", &["keep these in step"], true),
        ("-publish", &["refuses PUBLISH or channels"], true),
        ("-time -publish", &["refuses TIME", "refuses PUBLISH"], true),
        ("-pubsub", &["refuses PUBSUB"], true),
        ("-eval", &["refuses EVAL, so a load"], true),
        ("-evalsha", &["refuses scripts"], false),
        ("-@scripting", &["refuses scripts"], false),
        ("resetkeys ~other*", &["keys that begin with `cg`"], false),
        ("resetchannels &other*", &["channels that begin with `cg`"], true),
        ("-info", &[], true),
    ] {
        let log = Log::default();
        let _default = tracing::dispatcher::set_default(&log.dispatch(tracing::Level::WARN));
        let far = far(&limited(&server, rights)).await;
        let name = fresh_name();
        let _ = far.read(&name).await;
        let other = guard(&self::far(&limited(&server, rights)).await);
        assert_eq!(
            fetched(&guard(&far), &name).await == Outcome::Loaded,
            stores,
            "{rights}: {}",
            log.text()
        );
        let is_hit = matches!(fetched(&other, &name).await, Outcome::Hit(_));
        assert_eq!(is_hit, stores, "{rights}");
        let text = log.text();
        let lines = text.lines().filter(|line| line.contains("Redis is not as needed"));
        // Once for each of the two.
        let expected = if said.is_empty() { 0 } else { 2 };
        assert_eq!(lines.count(), expected, "{rights}: {text}");
        for said in said {
            assert!(text.contains(said), "{rights}: {text}");
        }
        far.read(&name).await.ok();
        assert_eq!(log.text(), text, "{rights}: said again");
    }
}

async fn a_redis_as_needed_is_not_talked_about(_: Arc<Servers>) {
    let _second = second_subscriber();
    let server = servers::Redis::start().expect("a Redis");
    let log = Log::default();
    let _default = tracing::dispatcher::set_default(&log.dispatch(tracing::Level::WARN));
    // The rights that docs/redis.md asks for.
    let rights = "-@all +get +mget +eval +evalsha +script|load +time +ping +subscribe +unsubscribe +publish \
        +pubsub|numsub +append +del +getrange +pexpire +pttl +set +setrange resetkeys ~cg* resetchannels &cg*";
    let far = far(&limited(&server, rights)).await;
    let name = fresh_name();
    far.read(&name).await.expect("a read");
    let (token, _) = lease(&far, &name, LONG).await;
    let stored = far.commit(&name, token, contract::record(&far, Some("a"), 1)).await;
    assert!(matches!(stored, Ok(Commit::Stored(_))), "{stored:?}");
    let (name, other) = (fresh_name(), fresh_name());
    let (token, _) = lease(&far, &name, LONG).await;
    assert!(far.renew(&name, token, LONG).await.is_ok());
    far.release(&name, token).await.expect("a release");
    let (token, _) = lease(&far, &other, LONG).await;
    far.fail(&other, token, LONG).await.expect("an answer");
    eventually(async || {
        let done = far.invalidate(&name, None, LONG).await.expect("an invalidation");
        (done == Invalidated::Everywhere).then_some(())
    })
    .await;
    assert_eq!(log.text(), "");
}

async fn who_cannot_be_noted_polls(_: Arc<Servers>) {
    let server = servers::Redis::start().expect("a Redis");
    let url = limited(&server, "-append");
    let [one, other] = [far(&url).await, far(&url).await];
    let name = fresh_name();
    let (_token, _) = lease(&one, &name, LONG).await;
    let held = other.look_up_or_lease(&name, Token::random(), LONG, Duration::ZERO).await;
    let Ok(Attempt::Held { remaining, .. }) = held else { panic!("{held:?}") };
    assert!(remaining < Duration::from_millis(100), "it waits for no message: {remaining:?}");
}

async fn a_redis_that_may_evict_leases_is_told(_: Arc<Servers>) {
    let _second = second_subscriber();
    for (policy, told) in [("allkeys-lru", 1), ("volatile-ttl", 1), ("noeviction", 0)] {
        let limits = ["--maxmemory", "64mb", "--maxmemory-policy", policy];
        let server = servers::Redis::start_with(&limits).expect("a Redis");
        let log = Log::default();
        let _default = tracing::dispatcher::set_default(&log.dispatch(tracing::Level::WARN));
        far(&server.url()).await.read("any").await.expect("a read");
        let count = log.text().matches("prefer noeviction").count();
        assert_eq!(count, told, "{policy}: {}", log.text());
    }
}

async fn without_publish_waiters_poll_and_near_entries_do_not_rely_on_messages(_: Arc<Servers>) {
    let server = servers::Redis::start().expect("a Redis");
    let url = limited(&server, "-publish");
    let [one, other] = [far(&url).await, far(&url).await];
    let recorder = Arc::new(Recorder::default());
    other.watch(Arc::downgrade(&recorder) as _);
    let name = fresh_name();
    for far in [&one, &other] {
        far.read(&name).await.expect("a read");
    }
    let (token, _) = lease(&one, &name, LONG).await;
    let held = other.look_up_or_lease(&name, Token::random(), LONG, Duration::ZERO).await;
    let Ok(Attempt::Held { remaining, .. }) = held else { panic!("{held:?}") };
    assert!(remaining < Duration::from_millis(100), "it waits for no message: {remaining:?}");
    let last = recorder.heard.lock().last().cloned();
    assert!(last.is_none_or(|last| last == "disconnected"), "near entries rely on messages");
    let stored = one.commit(&name, token, contract::record(&one, Some("a"), 1)).await;
    assert!(matches!(stored, Ok(Commit::Stored(_))), "{stored:?}");
    let done = one.invalidate(&name, None, LONG).await.expect("an invalidation");
    assert_eq!(done, Invalidated::Unconfirmed);

    // A herd in two processes: one load, and the waiter is answered long before the lease ends.
    let guards = [guard(&one), guard(&other)];
    let (name, begin) = (fresh_name(), Instant::now());
    let fetches = guards.each_ref().map(|guard| {
        let load = || async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            Ok::<_, io::Error>(Loaded::found("value".to_owned(), 1))
        };
        guard.fetch(&name, load)
    });
    let outcomes = bounded(futures::future::join_all(fetches)).await;
    let loads = outcomes.iter().filter(|fetched| {
        fetched.as_ref().is_ok_and(|fetched| fetched.outcome() == Outcome::Loaded)
    });
    assert_eq!(loads.count(), 1, "{outcomes:?}");
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
}

/// As some hosted Redis have it. No rights of a user tell the two apart: a relay rewrites the answer to the probe.
async fn where_scripts_may_not_publish_the_client_does(_: Arc<Servers>) {
    let _second = second_subscriber();
    let server = servers::Redis::start().expect("a Redis");
    let log = Log::default();
    let _default = tracing::dispatcher::set_default(&log.dispatch(tracing::Level::WARN));
    let relay = Relay::start(server.port()).await;
    let hearing = far(&server.url()).await;
    let recorder = Arc::new(Recorder::default());
    hearing.watch(Arc::downgrade(&recorder) as _);
    let far = far(&relay.url()).await;
    for far in [&hearing, &far] {
        far.read("any").await.expect("a read");
    }
    assert!(log.text().contains("refuses PUBLISH inside scripts"), "{}", log.text());
    eventually(async || {
        let done = far.invalidate("warm", None, LONG).await.expect("an invalidation");
        (done == Invalidated::Everywhere).then_some(())
    })
    .await;
    let before = calls(&server, "publish");
    let name = fresh_name();
    // Somebody else waits.
    let held = async || {
        let (token, _) = lease(&far, &name, LONG).await;
        let waits = hearing.look_up_or_lease(&name, Token::random(), LONG, Duration::ZERO).await;
        assert!(matches!(waits, Ok(Attempt::Held { .. })), "{waits:?}");
        token
    };
    far.release(&name, held().await).await.expect("a release");
    let record = contract::record(&far, Some("a"), 1);
    let stored = far.commit(&name, held().await, record).await;
    assert!(matches!(stored, Ok(Commit::Stored(_))), "{stored:?}");
    let put = far.put(&name, contract::record(&far, Some("a"), 2)).await;
    assert!(put.is_ok(), "{put:?}");
    let done = far.invalidate(&name, None, LONG).await.expect("an invalidation");
    assert_eq!(done, Invalidated::Everywhere);
    far.fail(&name, held().await, LONG).await.expect("an answer");
    let expected = [
        format!("released {name}"),
        format!("committed {name} 1"),
        format!("put {name} 2"),
        format!("invalidated {name} None"),
        format!("released {name}"),
    ];
    eventually(async || (recorder.about(&name).len() >= expected.len()).then_some(())).await;
    assert_eq!(recorder.about(&name), expected);
    // With the confirmation by the one that hears.
    assert_eq!(calls(&server, "publish") - before, 6);
}

fn calls(server: &servers::Redis, command: &str) -> u64 {
    let stats = servers::ask_redis(server.port(), "INFO commandstats");
    let found = stats.lines().find_map(|line| {
        let (calls, _) =
            line.strip_prefix(&format!("cmdstat_{command}:calls="))?.split_once(',')?;
        calls.parse().ok()
    });
    found.unwrap_or(0)
}

/// A way to a server on which the probe's answer says that scripts may not publish.
struct Relay {
    port: u16,
    task: tokio::task::JoinHandle<()>,
}

impl Relay {
    async fn start(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(("127.0.0.1", target)).await.expect("a connection");
                tokio::spawn(relay(client, server));
            }
        });
        Self { port, task }
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn relay(mut client: TcpStream, mut server: TcpStream) {
    let (mut requests, mut answers) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let there = tokio::io::copy(&mut requests, &mut to_server);
    let back = async {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(length @ 1..) = from_server.read(&mut buffer).await {
            let answer = &mut buffer[..length];
            // The end of the probe's answer: published, counted, no sharded channels. No other answer ends so.
            if answer.starts_with(b"*5\r\n") && answer.ends_with(b"\r\n:1\r\n:1\r\n:0\r\n") {
                answer[length - 11] = b'0';
            }
            if answers.write_all(answer).await.is_err() {
                return;
            }
        }
    };
    let _ = futures::join!(there, back);
}

async fn without_time_fences_grow_and_entries_age(_: Arc<Servers>) {
    let server = servers::Redis::start().expect("a Redis");
    for rights in ["-time", "-time -info"] {
        let far = far(&limited(&server, rights)).await;
        far.read("any").await.expect("a read");
        contract::one_holder_and_fences_grow(far.clone()).await;
        contract::older_versions_are_refused_and_equal_ones_accepted(far.clone()).await;
        contract::an_entry_is_a_hit_only_if_it_stays_fresh_for_long_enough(far.clone()).await;
        contract::failures_in_a_row_are_counted_until_a_load_succeeds(far.clone()).await;
        contract::invalidations_and_puts_revoke_the_lease(far).await;
    }
}

async fn rights_that_are_taken_later_are_told_and_worked_around(_: Arc<Servers>) {
    let _second = second_subscriber();
    let server = servers::Redis::start().expect("a Redis");
    let log = Log::default();
    let _default = tracing::dispatcher::set_default(&log.dispatch(tracing::Level::WARN));
    let far = far(&limited(&server, "")).await;
    far.read("any").await.expect("a read");
    assert_eq!(log.text(), "");
    limited(&server, "-time");
    eventually(async || {
        let name = fresh_name();
        far.read(&name).await.ok()?;
        let token = Token::random();
        let asked = far.look_up_or_lease(&name, token, LONG, Duration::ZERO).await;
        matches!(asked, Ok(Attempt::Granted(_))).then_some(())
    })
    .await;
    assert!(log.text().contains("refuses TIME"), "{}", log.text());
}

async fn errors_and_logs_show_neither_key_nor_value(_: Arc<Servers>) {
    let _second = second_subscriber();
    let names = ["get", "mget", "eval", "evalsha", "publish", "subscribe"];
    let renamed: Vec<String> = names
        .iter()
        .flat_map(|name| ["--rename-command".into(), (*name).into(), format!("no-{name}")])
        .collect();
    let renamed: Vec<&str> = renamed.iter().map(String::as_str).collect();
    let server = servers::Redis::start_with(&renamed).expect("a Redis");
    let log = Log::default();
    let _default = tracing::dispatcher::set_default(&log.dispatch(tracing::Level::TRACE));
    let far = far(&server.url()).await;
    let name = "secret-key";
    let token = Token::random();
    let record = || contract::record(&far, Some("secret-value"), 1);
    let mut errors = vec![
        far.read(name).await.expect_err("no GET"),
        far.read_many(&[name]).await.remove(0).expect_err("no MGET"),
        far.put(name, record()).await.expect_err("no EVALSHA"),
        far.commit(name, token, record()).await.expect_err("no EVALSHA"),
        far.renew(name, token, LONG).await.expect_err("no EVALSHA"),
        far.fail(name, token, LONG).await.expect_err("no EVALSHA"),
        far.release(name, token).await.expect_err("no EVAL"),
        far.invalidate(name, None, LONG).await.expect_err("no EVALSHA"),
        far.look_up_or_lease(name, token, LONG, Duration::ZERO).await.expect_err("no EVALSHA"),
    ];
    assert!(matches!(fetched(&guard(&far), name).await, Outcome::Bypassed(_)));
    drop(server);
    errors.push(far.read(name).await.expect_err("a dead server"));
    for error in errors {
        let mut text = format!("{error} {error:?}");
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            text += &format!(" {cause} {cause:?}");
            source = cause.source();
        }
        assert!(!text.to_lowercase().contains("secret"), "{text}");
    }
    assert!(log.text().contains("refuses scripts"), "{}", log.text());
    assert!(!log.text().to_lowercase().contains("secret"), "{}", log.text());
}
