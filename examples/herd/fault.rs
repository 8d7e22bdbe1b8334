//! What befalls Redis, and the Redis that it befalls.

use std::time::Duration;

use clap::ValueEnum;

use crate::{
    measure::{Micros, now},
    servers::{Proxy, Redis, RedisSentinel, ask_redis},
    strategy::Failure,
    way::{Shared, Way},
};

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// SIGKILL; restarted with its data
    Killed,
    /// SIGKILL; restarted empty
    Emptied,
    /// SIGSTOP, then SIGCONT
    Frozen,
    /// The network takes 1 s each way: 2 s a command
    Slow,
    /// The primary of a Sentinel group is killed, and a replica takes over
    Failover,
    /// The network between one process and Redis is cut; the other processes go on
    Cut,
}

impl Fault {
    pub fn name(self) -> &'static str {
        match self {
            Self::Killed => "killed",
            Self::Emptied => "emptied",
            Self::Frozen => "frozen",
            Self::Slow => "slow",
            Self::Failover => "failover",
            Self::Cut => "cut",
        }
    }

    /// The process that it concerns alone.
    pub fn cuts_off(self) -> Option<usize> {
        (self == Self::Cut).then_some(0)
    }

    /// In one sentence, for the reader.
    pub fn story(self, fault_ms: u64) -> String {
        let lasts = fault_ms as f64 / 1000.0;
        match self {
            Self::Killed => {
                format!("Redis is killed, and restarted with its data {lasts} s later.")
            }
            Self::Emptied => {
                format!("Redis is killed, and restarted without its data {lasts} s later.")
            }
            Self::Frozen => format!("Redis is stopped for {lasts} s (SIGSTOP)."),
            Self::Slow => format!("The network to Redis takes 1 s more each way, for {lasts} s."),
            Self::Failover => {
                "The primary is killed; it is over when Sentinel has made a replica the primary."
                    .into()
            }
            Self::Cut => {
                format!("One process is cut off from Redis for {lasts} s; the others go on.")
            }
        }
    }
}

/// A private Redis, and the way to it. Stops when dropped, frozen or not.
pub struct Stage {
    fault: Fault,
    set: Set,
}

enum Set {
    Alone(Redis),
    Behind(Proxy, Redis),
    Group(RedisSentinel),
}

const EACH_WAY: Duration = Duration::from_secs(1);

impl Stage {
    pub fn set(fault: Fault) -> Result<Self, String> {
        let set = match fault {
            // What it has acknowledged is with the kernel, which outlives it.
            Fault::Killed => {
                Set::Alone(Redis::start_with(&["--appendonly", "yes", "--appendfsync", "no"])?)
            }
            Fault::Emptied | Fault::Frozen => Set::Alone(Redis::start()?),
            Fault::Slow | Fault::Cut => {
                let redis = Redis::start()?;
                Set::Behind(Proxy::start(redis.port())?, redis)
            }
            Fault::Failover => Set::Group(RedisSentinel::start()?),
        };
        Ok(Self { fault, set })
    }

    pub fn shared(&self) -> Shared {
        match &self.set {
            Set::Alone(redis) => Shared::at(redis.url(), None),
            Set::Behind(proxy, redis) => {
                let disturbed = format!("redis://127.0.0.1:{}/", proxy.port());
                match self.fault {
                    Fault::Cut => Shared {
                        of_first: Some(Way::Straight(disturbed)),
                        ..Shared::at(redis.url(), None)
                    },
                    _ => Shared::at(disturbed, None),
                }
            }
            Set::Group(group) => {
                let (urls, master) = (group.sentinel_urls(), group.master_name().to_owned());
                Shared { way: Way::Sentinels { urls, master }, lock: None, of_first: None }
            }
        }
    }

    /// Breaks it at that time, for so long, and mends it: from when to when it was broken.
    pub async fn strike(
        &mut self,
        at: Micros,
        lasts: Duration,
    ) -> Result<(Micros, Micros), Failure> {
        tokio::time::sleep(Duration::from_micros(at.saturating_sub(now()))).await;
        let from = now();
        match (&mut self.set, self.fault) {
            (Set::Alone(redis), Fault::Frozen) => {
                redis.freeze();
                tokio::time::sleep(lasts).await;
                redis.thaw();
            }
            (Set::Alone(redis), fault) => {
                redis.kill();
                tokio::time::sleep(lasts).await;
                match fault {
                    Fault::Killed => redis.restart_with_data()?,
                    _ => redis.restart()?,
                }
            }
            (Set::Behind(proxy, _), fault) => {
                match fault {
                    Fault::Slow => proxy.delay(EACH_WAY),
                    _ => proxy.cut(),
                }
                tokio::time::sleep(lasts).await;
                proxy.resume();
            }
            (Set::Group(group), _) => {
                group.primary.kill();
                while !taken_over(group) {
                    if now() - from > FAILOVER_WITHIN {
                        return Err("no replica took over; retry on a less busy machine".into());
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
        Ok((from, now()))
    }
}

const FAILOVER_WITHIN: Micros = 30_000_000;

/// Whether the Sentinels name a replica, and it is a primary now.
fn taken_over(group: &RedisSentinel) -> bool {
    let asked = format!("SENTINEL GET-MASTER-ADDR-BY-NAME {}", group.master_name());
    let names = |replica: &Redis| {
        let named = |sentinel: &Redis| {
            ask_redis(sentinel.port(), &asked).contains(&format!("\r\n{}\r\n", replica.port()))
        };
        group.sentinels.iter().any(named)
            && ask_redis(replica.port(), "INFO replication").contains("role:master\r")
    };
    group.replicas.iter().any(names)
}
