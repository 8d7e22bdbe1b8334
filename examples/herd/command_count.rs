//! How many commands clients sent to Redis, by its own statistics.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use futures::StreamExt;

use crate::{error::Failure, redis_info::RedisNodes, strategy::Strategy};

pub struct CommandCount {
    nodes: RedisNodes,
    /// The messages that clients of the guard have sent: confirmations of invalidations. None for a Cluster, whose
    /// sharded channels nobody can listen to by a pattern.
    confirmations: Option<Arc<AtomicU64>>,
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
        let confirmations = match urls {
            [url] => Some(count_confirmations(url).await?),
            _ => None,
        };
        Ok(Self { nodes: RedisNodes::open(urls).await?, confirmations })
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
            Strategy::Cattleguard => {
                // In a Cluster: what is published beyond the wake-up of each process that was noted, and a message
                // for each lease that ended.
                let by_scripts = of("append") + of("del");
                let confirmations = self.confirmations.as_ref();
                let sent = confirmations.map(|confirmations| confirmations.load(Ordering::Relaxed));
                let sent = sent.unwrap_or_else(|| published.saturating_sub(by_scripts));
                outside(&all, &INSIDE_OURS) + sent
            }
            _ => outside(&all, &INSIDE_OTHERS),
        })
    }
}

/// The guard's, without its messages: scripts publish some of them, and clients the others.
pub fn besides_messages(calls: &HashMap<String, u64>) -> u64 {
    outside(calls, &INSIDE_OURS)
}

/// Without signs of life, which each connection gives whether anything happens or not.
fn outside(calls: &HashMap<String, u64>, inside: &[&str]) -> u64 {
    let is_sent = |name: &str| name != "ping" && !inside.contains(&name);
    let sent = calls.iter().filter(|(name, _)| is_sent(name));
    sent.map(|(_, calls)| calls).sum()
}

/// Counts them from now on: messages to one process that name no channel.
async fn count_confirmations(url: &str) -> Result<Arc<AtomicU64>, Failure> {
    let mut subscription = redis::Client::open(url)?.get_async_pubsub().await?;
    subscription.psubscribe("cg:process:*").await?;
    let count = Arc::<AtomicU64>::default();
    let counted = count.clone();
    tokio::spawn(async move {
        let mut messages = subscription.into_on_message();
        while let Some(message) = messages.next().await {
            if message.get_payload_bytes().starts_with(&[0, 0]) {
                counted.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    Ok(count)
}
