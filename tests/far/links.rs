//! Connections that must be left, and bursts that a healthy server answers.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use cattleguard::{
    FaultKind, Guard, Loaded, Policy, Version,
    codec::Json,
    far::{Far, Invalidated, Watcher},
    redis::Connection,
};
use futures::future::join_all;
use libtest_mimic::Trial;
use tokio::{net::TcpListener, task::JoinSet};

use crate::{
    contract::{LONG, Recorder, eventually, fresh_name},
    servers::{self, Proxy, ask_redis},
    setup::{self, Servers, Tier, trials},
};

pub fn trials(servers: &Arc<Servers>) -> Vec<Trial> {
    let mut all = trials!(
        servers, "redis_links";
        a_burst_on_a_healthy_server_is_no_outage,
        an_idle_connection_that_was_closed_fails_no_read,
        a_silent_server_is_told_at_once_also_behind_a_burst,
        a_demoted_primary_behind_one_address_is_left,
        subscribers_leave_a_demoted_primary,
        a_silent_connection_is_left,
        a_server_that_gets_its_users_late_is_back,
        a_wrong_password_is_refused_at_the_start,
        a_half_open_subscription_is_found_out_within_a_second,
        many_guards_share_one_subscription,
        who_leaves_a_subscription_leaves_its_channels,
        a_fleet_does_not_come_back_at_once,
    );
    all.extend(KINDS.map(|kind| {
        let name = format!("redis_links::a_{kind}_outlives_the_runtime_it_was_first_used_in");
        let servers = servers.clone();
        Trial::test(name, move || {
            outlives_its_runtime(&servers, kind);
            Ok(())
        })
    }));
    all
}

const KINDS: [&str; 4] = ["single", "pool", "cluster", "sentinel"];

const DEFAULT_TIMEOUT: Duration = Duration::from_millis(50);

/// As a service would have it, with the default timeout.
async fn single(port: u16) -> Connection {
    Connection::open(&format!("redis://127.0.0.1:{port}/")).await.expect("a connection")
}

fn pooled(port: u16) -> Connection {
    setup::pooled(&format!("redis://127.0.0.1:{port}/")).timeout(DEFAULT_TIMEOUT)
}

async fn a_burst_on_a_healthy_server_is_no_outage(_: Arc<Servers>) {
    let server = servers::Redis::start().expect("a Redis");
    for connection in [single(server.port()).await, pooled(server.port())] {
        // The burst takes longer, and a busy machine leaves the server's process alone for no longer.
        let far = Tier::new(connection.timeout(DEFAULT_TIMEOUT * 6), Json);
        let names: Vec<String> = (0..5_000).map(|_| fresh_name()).collect();
        // A task for each, as the requests of a service are.
        let mut calls = JoinSet::new();
        for name in names {
            let (reader, writer, other) = (far.clone(), far.clone(), name.clone());
            calls.spawn(async move { reader.read(&name).await.map(drop) });
            calls.spawn(async move { writer.invalidate(&other, None, LONG).await.map(drop) });
        }
        let failed: Vec<_> = calls.join_all().await.into_iter().filter_map(Result::err).collect();
        assert!(failed.is_empty(), "{} calls: {:?}", failed.len(), failed[0]);
    }
}

async fn an_idle_connection_that_was_closed_fails_no_read(_: Arc<Servers>) {
    let server = servers::Redis::start().expect("a Redis");
    let far = Tier::new(single(server.port()).await.timeout(setup::TIMEOUT), Json);
    for _ in 0..20 {
        far.read("any").await.expect("a read");
        // As `timeout` in its configuration does.
        let killed = ask_redis(server.port(), "CLIENT KILL TYPE normal");
        assert!(killed.starts_with(':'), "{killed}");
    }
}

async fn a_silent_server_is_told_at_once_also_behind_a_burst(_: Arc<Servers>) {
    let server = servers::Redis::start().expect("a Redis");
    let far = Tier::new(single(server.port()).await, Json);
    far.read("any").await.expect("a read");
    server.freeze();
    let names: Vec<String> = (0..5_000).map(|_| fresh_name()).collect();
    let begin = Instant::now();
    let reads = join_all(names.iter().map(|name| far.read(name))).await;
    let took = begin.elapsed();
    for read in reads {
        assert_eq!(read.expect_err("a frozen server").kind(), FaultKind::Timeout);
    }
    // Three rounds of 50 ms, and what a busy machine adds; in turn they would take a second.
    assert!(took < Duration::from_millis(600), "{took:?}");
    server.thaw();
}

/// The address leads to another server, and the old one becomes its replica.
fn fail_over(proxy: &Proxy, from: &servers::Redis, to: &servers::Redis) {
    proxy.lead_to(to.port());
    let answer = ask_redis(from.port(), &format!("REPLICAOF 127.0.0.1 {}", to.port()));
    assert!(answer.contains("+OK"), "{answer}");
}

async fn a_demoted_primary_behind_one_address_is_left(_: Arc<Servers>) {
    for kind in ["single", "pool"] {
        let [old, new] = [(); 2].map(|()| servers::Redis::start().expect("a Redis"));
        let proxy = Proxy::start(old.port()).expect("a proxy");
        let connection = match kind {
            "single" => single(proxy.port()).await,
            _ => pooled(proxy.port()),
        };
        let far = Tier::new(connection, Json);
        far.invalidate("a", None, LONG).await.expect("a primary");
        fail_over(&proxy, &old, &new);
        let name = fresh_name();
        let refused = far.invalidate(&name, None, LONG).await.expect_err("a replica");
        assert_eq!(refused.kind(), FaultKind::Unreachable, "{kind}: {refused:?}");
        eventually(async || far.invalidate(&name, None, LONG).await.ok()).await;
        assert!(ask_redis(new.port(), "DBSIZE").starts_with(":1"), "{kind}");
    }
}

fn watched(far: &impl Far<String>) -> Arc<Recorder> {
    let recorder = Arc::new(Recorder::default());
    let weak: Weak<dyn Watcher> = Arc::downgrade(&recorder) as _;
    far.watch(weak);
    recorder
}

/// Who subscribes at a replica is not among the receivers that its primary counts.
async fn subscribers_leave_a_demoted_primary(_: Arc<Servers>) {
    let [old, new] = [(); 2].map(|()| servers::Redis::start().expect("a Redis"));
    let proxy = Proxy::start(old.port()).expect("a proxy");
    let far = Tier::new(single(proxy.port()).await, Json);
    let subscribers = |of: &servers::Redis| {
        let channels = ask_redis(of.port(), "PUBSUB CHANNELS cg:*");
        channels.lines().next() == Some("*3")
    };
    far.read("any").await.expect("a read");
    eventually(async || subscribers(&old).then_some(())).await;
    fail_over(&proxy, &old, &new);
    eventually(async || {
        let _ = far.invalidate("any", None, LONG).await;
        subscribers(&new).then_some(())
    })
    .await;
    let everywhere = async || {
        let done = far.invalidate("any", None, LONG).await;
        matches!(done, Ok(Invalidated::Everywhere)).then_some(())
    };
    eventually(everywhere).await;
}

async fn a_silent_connection_is_left(_: Arc<Servers>) {
    for kind in ["single", "pool"] {
        let server = servers::Redis::start().expect("a Redis");
        let proxy = Proxy::start(server.port()).expect("a proxy");
        let connection = match kind {
            "single" => single(proxy.port()).await,
            _ => pooled(proxy.port()),
        };
        let far = Tier::new(connection, Json);
        far.read("any").await.expect("a read");
        proxy.strand();
        let silent = far.read("any").await.expect_err("a silent connection");
        assert_eq!(silent.kind(), FaultKind::Timeout, "{kind}");
        eventually(async || far.read("any").await.ok()).await;
    }
}

async fn a_server_that_gets_its_users_late_is_back(_: Arc<Servers>) {
    let add_user = |server: &servers::Redis| {
        let answer =
            ask_redis(server.port(), "ACL SETUSER app on >secret ~cg* resetchannels &cg* +@all");
        assert!(answer.contains("+OK"), "{answer}");
    };
    for kind in ["single", "pool"] {
        let mut server = servers::Redis::start().expect("a Redis");
        add_user(&server);
        let url = format!("redis://app:secret@127.0.0.1:{}/", server.port());
        let connection = match kind {
            "single" => Connection::open(&url).await.expect("a connection"),
            _ => setup::pooled(&url),
        };
        let far = Tier::new(connection.timeout(Duration::from_millis(500)), Json);
        far.invalidate("any", None, LONG).await.expect("a user");
        server.restart().expect("a Redis");
        eventually(async || {
            let fault = far.read("any").await.err()?;
            (fault.kind() == FaultKind::Busy).then_some(())
        })
        .await;
        add_user(&server);
        eventually(async || far.read("any").await.ok()).await;
        let heard = async || {
            let done = far.invalidate("any", None, LONG).await;
            matches!(done, Ok(Invalidated::Everywhere)).then_some(())
        };
        eventually(heard).await;
    }
}

async fn a_wrong_password_is_refused_at_the_start(_: Arc<Servers>) {
    let server = servers::Redis::start_with(&["--requirepass", "right"]).expect("a Redis");
    let url = format!("redis://:wrong-secret@127.0.0.1:{}/", server.port());
    let refused = Connection::open(&url).await.expect_err("a wrong password");
    assert_eq!(refused.kind(), FaultKind::Refused, "{refused:?}");
    assert!(!format!("{refused} {refused:?}").contains("wrong-secret"));
}

async fn open(kind: &str, url: &str, urls: &[String]) -> Connection {
    let connection = match kind {
        "single" => Connection::open(url).await,
        "pool" => Ok(setup::pooled(url)),
        "cluster" => Connection::open_cluster(urls).await,
        _ => Connection::open_sentinel(urls, "m1").await,
    };
    connection.expect("a connection").timeout(setup::TIMEOUT)
}

fn outlives_its_runtime(servers: &Arc<Servers>, kind: &'static str) {
    let group = (kind == "sentinel").then(|| servers::RedisSentinel::start().expect("a group"));
    let urls = match (&group, kind) {
        (Some(group), _) => group.sentinel_urls(),
        (None, "cluster") => servers.cluster(),
        _ => Vec::new(),
    };
    let url = servers.redis();
    let runtime = || tokio::runtime::Runtime::new().expect("a runtime");
    let (far, recorder) = runtime().block_on(async {
        let far = Tier::new(open(kind, &url, &urls).await, Json);
        let recorder = watched(&far);
        far.invalidate("first", None, LONG).await.expect("an invalidation");
        (far, recorder)
    });
    for _ in 0..2 {
        let name = fresh_name();
        runtime().block_on(crate::bounded(async {
            // The first call already.
            far.read(&name).await.expect("a read in another runtime");
            let everywhere = async || {
                let done = far.invalidate(&name, None, LONG).await.expect("an invalidation");
                (done == Invalidated::Everywhere || kind == "cluster").then_some(())
            };
            eventually(everywhere).await;
            eventually(async || recorder.about(&name).first().map(drop)).await;
        }));
    }
}

/// The one number: README, `Policy::near_ttl`, docs/promises.md.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);
/// For a busy machine.
const SLACK: Duration = Duration::from_millis(500);

/// The server has lost the subscription, and the process does not know: nobody waits for it, and it serves nothing old for
/// longer than that.
async fn a_half_open_subscription_is_found_out_within_a_second(_: Arc<Servers>) {
    let server = servers::Redis::start().expect("a Redis");
    let proxy = Proxy::start(server.port()).expect("a proxy");
    let version = Arc::new(AtomicU64::new(1));
    let row = async |guard: &Guard<str, String>| {
        let version = version.clone();
        let load = move || {
            let version = version.load(Ordering::SeqCst);
            async move { Ok::<_, std::io::Error>(Loaded::found(version.to_string(), version)) }
        };
        guard.fetch("row", load).await.expect("a row").version()
    };
    let guard = async |port| -> Guard<str, String> {
        let far = Tier::new(single(port).await, Json);
        Guard::builder().far(far).policy(Policy::default().near_ttl(LONG)).build()
    };
    let cut_off = guard(proxy.port()).await;
    row(&cut_off).await;
    let list = ask_redis(server.port(), "CLIENT LIST TYPE pubsub");
    let subscription = list.lines().find_map(|line| line.strip_prefix("id=")?.split(' ').next());
    let subscription = subscription.expect("a subscription").to_owned();
    let other = guard(server.port()).await;
    eventually(async || {
        let done = other.invalidate("row").await.expect("an invalidation");
        (done == Invalidated::Everywhere).then_some(())
    })
    .await;
    assert_eq!((row(&other).await, row(&cut_off).await), (Version::new(1), Version::new(1)));
    assert!(cut_off.peek("row").is_some(), "near");

    proxy.strand();
    let killed = ask_redis(server.port(), &format!("CLIENT KILL ID {subscription}"));
    assert!(killed.contains(":1"), "{killed}");
    version.store(2, Ordering::SeqCst);
    let done = other.invalidate("row").await.expect("an invalidation");
    let acknowledged = Instant::now();
    assert_eq!(done, Invalidated::Everywhere);
    eventually(async || (row(&cut_off).await == Version::new(2)).then_some(())).await;
    let took = acknowledged.elapsed();
    println!("half-open: nothing old after {took:?}");
    assert!(took < SIGN_OF_LIFE + SLACK, "{took:?}");
}

async fn many_guards_share_one_subscription(_: Arc<Servers>) {
    let server = servers::Redis::start().expect("a Redis");
    let connected = || {
        let list = ask_redis(server.port(), "CLIENT LIST");
        // But the one that asks.
        list.lines().filter(|line| line.starts_with("id=")).count() - 1
    };
    let connection = single(server.port()).await;
    let namespaces: Vec<String> = (0..20).map(|number| format!("n{number}")).collect();
    let process = |connection: &Connection| -> Vec<_> {
        let far = |name: &String| Tier::new(connection.clone(), Json).namespace(name);
        namespaces.iter().map(far).collect()
    };
    let tiers = process(&connection);
    let everywhere = async |tiers: &[Tier]| {
        for far in tiers {
            eventually(async || {
                let done = far.invalidate("name", None, LONG).await;
                matches!(done, Ok(Invalidated::Everywhere)).then_some(())
            })
            .await;
        }
    };
    everywhere(&tiers).await;
    assert_eq!(connected(), 2);
    let others = process(&single(server.port()).await);
    everywhere(&others).await;
    assert_eq!(connected(), 4);
    // Who has left is not waited for.
    drop(others);
    everywhere(&tiers).await;
}

/// A guard that leaves is not asked to confirm; the rest of its process is.
async fn who_leaves_a_subscription_leaves_its_channels(_: Arc<Servers>) {
    let server = servers::Redis::start().expect("a Redis");
    let channels = || {
        let answer = ask_redis(server.port(), "PUBSUB CHANNELS");
        answer.lines().filter(|line| line.starts_with("cg:")).count()
    };
    let connection = single(server.port()).await;
    let stays = Tier::new(connection.clone(), Json).namespace("stays");
    let leaves = Tier::new(connection, Json).namespace("leaves");
    for far in [&stays, &leaves] {
        far.invalidate("name", None, LONG).await.expect("an invalidation");
    }
    // Two for each, and the process' own.
    assert_eq!(channels(), 5);
    drop(leaves);
    eventually(async || (channels() == 3).then_some(())).await;
    let done = stays.invalidate("name", None, LONG).await.expect("an invalidation");
    assert_eq!(done, Invalidated::Everywhere);
}

/// Redis is back, and a fleet connects again: spread over the pause between two attempts, and everybody is reached soon.
async fn a_fleet_does_not_come_back_at_once(_: Arc<Servers>) {
    const PROCESSES: usize = 200;
    const STEP: Duration = Duration::from_millis(50);
    let mut server = servers::Redis::start().expect("a Redis");
    let mut fleet = Vec::new();
    for _ in 0..PROCESSES {
        let far = Tier::new(single(server.port()).await.timeout(LONG), Json);
        far.read("any").await.expect("a read");
        fleet.push((watched(&far), far));
    }
    server.kill();
    for (recorder, _) in &fleet {
        eventually(async || recorder.heard.lock().contains(&"disconnected".into()).then_some(()))
            .await;
    }
    // In its place somebody who counts: until the pauses have grown to their bound.
    let listener = TcpListener::bind(("127.0.0.1", server.port())).await.expect("its port");
    for _ in 0..PROCESSES * 8 {
        drop(listener.accept().await.expect("an attempt"));
    }
    drop(listener);
    fleet.iter().for_each(|(recorder, _)| recorder.heard.lock().clear());
    server.restart().expect("a Redis");
    let (begun, mut back) = (Instant::now(), Vec::new());
    while back.last() != Some(&PROCESSES) {
        let connected = |recorder: &Recorder| recorder.heard.lock().contains(&"connected".into());
        back.push(fleet.iter().filter(|(recorder, _)| connected(recorder)).count());
        assert!(begun.elapsed() < Duration::from_secs(10), "{back:?}");
        tokio::time::sleep(STEP).await;
    }
    let most = back.windows(2).map(|two| two[1] - two[0]).max().unwrap_or(PROCESSES);
    println!("{PROCESSES} processes back within {:?}, at most {most} in {STEP:?}", begun.elapsed());
    assert!(most <= PROCESSES / 2, "{back:?}");
    eventually(async || {
        let done = fleet[0].1.invalidate("any", None, LONG).await;
        matches!(done, Ok(Invalidated::Everywhere)).then_some(())
    })
    .await;
}
