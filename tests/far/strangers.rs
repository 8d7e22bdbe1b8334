//! What others do in our Redis: keys of another type under our names, and listeners that are none of ours.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use cattleguard::{
    Version,
    codec::Json,
    far::{Attempt, Commit, Far, Invalidated, Put, Renewal, Token},
    lock::Lock,
    memory::MemoryLock,
    redis::RedisLock,
};
use futures::StreamExt;
use libtest_mimic::Trial;
use redis::aio::MultiplexedConnection;

use crate::{
    contract::{self, LONG, eventually, lease},
    setup::{self, Servers, Tier, trials},
};

pub fn trials(servers: &Arc<Servers>) -> Vec<Trial> {
    trials!(
        servers, "strangers";
        a_key_of_another_type_is_no_entry_and_is_replaced,
        a_key_of_another_type_is_no_lease_and_is_replaced,
        a_lease_key_that_never_ends_is_no_lease,
        a_key_of_another_type_does_not_hold_up_a_lock,
        a_listener_by_pattern_does_not_delay_confirmations,
        who_subscribes_as_we_do_and_is_silent_leaves_it_unconfirmed,
    )
}

async fn raw(url: &str) -> MultiplexedConnection {
    let client = redis::Client::open(url).expect("a URL");
    client.get_multiplexed_async_connection().await.expect("a connection")
}

/// Commands that make a key of another type.
const OTHER_TYPES: [&str; 5] =
    ["RPUSH k v", "HSET k f v", "SADD k v", "ZADD k 1 v", "XADD k * f v"];

async fn make(link: &mut MultiplexedConnection, key: &str, command: &str) {
    let mut words = command.split(' ');
    let mut made = redis::cmd(words.next().expect("a command"));
    for word in words {
        made.arg(if word == "k" { key } else { word });
    }
    redis::cmd("DEL").arg(key).query_async::<()>(link).await.expect("an answer");
    made.query_async::<()>(link).await.expect("an answer");
}

/// The key of a name, by how the guard spells it.
fn key(kind: &str, namespace: &str, name: &str, suffix: &str) -> String {
    format!("{kind}:{{{namespace}:{name}}}{suffix}")
}

/// A name that needs no escape.
fn plain_name() -> String {
    format!("n{}", fastrand::u64(..))
}

async fn a_key_of_another_type_is_no_entry_and_is_replaced(on: Arc<Servers>) {
    let far = Tier::new(setup::open(&on.redis()).await, Json);
    replaces_entries(&far, "cg", &on.redis()).await;
    let elected = far.elected_by(MemoryLock::new()).lock_timeout(setup::TIMEOUT);
    replaces_entries(&elected, "cgs", &on.redis()).await;
}

async fn replaces_entries(far: &impl Far<String>, kind: &str, url: &str) {
    let mut link = raw(url).await;
    for command in OTHER_TYPES {
        let name = plain_name();
        let key = key(kind, "", &name, "");
        make(&mut link, &key, command).await;
        assert!(far.read(&name).await.expect("a read").is_none(), "{command}");
        assert!(far.read_many(&[&name]).await.remove(0).expect("a read").is_none(), "{command}");
        let (token, grant) = lease(far, &name, LONG).await;
        assert_eq!(grant.minimum, Version::ZERO);
        let stored = far.commit(&name, token, contract::record(far, Some("a"), 1)).await;
        assert!(matches!(stored, Ok(Commit::Stored(_))), "{command}: {stored:?}");
        assert!(far.read(&name).await.expect("a read").is_some(), "{command}");

        make(&mut link, &key, command).await;
        let put = far.put(&name, contract::record(far, Some("b"), 1)).await;
        assert!(matches!(put, Ok(Put::Stored(_))), "{command}: {put:?}");

        make(&mut link, &key, command).await;
        far.invalidate(&name, Some(Version::new(7)), LONG).await.expect("an invalidation");
        let older = far.put(&name, contract::record(far, Some("c"), 6)).await;
        assert!(matches!(older, Ok(Put::Older { .. })), "{command}: {older:?}");
    }
}

async fn a_key_of_another_type_is_no_lease_and_is_replaced(on: Arc<Servers>) {
    let far = Tier::new(setup::open(&on.redis()).await, Json);
    replaces_leases(&far, "cg", &on.redis()).await;
    let elected = far.elected_by(MemoryLock::new()).lock_timeout(setup::TIMEOUT);
    replaces_leases(&elected, "cgs", &on.redis()).await;
}

async fn replaces_leases(far: &impl Far<String>, kind: &str, url: &str) {
    let mut link = raw(url).await;
    for command in OTHER_TYPES {
        let name = plain_name();
        let key = key(kind, "", &name, ":l");
        // Under a load in progress: its lease is gone, and nothing it does is refused for another reason.
        let (token, _) = lease(far, &name, LONG).await;
        make(&mut link, &key, command).await;
        assert_eq!(far.renew(&name, token, LONG).await.expect("an answer"), Renewal::Lost);
        far.fail(&name, token, LONG).await.expect("an answer");
        far.release(&name, token).await.expect("an answer");

        make(&mut link, &key, command).await;
        far.invalidate(&name, None, LONG).await.expect("an invalidation");
        make(&mut link, &key, command).await;
        let put = far.put(&name, contract::record(far, None, 1)).await;
        assert!(matches!(put, Ok(Put::Stored(_))), "{command}: {put:?}");

        let name = plain_name();
        make(&mut link, &self::key(kind, "", &name, ":l"), command).await;
        let (token, _) = lease(far, &name, LONG).await;
        let stored = far.commit(&name, token, contract::record(far, Some("a"), 1)).await;
        assert!(matches!(stored, Ok(Commit::Stored(_))), "{command}: {stored:?}");
    }
}

async fn a_lease_key_that_never_ends_is_no_lease(on: Arc<Servers>) {
    let mut link = raw(&on.redis()).await;
    let far = Tier::new(setup::open(&on.redis()).await, Json);
    for content in ["", "short", &"x".repeat(28), &"\u{7f}".repeat(36)] {
        let name = plain_name();
        let mut set = redis::cmd("SET");
        set.arg(key("cg", "", &name, ":l")).arg(content);
        set.query_async::<()>(&mut link).await.expect("an answer");
        let asked = far.look_up_or_lease(&name, Token::random(), LONG, Duration::ZERO).await;
        assert!(matches!(asked, Ok(Attempt::Granted(_))), "{content}: {asked:?}");
    }
}

async fn a_key_of_another_type_does_not_hold_up_a_lock(on: Arc<Servers>) {
    let mut link = raw(&on.redis()).await;
    let lock = RedisLock::new(setup::open(&on.redis()).await);
    let deadline = || tokio::time::Instant::now() + setup::TIMEOUT;
    for command in OTHER_TYPES.into_iter().chain(["SET k v"]) {
        for suffix in ["", ":f", ":q", ":w"] {
            // The types that are right for the queue.
            if command.starts_with("ZADD") && [":q", ":w"].contains(&suffix) {
                continue;
            }
            let name = plain_name();
            let key = key("cgk", "", &name, suffix);
            make(&mut link, &key, command).await;
            let lease = lock.acquire(&name, LONG, deadline()).await.expect("a lease");
            if !suffix.is_empty() {
                make(&mut link, &key, command).await;
            }
            // Another one queues, and is notified.
            let waiting = lock.acquire(&name, LONG, deadline());
            let release = async {
                tokio::task::yield_now().await;
                lease.release().await.expect("a release");
            };
            let (waiting, ()) = futures::join!(waiting, release);
            waiting.expect("a lease").release().await.expect("a release");
        }
    }
}

/// Two processes that hear each other's messages.
async fn two(url: &str, namespace: &str) -> [Tier; 2] {
    let mut processes = Vec::new();
    for _ in 0..2 {
        let far = Tier::new(setup::open(url).await, Json).namespace(namespace);
        eventually(async || {
            let done = far.invalidate("warm", None, LONG).await;
            (done.expect("an invalidation") == Invalidated::Everywhere).then_some(())
        })
        .await;
        processes.push(far);
    }
    processes.try_into().expect("two")
}

async fn a_listener_by_pattern_does_not_delay_confirmations(on: Arc<Servers>) {
    let (url, namespace) = (on.redis(), plain_name());
    let client = redis::Client::open(&*url).expect("a URL");
    let mut listener = client.get_async_pubsub().await.expect("a connection");
    listener.psubscribe("*").await.expect("an answer");
    // One that knows the channel does not delay them either.
    listener.subscribe(format!("cg:{{{namespace}:}}:events")).await.expect("an answer");
    let [one, other] = two(&url, &namespace).await;
    let elected = two_elected(&url, &namespace).await;
    let begin = Instant::now();
    for _ in 0..10 {
        for far in [&one, &other] {
            let done = far.invalidate("name", None, LONG).await.expect("an invalidation");
            assert_eq!(done, Invalidated::Everywhere);
        }
        let done = elected.invalidate("name", None, LONG).await.expect("an invalidation");
        assert_eq!(done, Invalidated::Everywhere);
    }
    assert!(begin.elapsed() < setup::TIMEOUT, "{:?}", begin.elapsed());
    assert!(listener.on_message().next().await.is_some(), "it does listen");
}

async fn two_elected(url: &str, namespace: &str) -> impl Far<String> {
    let far = Tier::new(setup::open(url).await, Json).namespace(namespace);
    let elected = far.elected_by(MemoryLock::new()).lock_timeout(setup::TIMEOUT);
    eventually(async || {
        let done = elected.invalidate("warm", None, LONG).await;
        (done.expect("an invalidation") == Invalidated::Everywhere).then_some(())
    })
    .await;
    elected
}

/// As a process of ours that is frozen: it may have a near entry.
async fn who_subscribes_as_we_do_and_is_silent_leaves_it_unconfirmed(on: Arc<Servers>) {
    let (url, namespace) = (on.redis(), plain_name());
    let redis = setup::open(&url).await.timeout(Duration::from_millis(500));
    let far = Tier::new(redis, Json).namespace(&namespace);
    eventually(async || {
        let done = far.invalidate("warm", None, LONG).await.ok()?;
        (done == Invalidated::Everywhere).then_some(())
    })
    .await;
    let client = redis::Client::open(&*url).expect("a URL");
    let mut frozen = client.get_async_pubsub().await.expect("a connection");
    let channels = ["events", "subscribers"].map(|end| format!("cg:{{{namespace}:}}:{end}"));
    frozen.subscribe(&channels[..]).await.expect("an answer");
    let done = far.invalidate("name", None, LONG).await.expect("an invalidation");
    assert_eq!(done, Invalidated::Unconfirmed);
}
