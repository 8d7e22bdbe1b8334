//! The servers of the far tier, and what befalls them.

use std::{fs, path::Path, thread::sleep, time::Duration};

use fastrand::Rng;
use tempfile::TempDir;

use crate::{
    act::Act,
    address,
    args::FarKind,
    row::{HOT, name},
    servers::{Clocks, Redis, RedisCluster, RedisSentinel, ask_redis, poll},
};

pub struct Store {
    servers: Servers,
}

enum Servers {
    Single { redis: Redis, clocks: Option<Clocks> },
    Group(RedisSentinel),
    Cluster(RedisCluster),
}

/// What it has acknowledged is with the kernel, which outlives it. Rewritten, files would change while they are copied.
const DURABLE: &[&str] =
    &["--appendonly", "yes", "--appendfsync", "no", "--auto-aof-rewrite-percentage", "0"];
const LOG: &str = "appendonlydir";
const STEADY_WITHIN: Duration = Duration::from_secs(60);
/// Back by as much, a clock leaves leases and entries that last for so much longer.
pub const CLOCK_JUMPS: Duration = Duration::from_secs(8);

type Done = Result<(), String>;

impl Store {
    pub fn start(far: FarKind, acts: &[Act]) -> Result<Self, String> {
        let servers = match far {
            FarKind::Single | FarKind::Lock if acts.contains(&Act::Clock) => {
                let clocks = Clocks::new()?;
                let redis = Redis::start_with_clocks(&clocks, DURABLE)?;
                Servers::Single { redis, clocks: Some(clocks) }
            }
            FarKind::Single | FarKind::Lock => {
                Servers::Single { redis: Redis::start_with(DURABLE)?, clocks: None }
            }
            FarKind::Sentinel => Servers::Group(RedisSentinel::start()?),
            FarKind::Cluster => Servers::Cluster(RedisCluster::start()?),
        };
        Ok(Self { servers })
    }

    pub fn address(&self) -> address::Redis {
        match &self.servers {
            Servers::Single { redis, .. } => address::Redis::Single(redis.url()),
            Servers::Group(group) => address::Redis::Sentinels {
                urls: group.sentinel_urls(),
                group: group.master_name().to_owned(),
            },
            Servers::Cluster(cluster) => address::Redis::Cluster(cluster.urls()),
        }
    }

    /// Lets this befall the servers, and pass. Blocks until they are as before.
    pub fn befall(&mut self, act: Act, rng: &mut Rng) -> Done {
        match act {
            Act::Flushed => self.all("FLUSHALL\r\nSCRIPT FLUSH"),
            Act::Evicted => self.evict(rng),
            Act::Full => {
                self.all("CONFIG SET maxmemory 1");
                pause(rng, 200..3_000);
                self.all("CONFIG SET maxmemory 0");
            }
            Act::Refusing => {
                self.all("CONFIG SET min-replicas-to-write 9");
                pause(rng, 300..3_000);
                self.all("CONFIG SET min-replicas-to-write 0");
            }
            Act::Dropped => {
                for _ in 0..rng.u32(1..4) {
                    self.all("CLIENT KILL TYPE normal\r\nCLIENT KILL TYPE pubsub");
                    pause(rng, 50..400);
                }
            }
            Act::Paused => {
                let primary = self.primary(rng)?;
                primary.freeze();
                pause(rng, 100..2_500);
                primary.thaw();
            }
            Act::Clock => self.set_clock(rng)?,
            Act::Failover => self.fail_over(rng)?,
            _ => self.restart(act, rng)?,
        }
        self.steady()
    }

    fn nodes(&self) -> Vec<&Redis> {
        match &self.servers {
            Servers::Single { redis, .. } => vec![redis],
            Servers::Group(group) => {
                std::iter::once(&group.primary).chain(&group.replicas).collect()
            }
            Servers::Cluster(cluster) => cluster.nodes.iter().collect(),
        }
    }

    fn node_at(&mut self, port: u16) -> Result<&mut Redis, String> {
        let nodes: Vec<&mut Redis> = match &mut self.servers {
            Servers::Single { redis, .. } => vec![redis],
            Servers::Group(group) => {
                std::iter::once(&mut group.primary).chain(&mut group.replicas).collect()
            }
            Servers::Cluster(cluster) => cluster.nodes.iter_mut().collect(),
        };
        nodes.into_iter().find(|node| node.port() == port).ok_or_else(|| "no such node".into())
    }

    fn all(&self, commands: &str) {
        for node in self.nodes() {
            ask_redis(node.port(), commands);
        }
    }

    /// A primary: of a Cluster any of them.
    fn primary(&self, rng: &mut Rng) -> Result<&Redis, String> {
        let primaries: Vec<&Redis> =
            self.nodes().into_iter().filter(|node| is_primary(node)).collect();
        let at = rng.usize(..primaries.len().max(1));
        primaries.get(at).copied().ok_or_else(|| "there is no primary".into())
    }

    fn evict(&self, rng: &mut Rng) {
        for _ in 0..rng.u32(1..60) {
            let name = name(rng.u32(..HOT));
            let suffix = if rng.bool() { "" } else { ":l" };
            // A node that has not that key says so.
            self.all(&format!(
                "UNLINK cg:{{torture:{name}}}{suffix}\r\nUNLINK cgs:{{torture:{name}}}{suffix}"
            ));
            sleep(Duration::from_millis(20));
        }
    }

    fn set_clock(&self, rng: &mut Rng) -> Done {
        let Servers::Single { clocks: Some(clocks), .. } = &self.servers else { return Ok(()) };
        let ahead = CLOCK_JUMPS.as_secs().cast_signed();
        clocks.set(if rng.bool() { ahead } else { -ahead }, 0)?;
        pause(rng, 500..3_000);
        clocks.set(0, 0)
    }

    fn restart(&mut self, act: Act, rng: &mut Rng) -> Done {
        let Servers::Single { redis, .. } = &mut self.servers else { return Ok(()) };
        let snapshot = match act {
            Act::Rewound => {
                let snapshot = TempDir::new().map_err(|e| format!("{e}; set TMPDIR"))?;
                copy(&redis.folder().join(LOG), snapshot.path())?;
                pause(rng, 500..2_500);
                Some(snapshot)
            }
            _ => None,
        };
        redis.kill();
        pause(rng, 50..1_500);
        if act == Act::Emptied {
            return redis.restart();
        }
        if let Some(snapshot) = snapshot {
            let log = redis.folder().join(LOG);
            fs::remove_dir_all(&log).map_err(|e| format!("cannot remove {log:?}: {e}"))?;
            copy(snapshot.path(), &log)?;
        }
        redis.restart_with_data()
    }

    /// No replica can follow: a wrong password keeps them away. So the last writes of the primary are with nobody else
    /// when it dies.
    fn fail_over(&mut self, rng: &mut Rng) -> Done {
        let port = self.primary(rng)?.port();
        let followers: Vec<u16> = self
            .nodes()
            .iter()
            .map(|node| node.port())
            .filter(|&other| {
                ask_redis(other, "INFO replication").contains(&format!("master_port:{port}\r"))
            })
            .collect();
        for &follower in &followers {
            ask_redis(follower, "CONFIG SET masterauth wrong");
        }
        ask_redis(port, "CLIENT KILL TYPE replica");
        pause(rng, 300..2_000);
        self.node_at(port)?.kill();
        for &follower in &followers {
            ask_redis(follower, "CONFIG SET masterauth \"\"");
        }
        let takes_over =
            |follower: &u16| ask_redis(*follower, "INFO replication").contains("role:master\r");
        poll(STEADY_WITHIN, || followers.iter().any(takes_over).then_some(()))
            .ok_or("no replica took over; retry on a less busy machine")?;
        // A node of a Cluster knows its place from its folder; what it had is of no use.
        self.node_at(port)?.restart_with_data()
    }

    /// Waits until there is one primary for everything, with all its replicas in step.
    fn steady(&self) -> Done {
        let is_steady = || match &self.servers {
            Servers::Single { redis, .. } => ask_redis(redis.port(), "PING").starts_with("+PONG"),
            Servers::Group(group) => is_group_steady(group, &self.nodes()),
            Servers::Cluster(cluster) => cluster.nodes.iter().all(is_node_steady),
        };
        poll(STEADY_WITHIN, || {
            let steady = is_steady();
            if !steady {
                sleep(Duration::from_millis(50));
            }
            steady.then_some(())
        })
        .ok_or_else(|| "the servers are not as before; retry on a less busy machine".into())
    }
}

fn pause(rng: &mut Rng, ms: std::ops::Range<u64>) {
    sleep(Duration::from_millis(rng.u64(ms)));
}

fn is_primary(node: &Redis) -> bool {
    ask_redis(node.port(), "INFO replication").contains("role:master\r")
}

fn is_group_steady(group: &RedisSentinel, nodes: &[&Redis]) -> bool {
    let mut primaries = nodes.iter().filter(|node| is_primary(node));
    let (Some(primary), None) = (primaries.next(), primaries.next()) else { return false };
    let asked = format!("SENTINEL GET-MASTER-ADDR-BY-NAME {}", group.master_name());
    let named = format!("\r\n{}\r\n", primary.port());
    let in_step = |node: &&&Redis| {
        ask_redis(node.port(), "INFO replication").contains("master_link_status:up\r")
    };
    nodes.iter().filter(in_step).count() == group.replicas.len()
        && group
            .sentinels
            .iter()
            .all(|sentinel| ask_redis(sentinel.port(), &asked).contains(&named))
}

/// One replica for each primary.
fn is_node_steady(node: &Redis) -> bool {
    let reply = ask_redis(node.port(), "CLUSTER INFO\r\nINFO replication");
    let has = |line: &str| reply.contains(&format!("{line}\r"));
    let is_linked = has("connected_slaves:1") || has("master_link_status:up");
    has("cluster_state:ok") && has("cluster_slots_ok:16384") && is_linked
}

fn copy(from: &Path, to: &Path) -> Done {
    let copy = || {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
        Ok(())
    };
    copy().map_err(|e: std::io::Error| format!("cannot copy {from:?}: {e}"))
}
