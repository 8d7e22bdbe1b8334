//! What a holder of a lease costs the others that is killed, frozen, or just slow.

use std::time::{Duration, Instant};

use crate::{
    fleet::{Fleet, until},
    servers::Proxy,
};

const LEASE_TTL: Duration = Duration::from_secs(2);
/// What a busy machine of two cores may add to any wait.
const SLACK: Duration = Duration::from_millis(1500);
const NEAR_TTL: Duration = Duration::from_secs(5);

pub async fn a_killed_holder_costs_one_lease() {
    let mut fleet = Fleet::start(2).await;
    let [holder, other] = &mut fleet.workers[..] else { panic!() };
    assert_eq!(holder.ask("hold k").await, "loading");
    holder.kill().await;
    let begin = Instant::now();
    let (answered, version, slowest) = other.fetch("k", 250, 10).await;
    assert_eq!((answered, version), (250, 1));
    assert!(begin.elapsed() < LEASE_TTL + SLACK, "the slowest waited {slowest} ms");
    println!("a killed holder cost {slowest} ms of a lease ttl of {LEASE_TTL:?}");
    assert_eq!(fleet.loads("k").await, 2);
}

pub async fn a_frozen_holder_wakes_up_and_is_refused() {
    let mut fleet = Fleet::start(2).await;
    let (key, old, new) = ("k", 1, 2);
    fleet.update(key, old).await;
    assert_eq!(fleet.workers[0].ask("hold k").await, "loading");
    fleet.workers[0].freeze();
    // Past its lease another process loads, after the row has changed.
    fleet.update(key, new).await;
    assert_eq!(fleet.workers[1].fetch(key, 1, 0).await.1, new);

    fleet.workers[0].order("go").await;
    fleet.workers[0].thaw();
    // Who waited for the frozen load since before it read may have what it read or newer.
    let landed = fleet.workers[0].answer().await;
    assert!(landed.starts_with("landed"), "{landed}");
    for worker in &mut fleet.workers {
        assert_eq!(worker.fetch(key, 10, 0).await.1, new, "the old value did not come back");
    }
    assert_eq!(fleet.loads(key).await, 2);
}

/// Where a miss can be interrupted, in its order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Step {
    BeforeRead,
    Granted,
    Loading,
    Loaded,
    /// The commit is carried out, its answer on the way.
    Committing,
    Committed,
}

impl Step {
    const ALL: [Self; 6] = [
        Self::BeforeRead,
        Self::Granted,
        Self::Loading,
        Self::Loaded,
        Self::Committing,
        Self::Committed,
    ];

    /// Starts a miss of `key` that stays here. `proxy` is the worker's way to Redis.
    async fn bring(self, fleet: &mut Fleet, holder: usize, key: &str, proxy: &Proxy) {
        let stop = match self {
            Self::BeforeRead => "before-read",
            Self::Granted => "granted",
            Self::Loading => {
                assert_eq!(fleet.workers[holder].ask(&format!("hold {key}")).await, "loading");
                return;
            }
            Self::Loaded | Self::Committing => "loaded",
            Self::Committed => "committed",
        };
        let at = fleet.workers[holder].ask(&format!("step {stop} {key}")).await;
        assert_eq!(at, format!("at {stop}"));
        if self == Self::Committing {
            proxy.mute();
            fleet.workers[holder].order("go").await;
            let stored = format!("EXISTS cg:{{:{key}}}");
            until(SLACK, async || fleet.say(&stored).starts_with(":1")).await;
        }
    }
}

pub async fn a_holder_killed_at_any_step_costs_one_lease() {
    let mut fleet = Fleet::start(1).await;
    for step in Step::ALL {
        let proxy = Proxy::start(fleet.redis.port()).expect("a proxy");
        fleet.join(&through(&proxy), &["timeout=2000"]).await;
        let key = format!("{step:?}");
        step.bring(&mut fleet, 1, &key, &proxy).await;
        fleet.update(&key, 2).await;
        let mut holder = fleet.workers.pop().expect("the holder");
        holder.kill().await;
        the_other_is_answered(&mut fleet, &key, step).await;
    }
}

pub async fn a_holder_frozen_at_any_step_costs_one_lease_and_brings_nothing_old_back() {
    let mut fleet = Fleet::start(1).await;
    for step in Step::ALL {
        let proxy = Proxy::start(fleet.redis.port()).expect("a proxy");
        fleet.join(&through(&proxy), &["timeout=2000"]).await;
        let key = format!("{step:?}");
        step.bring(&mut fleet, 1, &key, &proxy).await;
        fleet.update(&key, 2).await;
        fleet.workers[1].freeze();
        the_other_is_answered(&mut fleet, &key, step).await;

        proxy.resume();
        fleet.workers[1].thaw();
        if step != Step::Committing {
            fleet.workers[1].order("go").await;
        }
        let landed = fleet.workers[1].answer().await;
        assert!(landed.starts_with("landed"), "{step:?}: {landed}");
        assert!(fleet.loads(&key).await <= 2, "{step:?}");
        // It hears of the new row with the messages that waited for it, or forgets the old one.
        let [other, holder] = &mut fleet.workers[..] else { panic!() };
        let took = until(NEAR_TTL + SLACK, async || holder.version(&key).await == 2).await;
        println!("frozen at {step:?}: the new row after {took:?}");
        for worker in [holder, other] {
            assert_eq!(worker.fetch(&key, 10, 0).await.1, 2, "{step:?}: nothing old came back");
        }
        let mut holder = fleet.workers.pop().expect("the holder");
        holder.kill().await;
    }
}

/// All callers of the other process, within a lease, and after at most one more load.
async fn the_other_is_answered(fleet: &mut Fleet, key: &str, step: Step) {
    let begin = Instant::now();
    let (answered, version, slowest) = fleet.workers[0].fetch(key, 100, 10).await;
    let loads = fleet.loads(key).await;
    println!("{step:?}: the slowest waited {slowest} ms, {loads} loads");
    assert_eq!(answered, 100, "{step:?}");
    assert!(begin.elapsed() < LEASE_TTL + SLACK, "{step:?}: the slowest waited {slowest} ms");
    assert!(loads <= 2, "{step:?}: {loads} loads");
    if step < Step::Committing {
        assert_eq!(version, 2, "{step:?}: loaded after the update");
        return;
    }
    // What was written holds until the writer says otherwise.
    assert_eq!((version, loads), (1, 1), "{step:?}");
    let invalidated = fleet.workers[0].ask(&format!("invalidate {key} 2")).await;
    assert!(invalidated.starts_with("invalidated Ok"), "{step:?}: {invalidated}");
    assert_eq!(fleet.workers[0].version(key).await, 2, "{step:?}");
}

/// The network delivers the commit of a process that is no more, after another one has loaded.
pub async fn the_late_commit_of_a_dead_holder_is_refused() {
    let mut fleet = Fleet::start(1).await;
    let proxy = Proxy::start(fleet.redis.port()).expect("a proxy");
    fleet.join(&through(&proxy), &["timeout=2000"]).await;
    let key = "k";
    Step::Loaded.bring(&mut fleet, 1, key, &proxy).await;
    proxy.stall();
    fleet.workers[1].order("go").await;
    until(SLACK, async || proxy.holds_back("EVALSHA")).await;
    fleet.workers[1].kill().await;
    fleet.update(key, 2).await;
    assert_eq!(fleet.workers[0].fetch(key, 100, 10).await.1, 2);

    // Nothing but the lease tells it from a new one once the record is evicted, and its version with it.
    let record = format!("cg:{{:{key}}}");
    assert!(fleet.say(&format!("DEL {record}")).starts_with(":1"));
    let before = fleet.scripts();
    proxy.resume();
    until(SLACK, async || fleet.scripts() > before).await;
    assert!(fleet.say(&format!("EXISTS {record}")).starts_with(":0"), "not written");
    fleet.join(&fleet.redis.url(), &["timeout=2000"]).await;
    assert_eq!(fleet.workers[2].version(key).await, 2, "the old value did not come back");
    assert_eq!(fleet.loads(key).await, 3);
}

pub async fn a_load_longer_than_its_lease_keeps_it() {
    let mut fleet = Fleet::start(2).await;
    let load_ms = 2 * LEASE_TTL.as_millis() as u64;
    for worker in &mut fleet.workers {
        worker.order(&format!("fetch k 50 {load_ms}")).await;
    }
    for worker in &mut fleet.workers {
        assert_eq!(worker.fetched().await.0, 50);
    }
    assert_eq!(fleet.loads("k").await, 1);
}

pub async fn a_load_six_leases_long_is_one_load() {
    let mut fleet = Fleet::start_with(2, &["timeout=400", "lease=500"]).await;
    for worker in &mut fleet.workers {
        worker.order("fetch k 50 3000").await;
    }
    for worker in &mut fleet.workers {
        let (answered, _, slowest) = worker.fetched().await;
        assert_eq!(answered, 50);
        assert!(slowest < 3000 + SLACK.as_millis() as u64, "{slowest} ms");
    }
    assert_eq!(fleet.loads("k").await, 1);
}

fn through(proxy: &Proxy) -> String {
    format!("redis://127.0.0.1:{}/", proxy.port())
}
