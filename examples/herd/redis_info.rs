//! What the nodes of a Redis say of themselves.

use std::{collections::HashMap, time::Duration};

use redis::{AsyncConnectionConfig, aio::MultiplexedConnection};

use crate::error::Failure;

/// The harness's own connections, one to each node.
pub struct RedisNodes {
    links: Vec<MultiplexedConnection>,
}

/// A busy node answers late.
const INFO_TIMEOUT: Duration = Duration::from_secs(10);

impl RedisNodes {
    pub async fn open(urls: &[String]) -> Result<Self, Failure> {
        let mut links = Vec::new();
        for url in urls {
            let client = redis::Client::open(url.as_str())?;
            let config = AsyncConnectionConfig::new().set_response_timeout(Some(INFO_TIMEOUT));
            links.push(client.get_multiplexed_async_connection_with_config(&config).await?);
        }
        Ok(Self { links })
    }

    /// Of each node, in their order.
    pub async fn info(&mut self, section: &str) -> Result<Vec<RedisInfo>, Failure> {
        let mut all = Vec::new();
        for link in &mut self.links {
            all.push(RedisInfo(redis::cmd("INFO").arg(section).query_async(link).await?));
        }
        Ok(all)
    }
}

pub struct RedisInfo(String);

impl RedisInfo {
    /// Zero if there is none.
    pub fn figure(&self, name: &str) -> f64 {
        let figures = self.0.lines().filter_map(|line| line.split_once(':'));
        let figure = figures.into_iter().find(|(found, _)| *found == name);
        figure.and_then(|(_, figure)| figure.trim().parse().ok()).unwrap_or(0.0)
    }

    /// How often each command was called, by clients and by scripts; INFO is the harness's own.
    pub fn calls(&self) -> HashMap<String, u64> {
        let mut all = HashMap::new();
        for (name, calls) in self.0.lines().filter_map(calls).filter(|(name, _)| *name != "info") {
            *all.entry(name.to_owned()).or_default() += calls;
        }
        all
    }
}

/// A command, as in `pubsub|numsub` without what it is told to do, and how often it was called.
fn calls(line: &str) -> Option<(&str, u64)> {
    let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(':')?;
    let calls = rest.strip_prefix("calls=")?.split(',').next()?.parse().ok()?;
    Some((name.split_once('|').map_or(name, |(command, _)| command), calls))
}
