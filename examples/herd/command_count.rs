//! How many commands clients sent to Redis, by its own statistics.

use std::collections::HashMap;

use redis::aio::MultiplexedConnection;

use crate::{error::Failure, strategy::Strategy};

/// The harness's own connection.
pub struct CommandCount {
    link: MultiplexedConnection,
}

/// Redis counts the commands that a script runs like those that a client sends. The guard's scripts run
/// only these, and its client sends none of them but PUBLISH.
const INSIDE_OURS: [&str; 10] =
    ["mget", "getrange", "setrange", "set", "del", "pexpire", "pttl", "time", "publish", "pubsub"];
/// The same for the release script of `lock-poll`.
const INSIDE_OTHERS: [&str; 2] = ["getrange", "unlink"];

impl CommandCount {
    pub async fn open(url: &str) -> Result<Self, Failure> {
        let client = redis::Client::open(url)?;
        Ok(Self { link: client.get_multiplexed_async_connection().await? })
    }

    /// All commands that the clients of `strategy` have sent so far; INFO is the harness's own.
    /// `elected`: by a lock elsewhere.
    pub async fn sent(&mut self, strategy: Strategy, elected: bool) -> Result<u64, Failure> {
        let info: String =
            redis::cmd("INFO").arg("commandstats").query_async(&mut self.link).await?;
        let calls = |line: &str| -> Option<(String, u64)> {
            let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(':')?;
            let calls = rest.strip_prefix("calls=")?.split(',').next()?.parse().ok()?;
            Some((name.to_owned(), calls))
        };
        let all: HashMap<String, u64> = info.lines().filter_map(calls).collect();
        let of = |name: &str| all.get(name).copied().unwrap_or(0);
        let outside = |inside: &[&str]| -> u64 {
            let sent =
                all.iter().filter(|(name, _)| *name != "info" && !inside.contains(&name.as_str()));
            sent.map(|(_, calls)| calls).sum()
        };
        Ok(match strategy {
            // Where another lock elects, the scripts publish nothing.
            Strategy::Cattleguard if elected => outside(&INSIDE_OURS) + of("publish"),
            // A script of the guard that publishes also deletes the lease, once each: what is
            // published beyond that are confirmations of invalidations, sent by clients.
            Strategy::Cattleguard => {
                outside(&INSIDE_OURS) + of("publish").saturating_sub(of("del"))
            }
            _ => outside(&INSIDE_OTHERS),
        })
    }
}
