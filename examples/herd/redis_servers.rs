//! The Redis of a run: a private one, or one that is there.

use crate::{
    args::{Args, FarArg},
    error::Error,
    redis_address::RedisAddress,
    servers,
};

/// Private servers stop when this is dropped.
pub struct RedisServers {
    pub address: RedisAddress,
    _running: Running,
}

#[expect(dead_code, reason = "held until it is dropped")]
enum Running {
    Theirs,
    One(servers::Redis),
    Cluster(servers::RedisCluster),
}

/// Room for a thousand processes.
const CLIENTS: [&str; 2] = ["--maxclients", "20000"];

impl RedisServers {
    /// `None` without Redis. A Cluster has no replicas: they would share the cores.
    pub fn start(args: &Args) -> Result<Option<Self>, Error> {
        let (address, _running) = match &args.far {
            FarArg::Memory => return Ok(None),
            FarArg::Redis(url) => (RedisAddress::Single(url.clone()), Running::Theirs),
            FarArg::PrivateRedis => {
                let redis = servers::Redis::start_with(&CLIENTS).map_err(Error::BadInput)?;
                (RedisAddress::Single(redis.url()), Running::One(redis))
            }
            FarArg::PrivateCluster => {
                let cluster = servers::RedisCluster::start_with(args.shards(), 0, &CLIENTS);
                let cluster = cluster.map_err(Error::BadInput)?;
                (RedisAddress::Cluster(cluster.urls()), Running::Cluster(cluster))
            }
        };
        Ok(Some(Self { address, _running }))
    }
}
