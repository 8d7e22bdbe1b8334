//! All that is measured with one number of processes.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use futures::future::try_join_all;

use super::{
    cost::Cost,
    crowd::{Crowd, LONGEST, OPERATIONS, Timed},
    operation::{INVALIDATIONS_AT_ONCE, Operation},
    row::{About, Row},
};
use crate::{
    args::Args,
    environment::reached,
    error::{Error, Failure},
    redis_info::RedisNodes,
    redis_servers::RedisServers,
};

/// Private servers stop when this is dropped.
pub struct Size {
    crowd: Crowd,
    redis: Option<RedisNodes>,
    /// What the servers cost in [`IDLE`] without any process.
    nobody: Cost,
    about: About,
    next_key: u64,
    _servers: Option<RedisServers>,
}

const IDLE: Duration = Duration::from_secs(10);
const MINUTE: Duration = Duration::from_secs(60);
const WAITING: [usize; 3] = [1, 10, 50];
/// Loaded at once, while others wait for them.
const AWAITED_KEYS: usize = 8;
const WAITS_WITHIN: Duration = Duration::from_secs(5);

impl Size {
    /// Servers of its own. What they cost without a process is measured once.
    pub async fn open(
        args: &Args,
        processes: usize,
        nobody: &mut Option<Cost>,
    ) -> Result<Self, Error> {
        let servers = RedisServers::start(args)?;
        let address = servers.as_ref().map(|servers| &servers.address);
        let mut redis = match address {
            Some(address) => Some(reached(RedisNodes::open(address.nodes())).await?),
            None => None,
        };
        let idle = match (nobody.take(), &mut redis) {
            (None, Some(redis)) => pause(redis).await?,
            (known, _) => known.unwrap_or_default(),
        };
        *nobody = Some(idle.clone());
        let about = About {
            far: address.map_or("memory", |address| address.name()),
            shards: address.map(|address| address.nodes().len()).filter(|nodes| *nodes > 1),
            processes,
        };
        let crowd = Crowd::open(address, processes).await?;
        Ok(Self { crowd, redis, nobody: idle, about, next_key: 1 << 32, _servers: servers })
    }

    pub async fn rows(&mut self) -> Result<Vec<Row>, Failure> {
        let mut rows = vec![self.row(Operation::Fill).await?, self.row(Operation::Refresh).await?];
        self.crowd.gate.change();
        rows.push(self.row(Operation::Change).await?);
        for at_once in INVALIDATIONS_AT_ONCE {
            self.crowd.fill().await?;
            rows.push(self.row(Operation::Invalidation(at_once)).await?);
        }
        rows.extend(self.waiting().await?);
        rows.extend(self.idle().await?);
        Ok(rows)
    }

    async fn row(&mut self, operation: Operation) -> Result<Row, Failure> {
        let before = self.cost().await?;
        let timed = match operation {
            Operation::Invalidation(at_once) => self.crowd.invalidate(at_once).await?,
            Operation::Fill => self.crowd.fill().await?,
            _ => self.crowd.refresh().await?,
        };
        let cost = self.cost().await?.zip(before).map(|(after, before)| after.less(&before));
        Ok(Row::of(&self.about, operation, &timed, cost.as_ref()))
    }

    /// What a waiting process costs beyond the load that it waits for.
    async fn waiting(&mut self) -> Result<Vec<Row>, Failure> {
        let most = self.about.processes - 1;
        let counts: BTreeSet<usize> = WAITING.map(|count| count.min(most)).into_iter().collect();
        let (_, nobody) = self.rounds(0).await?;
        let mut rows = Vec::new();
        for waiting in counts.into_iter().filter(|count| *count > 0) {
            let (timed, cost) = self.rounds(waiting).await?;
            // Each key was awaited by so many.
            let cost = cost.zip(nobody.as_ref()).map(|(cost, nobody)| {
                let loads = timed.latencies.len() as f64 / waiting as f64;
                cost.less(&nobody.times(loads))
            });
            rows.push(Row::of(&self.about, Operation::Waiting(waiting), &timed, cost.as_ref()));
        }
        Ok(rows)
    }

    /// Rounds with so many waiting processes, and their cost: of all, or without any of a load.
    async fn rounds(&mut self, waiting: usize) -> Result<(Timed, Option<Cost>), Failure> {
        let rounds = (OPERATIONS as usize / AWAITED_KEYS / waiting.max(1)).clamp(5, 100);
        let (before, begun) = (self.cost().await?, Instant::now());
        let (mut latencies, mut loads) = (Vec::new(), 0);
        for _ in 0..rounds {
            latencies.extend(self.round(waiting).await?);
            loads += AWAITED_KEYS;
            if begun.elapsed() > LONGEST {
                break;
            }
        }
        let took = begun.elapsed();
        let cost = self.cost().await?.zip(before).map(|(after, before)| after.less(&before));
        let share = if waiting == 0 { 1.0 / loads as f64 } else { 1.0 };
        let cost = cost.map(|cost| cost.times(share));
        Ok((Timed { took, latencies, unconfirmed: 0 }, cost))
    }

    /// The worker loads some keys, the first others wait for them, and the load ends.
    async fn round(&mut self, waiting: usize) -> Result<Vec<Duration>, Failure> {
        let keys: Vec<u64> = (self.next_key..).take(AWAITED_KEYS).collect();
        self.next_key += AWAITED_KEYS as u64;
        let (gate, asked) = (self.crowd.gate.clone(), self.asked().await?);
        gate.set_open(false);
        let ask = |process: usize, key: u64| {
            let process = self.crowd.processes[process].clone();
            tokio::spawn(async move {
                process.get(&key).await?;
                Ok::<_, Failure>(Instant::now())
            })
        };
        let loading: Vec<_> = keys.iter().map(|key| ask(0, *key)).collect();
        let begun = Instant::now();
        while gate.waiting() < AWAITED_KEYS && begun.elapsed() < WAITS_WITHIN {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let waiters: Vec<_> =
            (1..=waiting).flat_map(|process| keys.iter().map(move |key| (process, *key))).collect();
        let waiters: Vec<_> = waiters.into_iter().map(|(process, key)| ask(process, key)).collect();
        self.all_asked(asked + ((1 + waiting) * AWAITED_KEYS) as u64).await?;
        let opened = Instant::now();
        gate.set_open(true);
        for loaded in try_join_all(loading).await? {
            loaded?;
        }
        let mut latencies = Vec::new();
        for answered in try_join_all(waiters).await? {
            latencies.push(answered?.saturating_duration_since(opened));
        }
        Ok(latencies)
    }

    /// Until so many leases have been asked for; over the embedded store they are at once.
    async fn all_asked(&mut self, count: u64) -> Result<(), Failure> {
        let begun = Instant::now();
        loop {
            tokio::time::sleep(Duration::from_millis(5)).await;
            let all = self.redis.is_none() || self.asked().await? >= count;
            if all || begun.elapsed() > WAITS_WITHIN {
                return Ok(());
            }
        }
    }

    /// A lease is asked for by a script.
    async fn asked(&mut self) -> Result<u64, Failure> {
        let Some(redis) = &mut self.redis else { return Ok(0) };
        let nodes = redis.info("commandstats").await?;
        Ok(nodes.iter().filter_map(|node| node.calls().get("evalsha").copied()).sum())
    }

    /// What a process costs in a minute.
    async fn idle(&mut self) -> Result<Option<Row>, Failure> {
        let Some(redis) = &mut self.redis else { return Ok(None) };
        let cost = pause(redis).await?.less(&self.nobody);
        let per_minute = MINUTE.div_duration_f64(IDLE) / self.about.processes as f64;
        Ok(Some(Row::idle(&self.about, &cost.times(per_minute))))
    }

    async fn cost(&mut self) -> Result<Option<Cost>, Failure> {
        match &mut self.redis {
            Some(redis) => Ok(Some(Cost::so_far(redis).await?)),
            None => Ok(None),
        }
    }
}

/// What Redis does while nothing happens.
async fn pause(redis: &mut RedisNodes) -> Result<Cost, Failure> {
    let before = Cost::so_far(redis).await?;
    tokio::time::sleep(IDLE).await;
    Ok(Cost::so_far(redis).await?.less(&before))
}
