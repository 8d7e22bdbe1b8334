//! A Redis Cluster whose nodes hang, leave, and hand over slots.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use cattleguard::{
    FaultKind,
    codec::Json,
    far::{Attempt, Commit, Far, Invalidated, Put, Token, Watcher},
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
        invalidations_reach_everybody_and_are_counted,
        a_failover_is_told_and_then_everybody_is_reached_again,
        a_slot_that_moves_takes_its_messages_along,
        a_planned_failover_is_followed,
        where_nobody_may_listen_to_shards_all_nodes_pass_messages_on,
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

/// What a watcher of this tier hears.
fn watched(far: &Tier) -> Arc<Recorder> {
    let recorder = Arc::new(Recorder::default());
    let weak: Weak<dyn Watcher> = Arc::downgrade(&recorder) as _;
    far.watch(weak);
    recorder
}

async fn reaches_everywhere(far: &Tier, names: &[String]) {
    for name in names {
        eventually(async || {
            let done = far.invalidate(name, None, LONG).await;
            matches!(done, Ok(Invalidated::Everywhere)).then_some(())
        })
        .await;
    }
}

/// So many names that some are on another node than the channel of their messages.
async fn invalidations_reach_everybody_and_are_counted(_: Arc<Servers>) {
    let cluster = RedisCluster::start().expect("a cluster");
    let (one, other) = (open(&cluster.urls()).await, open(&cluster.urls()).await);
    let recorder = watched(&other);
    reaches_everywhere(&other, &["first".to_owned()]).await;
    let names: Vec<_> = (0..300).map(|number| format!("n{number}")).collect();
    for name in &names {
        let done = one.invalidate(name, None, LONG).await.expect("an invalidation");
        assert_eq!(done, Invalidated::Everywhere, "{name}");
        // Confirmed, so heard.
        assert_eq!(recorder.about(name), [format!("invalidated {name} None")]);
        let (token, _) = contract::lease(&one, name, LONG).await;
        let held = other.look_up_or_lease(name, Token::random(), LONG, Duration::ZERO).await;
        assert!(matches!(held, Ok(Attempt::Held { .. })), "{held:?}");
        let record = contract::record(&one, Some("a"), 1);
        let stored = one.commit(name, token, record).await;
        assert!(matches!(stored, Ok(Commit::Stored(_))), "{stored:?}");
        let committed = format!("committed {name} 1");
        eventually(async || recorder.about(name).contains(&committed).then_some(())).await;
    }
    // They stay in their shard: over the bus between the nodes went no more than the questions whether it is allowed.
    let sent = cluster.nodes.iter().map(|node| {
        let info = ask_redis(node.port(), "CLUSTER INFO");
        let sent =
            info.lines().find_map(|line| line.strip_prefix("cluster_stats_messages_publish_sent:"));
        sent.and_then(|sent| sent.parse().ok()).unwrap_or(0_u32)
    });
    let sent: u32 = sent.sum();
    assert!(sent < 100, "{sent} for 600 messages");
}

async fn a_failover_is_told_and_then_everybody_is_reached_again(_: Arc<Servers>) {
    let mut cluster = RedisCluster::start().expect("a cluster");
    let (one, other) = (open(&cluster.urls()).await, open(&cluster.urls()).await);
    let names = [0, 1, 2].map(|primary| name_of(&cluster, primary));
    let recorders = [watched(&one), watched(&other)];
    for far in [&one, &other] {
        reaches_everywhere(far, &names).await;
    }
    cluster.nodes[0].kill();
    for recorder in &recorders {
        eventually(async || recorder.heard.lock().contains(&"disconnected".into()).then_some(()))
            .await;
    }
    for far in [&one, &other] {
        reaches_everywhere(far, &names).await;
    }
    for recorder in &recorders {
        let heard = recorder.heard.lock();
        let lost = heard.iter().position(|event| event == "disconnected");
        let back = heard.iter().rposition(|event| event == "connected");
        assert!(lost < back, "{heard:?}");
    }
}

/// As in a Cluster that has no sharded channels.
async fn where_nobody_may_listen_to_shards_all_nodes_pass_messages_on(_: Arc<Servers>) {
    let cluster = RedisCluster::start().expect("a cluster");
    for node in &cluster.nodes {
        assert!(ask_redis(node.port(), "ACL SETUSER default -ssubscribe").contains("+OK"));
    }
    let (one, other) = (open(&cluster.urls()).await, open(&cluster.urls()).await);
    let recorder = watched(&other);
    other.read("any").await.expect("a read");
    eventually(async || recorder.heard.lock().contains(&"connected".into()).then_some(())).await;
    let done = one.invalidate("name", None, LONG).await.expect("an invalidation");
    assert_eq!(done, Invalidated::Unconfirmed);
    eventually(async || recorder.about("name").first().map(drop)).await;
}

/// As for maintenance: the old primary lives on as a replica, where who listens is not counted.
async fn a_planned_failover_is_followed(_: Arc<Servers>) {
    let cluster = RedisCluster::start().expect("a cluster");
    let (one, other) = (open(&cluster.urls()).await, open(&cluster.urls()).await);
    let name = [name_of(&cluster, 0)];
    let recorders = [watched(&one), watched(&other)];
    for far in [&one, &other] {
        reaches_everywhere(far, &name).await;
    }
    let follows = format!("master_port:{}\r", cluster.nodes[0].port());
    let replica = cluster.nodes[3..]
        .iter()
        .find(|node| ask_redis(node.port(), "INFO replication").contains(&follows));
    let answer = ask_redis(replica.expect("a replica").port(), "CLUSTER FAILOVER");
    assert!(answer.contains("+OK"), "{answer}");
    for recorder in &recorders {
        eventually(async || recorder.heard.lock().contains(&"disconnected".into()).then_some(()))
            .await;
    }
    for far in [&one, &other] {
        reaches_everywhere(far, &name).await;
    }
}

/// The slot of a channel goes to another node: its messages come from there, also those about records that stay.
async fn a_slot_that_moves_takes_its_messages_along(_: Arc<Servers>) {
    let cluster = RedisCluster::start().expect("a cluster");
    let (one, other) = (open(&cluster.urls()).await, open(&cluster.urls()).await);
    let recorder = watched(&other);
    let slot_of = |key: &str| -> u16 {
        let answer = ask_redis(cluster.nodes[0].port(), &format!("CLUSTER KEYSLOT {key}"));
        let number = answer.strip_prefix(':').and_then(|rest| rest.lines().next());
        number.and_then(|number| number.parse().ok()).expect("a slot")
    };
    // As the library chooses the slots of its channels: the first number in each 64th of the slots.
    let moved = (0..).map(|tag: u32| slot_of(&tag.to_string())).find(|slot| *slot < 5_461);
    let moved = moved.expect("a number in the first shard");
    let bucket = moved / 256 * 256;
    let name = (0..).map(|number: u32| format!("n{number}")).find(|name| {
        let slot = slot(&cluster, name);
        slot != moved && slot < 5_461 && (bucket..bucket + 256).contains(&slot)
    });
    let name = [name.expect("a neighbour")];
    for far in [&one, &other] {
        reaches_everywhere(far, &name).await;
    }
    recorder.heard.lock().clear();
    let id = |node: &servers::Redis| {
        let answer = ask_redis(node.port(), "CLUSTER MYID");
        answer.lines().nth(1).expect("an id").trim().to_owned()
    };
    let to = id(&cluster.nodes[1]);
    for node in [1, 0, 2] {
        let command = format!("CLUSTER SETSLOT {moved} NODE {to}");
        let answer = ask_redis(cluster.nodes[node].port(), &command);
        assert!(answer.contains("+OK"), "{answer}");
    }
    eventually(async || recorder.heard.lock().contains(&"disconnected".into()).then_some(())).await;
    for far in [&one, &other] {
        reaches_everywhere(far, &name).await;
    }
}
