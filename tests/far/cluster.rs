//! A Redis Cluster whose nodes hang, leave, and hand over slots.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use cattleguard::{
    FaultKind,
    codec::Json,
    far::{Far, Put, Watcher},
    redis::Connection,
};
use libtest_mimic::Trial;

use crate::{
    contract::{self, LONG, Recorder, eventually},
    servers::{self, RedisCluster, ask_redis},
    setup::{Servers, Tier, trials},
};

pub fn trials(servers: &Arc<Servers>) -> Vec<Trial> {
    trials!(
        servers, "redis_cluster";
        a_primary_that_hangs_is_left_and_other_shards_answer,
        messages_come_from_any_node,
        a_slot_that_migrates_is_busy_and_no_outage,
    )
}

/// Two cores, six servers and more.
const TIMEOUT: Duration = Duration::from_millis(500);

async fn open(urls: &[String]) -> Tier {
    let connection = Connection::open_cluster(urls).await.expect("a connection");
    Tier::new(connection.timeout(TIMEOUT), Json)
}

fn slot(cluster: &RedisCluster, name: &str) -> u16 {
    let answer = ask_redis(cluster.nodes[0].port(), &format!("CLUSTER KEYSLOT cg:{{:{name}}}"));
    let number = answer.strip_prefix(':').and_then(|rest| rest.lines().next());
    number.and_then(|number| number.parse().ok()).expect("a slot")
}

/// A name in the shard of this primary, one of the first three nodes.
fn name_of(cluster: &RedisCluster, primary: usize) -> String {
    let first = [0, 5461, 10923, 16384];
    let shard = first[primary]..first[primary + 1];
    // Not a fresh name of the contract: its braces are encoded in a key.
    std::iter::repeat_with(|| format!("n{}", fastrand::u64(..)))
        .find(|name| shard.contains(&slot(cluster, name)))
        .expect("a name")
}

async fn a_primary_that_hangs_is_left_and_other_shards_answer(_: Arc<Servers>) {
    let cluster = RedisCluster::start().expect("a cluster");
    let far = open(&cluster.urls()).await;
    let names = [0, 1, 2].map(|primary| name_of(&cluster, primary));
    for name in &names {
        far.invalidate(name, None, LONG).await.expect("an invalidation");
    }
    for node in &cluster.nodes {
        // Otherwise Redis itself refuses all shards while one has no primary.
        let answer = ask_redis(node.port(), "CONFIG SET cluster-require-full-coverage no");
        assert!(answer.contains("+OK"), "{answer}");
    }
    cluster.nodes[0].freeze();
    let begin = Instant::now();
    let mut last = [begin; 2];
    loop {
        for (healthy, last) in names[1..].iter().zip(&mut last) {
            let answers = far.read(healthy).await.is_ok()
                && far.invalidate(healthy, None, LONG).await.is_ok();
            if answers {
                *last = Instant::now();
            }
            // The client holds up all commands while it looks for slots, for a second at the most.
            assert!(last.elapsed() < Duration::from_secs(2), "another shard fails, too");
        }
        match far.invalidate(&names[0], None, LONG).await {
            Ok(_) => break,
            // The shard is silent, and so says nothing else, until its replica takes over.
            Err(fault) => assert!(
                [FaultKind::Timeout, FaultKind::Busy, FaultKind::Unreachable]
                    .contains(&fault.kind()),
                "{fault:?}"
            ),
        }
        assert!(begin.elapsed() < Duration::from_secs(20), "the primary that hangs is not left");
    }
    cluster.nodes[0].thaw();
}

async fn messages_come_from_any_node(_: Arc<Servers>) {
    let mut cluster = RedisCluster::start().expect("a cluster");
    // A seed that serves no slots: nothing else is lost with it.
    let seed = cluster.nodes.pop().expect("a replica");
    let (far, other) = (open(&[seed.url()]).await, open(&cluster.urls()).await);
    let recorder = Arc::new(Recorder::default());
    let weak: Weak<dyn Watcher> = Arc::downgrade(&recorder) as _;
    far.watch(weak);
    let told = async |other: &Tier| {
        let mut sent = Vec::new();
        eventually(async || {
            let name = name_of(&cluster, 1);
            other.invalidate(&name, None, LONG).await.ok()?;
            sent.push(name);
            sent.iter().any(|name| !recorder.about(name).is_empty()).then_some(())
        })
        .await;
    };
    far.read("any").await.expect("a read");
    told(&other).await;
    drop(seed);
    told(&other).await;
}

async fn a_slot_that_migrates_is_busy_and_no_outage(_: Arc<Servers>) {
    let cluster = RedisCluster::start().expect("a cluster");
    let far = open(&cluster.urls()).await;
    let name = name_of(&cluster, 0);
    let slot = slot(&cluster, &name);
    let record = contract::record(&far, Some("a"), 1);
    assert!(matches!(far.put(&name, record).await, Ok(Put::Stored(_))));
    let id = |node: &servers::Redis| {
        let answer = ask_redis(node.port(), "CLUSTER MYID");
        answer.lines().nth(1).expect("an id").trim().to_owned()
    };
    let say = |node: &servers::Redis, command: &str| {
        let answer = ask_redis(node.port(), command);
        assert!(answer.contains("+OK"), "{answer}");
    };
    let [from, to] = [&cluster.nodes[0], &cluster.nodes[1]];
    say(to, &format!("CLUSTER SETSLOT {slot} IMPORTING {}", id(from)));
    say(from, &format!("CLUSTER SETSLOT {slot} MIGRATING {}", id(to)));

    // The entry is there, its lease is not: neither node can answer for both.
    let begin = Instant::now();
    let busy = far.invalidate(&name, None, LONG).await.expect_err("a slot in two places");
    assert_eq!(busy.kind(), FaultKind::Busy, "{busy:?}");
    assert!(begin.elapsed() < TIMEOUT * 2, "{:?}", begin.elapsed());
    assert!(far.read(&name).await.expect("a read").is_some());

    for node in [from, to] {
        say(node, &format!("CLUSTER SETSLOT {slot} STABLE"));
    }
    far.invalidate(&name, None, LONG).await.expect("a slot in one place");
}
