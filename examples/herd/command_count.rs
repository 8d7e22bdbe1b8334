//! How many commands clients sent to Redis, by its own statistics.

use std::collections::HashMap;

use crate::{error::Failure, redis_info::RedisNodes, strategy::Strategy};

pub struct CommandCount {
    nodes: RedisNodes,
}

/// Redis counts the commands that a script runs like those that a client sends. The guard's scripts run
/// only these, and its client sends none of them but PUBLISH and SPUBLISH.
const INSIDE_OURS: [&str; 12] = [
    "mget", "getrange", "setrange", "append", "set", "del", "pexpire", "pttl", "time", "publish",
    "spublish", "pubsub",
];
/// The same for the release script of `lock-poll`.
const INSIDE_OTHERS: [&str; 2] = ["getrange", "unlink"];

impl CommandCount {
    /// Of all nodes together.
    pub async fn open(urls: &[String]) -> Result<Self, Failure> {
        Ok(Self { nodes: RedisNodes::open(urls).await? })
    }

    /// All commands that the clients of `strategy` have sent so far. `elected`: by a lock elsewhere.
    pub async fn sent(&mut self, strategy: Strategy, elected: bool) -> Result<u64, Failure> {
        let mut all: HashMap<String, u64> = HashMap::new();
        for (name, calls) in self.nodes.info("commandstats").await?.iter().flat_map(|i| i.calls()) {
            *all.entry(name).or_default() += calls;
        }
        let of = |name: &str| all.get(name).copied().unwrap_or(0);
        let published = of("publish") + of("spublish");
        Ok(match strategy {
            // Where another lock elects, the scripts publish nothing.
            Strategy::Cattleguard if elected => outside(&all, &INSIDE_OURS) + published,
            // A script of the guard that publishes also deletes the lease, once each: what is
            // published beyond that are confirmations of invalidations, sent by clients.
            Strategy::Cattleguard => {
                outside(&all, &INSIDE_OURS) + published.saturating_sub(of("del"))
            }
            _ => outside(&all, &INSIDE_OTHERS),
        })
    }
}

/// The guard's, without its messages: scripts publish some of them, and clients the others.
pub fn besides_messages(calls: &HashMap<String, u64>) -> u64 {
    outside(calls, &INSIDE_OURS)
}

fn outside(calls: &HashMap<String, u64>, inside: &[&str]) -> u64 {
    let sent = calls.iter().filter(|(name, _)| !inside.contains(&name.as_str()));
    sent.map(|(_, calls)| calls).sum()
}
