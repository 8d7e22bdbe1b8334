//! What replicas have, and what a server says that is one.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use cattleguard::{
    FaultKind,
    codec::Json,
    far::{Commit, Far},
    memory::MemoryLock,
    redis::Connection,
};
use libtest_mimic::Trial;

use crate::{
    contract, servers,
    setup::{Servers, TIMEOUT, Tier, open, pooled, trials},
};

pub fn trials(servers: &Arc<Servers>) -> Vec<Trial> {
    trials!(
        servers, "replicas";
        an_acknowledged_write_is_on_the_replicas,
        a_replica_that_lags_is_not_counted,
        a_full_server_confirms,
        sentinels_are_asked_for_the_server_that_took_the_write,
        a_server_that_has_become_a_replica_is_unreachable,
        a_cluster_cannot_confirm,
    )
}

/// A server and a replica of it that has all.
struct Pair {
    primary: servers::Redis,
    replica: servers::Redis,
}

impl Pair {
    async fn start() -> Self {
        // Otherwise a replica copies its primary only after 5 s.
        let primary = servers::Redis::start_with(&["--repl-diskless-sync", "no"]);
        let primary = primary.expect("a Redis");
        let port = primary.port().to_string();
        let replica = servers::Redis::start_with(&["--replicaof", "127.0.0.1", &port]);
        let replica = replica.expect("a Redis");
        let pair = Self { primary, replica };
        contract::eventually(async || {
            let answer = pair.say("SET ready 1\r\nWAIT 1 100");
            answer.contains(":1\r\n").then_some(())
        })
        .await;
        pair
    }

    fn say(&self, commands: &str) -> String {
        servers::ask_redis(self.primary.port(), commands)
    }
}

async fn an_acknowledged_write_is_on_the_replicas(_: Arc<Servers>) {
    let pair = Pair::start().await;
    let url = pair.primary.url();
    let on_replica = Tier::new(open(&pair.replica.url()).await, Json);
    for (link, connection) in [("single", open(&url).await), ("pool", pooled(&url))] {
        let far = Tier::new(connection, Json);
        let name = contract::fresh_name();
        // It falls behind, and then has to catch up.
        pair.replica.freeze();
        let _ = far.put(&name, contract::record(&far, Some("a"), 1)).await.expect("a put");
        let waiting = tokio::spawn({
            let (far, name) = (far.clone(), name.clone());
            async move { far.replicated(&name, 1, contract::LONG).await }
        });
        contract::eventually(async || {
            pair.say("INFO clients").contains("blocked_clients:1\r").then_some(())
        })
        .await;
        let begin = Instant::now();
        for _ in 0..20 {
            assert!(far.read(&name).await.expect("a read").is_some(), "{link}");
        }
        assert!(begin.elapsed() < Duration::from_secs(5), "{link}: {:?}", begin.elapsed());
        assert!(!waiting.is_finished(), "{link}");
        pair.replica.thaw();
        assert_eq!(waiting.await.expect("a task").expect("an answer"), 1, "{link}");
        assert!(on_replica.read(&name).await.expect("a read").is_some(), "{link}");
    }
}

async fn a_replica_that_lags_is_not_counted(_: Arc<Servers>) {
    let pair = Pair::start().await;
    let url = pair.primary.url();
    pair.replica.freeze();
    // Longer than a pool's connection waits for an answer by itself.
    let timeout = Duration::from_millis(700);
    for (link, connection) in [("single", open(&url).await), ("pool", pooled(&url))] {
        let far = Tier::new(connection, Json);
        let begin = Instant::now();
        assert_eq!(far.replicated("a", 1, timeout).await.expect("an answer"), 0, "{link}");
        let took = begin.elapsed();
        assert!(took > timeout / 2 && took < timeout + Duration::from_secs(2), "{link}: {took:?}");
    }
    // And in time when the server does not answer at all.
    let far = Tier::new(open(&url).await.timeout(Duration::from_millis(50)), Json);
    pair.primary.freeze();
    let begin = Instant::now();
    far.replicated("a", 1, timeout).await.expect_err("a frozen server");
    assert!(begin.elapsed() < timeout + Duration::from_secs(2), "{:?}", begin.elapsed());
}

/// A full server's invalidation is confirmed like any other.
async fn a_full_server_confirms(_: Arc<Servers>) {
    let server = servers::Redis::start_with(&["--maxmemory", "1"]).expect("a Redis");
    let far = Tier::new(open(&server.url()).await, Json);
    let (replicas, timeout) = (usize::MAX, Duration::from_millis(1));
    assert_eq!(far.replicated("a", replicas, timeout).await.expect("an answer"), 0);
}

async fn sentinels_are_asked_for_the_server_that_took_the_write(_: Arc<Servers>) {
    let group = servers::RedisSentinel::start().expect("a group");
    let link = Connection::open_sentinel(group.sentinel_urls(), group.master_name()).await;
    let far = Tier::new(link.expect("a connection").timeout(TIMEOUT), Json);
    // The one that another lock elects for asks the same server.
    let elected = far.clone().elected_by(MemoryLock::new()).lock_timeout(TIMEOUT);
    are_on_both_replicas(far).await;
    are_on_both_replicas(elected).await;
}

async fn are_on_both_replicas(far: impl Far<String>) {
    let name = contract::fresh_name();
    let _ = far.put(&name, contract::record(&far, Some("a"), 1)).await.expect("a put");
    let replicas = far.replicated(&name, 2, contract::LONG).await;
    assert_eq!(replicas.expect("an answer"), 2);
}

async fn a_cluster_cannot_confirm(on: Arc<Servers>) {
    let cluster = Connection::open_cluster(on.cluster()).await.expect("a connection");
    let far = Tier::new(cluster, Json);
    let error = far.replicated("a", 1, contract::LONG).await.expect_err("a cluster");
    assert_eq!(error.kind(), FaultKind::Config, "{error:?}");
}

async fn a_server_that_has_become_a_replica_is_unreachable(_: Arc<Servers>) {
    let server = servers::Redis::start().expect("a Redis");
    let far = Tier::new(open(&server.url()).await, Json);
    let [held, free] = [contract::fresh_name(), contract::fresh_name()];
    let (token, _) = contract::lease(&far, &held, contract::LONG).await;
    // Of nobody: what it has stays.
    let port = servers::free_port().expect("a port");
    let say = |commands: &str| servers::ask_redis(server.port(), commands);
    assert!(say(&format!("REPLICAOF 127.0.0.1 {port}")).contains("+OK"));

    let record = |value| contract::record(&far, Some(value), 1);
    let ttl = contract::LONG;
    let errors = [
        ("lease", far.look_up_or_lease(&free, token, ttl, Duration::ZERO).await.err()),
        ("commit", far.commit(&held, token, record("a")).await.err()),
        ("put", far.put(&free, record("a")).await.err()),
        ("fail", far.fail(&held, token, ttl).await.err()),
        ("renew", far.renew(&held, token, ttl).await.err()),
        ("invalidate", far.invalidate(&free, None, ttl).await.err()),
        ("release", far.release(&held, token).await.err()),
    ];
    for (call, error) in errors {
        let kind = error.as_ref().map(cattleguard::Fault::kind);
        assert_eq!(kind, Some(FaultKind::Unreachable), "{call}: {error:?}");
    }
    assert!(far.read(&free).await.expect("reads go on").is_none());
    assert!(say("CONFIG SET replica-serve-stale-data no").contains("+OK"));
    let error = far.read(&free).await.expect_err("MASTERDOWN");
    assert_eq!(error.kind(), FaultKind::Unreachable, "{error:?}");

    assert!(say("REPLICAOF NO ONE").contains("+OK"));
    let committed = far.commit(&held, token, record("a")).await;
    assert!(matches!(committed, Ok(Commit::Stored(_))), "nothing was done: {committed:?}");
}
