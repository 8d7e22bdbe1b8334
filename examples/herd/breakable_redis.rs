//! The Redis that a fault befalls.

use std::time::Duration;

use crate::{
    error::Failure,
    fault::Fault,
    redis_address::{RedisAddress, SharedRedis},
    report::{Micros, now},
    servers::{Proxy, Redis, RedisSentinel, ask_redis},
};

/// A private Redis, and what stands between it and the processes. Stops when dropped, frozen or not.
pub struct BreakableRedis {
    fault: Fault,
    servers: Servers,
}

enum Servers {
    Single(Redis),
    Behind(Proxy, Redis),
    Group(RedisSentinel),
}

const EACH_WAY: Duration = Duration::from_secs(1);

impl BreakableRedis {
    pub fn start(fault: Fault) -> Result<Self, String> {
        let servers = match fault {
            // What it has acknowledged is with the kernel, which outlives it.
            Fault::Killed => {
                Servers::Single(Redis::start_with(&["--appendonly", "yes", "--appendfsync", "no"])?)
            }
            Fault::Emptied | Fault::Frozen => Servers::Single(Redis::start()?),
            Fault::Slow | Fault::Cut => {
                let redis = Redis::start()?;
                Servers::Behind(Proxy::start(redis.port())?, redis)
            }
            Fault::Failover => Servers::Group(RedisSentinel::start()?),
        };
        Ok(Self { fault, servers })
    }

    pub fn shared(&self) -> SharedRedis {
        match &self.servers {
            Servers::Single(redis) => SharedRedis::at(RedisAddress::Single(redis.url()), None),
            Servers::Behind(proxy, redis) => {
                let disturbed = format!("redis://127.0.0.1:{}/", proxy.port());
                match self.fault {
                    Fault::Cut => SharedRedis {
                        of_first: Some(RedisAddress::Single(disturbed)),
                        ..SharedRedis::at(RedisAddress::Single(redis.url()), None)
                    },
                    _ => SharedRedis::at(RedisAddress::Single(disturbed), None),
                }
            }
            Servers::Group(group) => {
                let (urls, group) = (group.sentinel_urls(), group.master_name().to_owned());
                let address = RedisAddress::Sentinels { urls, group };
                SharedRedis { address, lock: None, of_first: None }
            }
        }
    }

    /// Breaks it at that time, for so long, and mends it: from when to when it was broken.
    pub async fn break_at(
        &mut self,
        at: Micros,
        lasts: Duration,
    ) -> Result<(Micros, Micros), Failure> {
        tokio::time::sleep(Duration::from_micros(at.saturating_sub(now()))).await;
        let from = now();
        match (&mut self.servers, self.fault) {
            (Servers::Single(redis), Fault::Frozen) => {
                redis.freeze();
                tokio::time::sleep(lasts).await;
                redis.thaw();
            }
            (Servers::Single(redis), fault) => {
                redis.kill();
                tokio::time::sleep(lasts).await;
                match fault {
                    Fault::Killed => redis.restart_with_data()?,
                    _ => redis.restart()?,
                }
            }
            (Servers::Behind(proxy, _), fault) => {
                match fault {
                    Fault::Slow => proxy.delay(EACH_WAY),
                    _ => proxy.cut(),
                }
                tokio::time::sleep(lasts).await;
                proxy.resume();
            }
            (Servers::Group(group), _) => {
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
