//! Redis with Sentinel.

use super::process::{READY_WITHIN, poll};
use super::redis::{Redis, ask_redis};

const MASTER: &str = "m1";

/// One primary, two replicas and three sentinels that replace a primary that is silent for 0.5 s.
pub struct RedisSentinel {
    pub primary: Redis, // the first one: a failover does not move it
    pub replicas: Vec<Redis>,
    pub sentinels: Vec<Redis>,
}

impl RedisSentinel {
    /// Returns once every sentinel sees both replicas in step and both other sentinels.
    pub fn start() -> Result<Self, String> {
        // Otherwise a replica waits 5 s before it copies its primary, which any of them may become.
        let swift = "--repl-diskless-sync-delay 0";
        let primary = Redis::start_with(&swift.split(' ').collect::<Vec<_>>())?;
        let port = primary.port();
        let options = format!("{swift} --replicaof 127.0.0.1 {port}");
        let options: Vec<&str> = options.split(' ').collect();
        let replicas = (0..2).map(|_| Redis::start_with(&options));
        let replicas = replicas.collect::<Result<Vec<_>, _>>()?;
        // A sentinel asks a primary once for its replicas, and then not again for 10 s.
        let linked = || ask_redis(port, "INFO replication").matches("state=online").count() == 2;
        poll(READY_WITHIN, || linked().then_some(()))
            .ok_or("the replicas did not copy their primary; retry on a less busy machine")?;

        let config = format!(
            "sentinel monitor {MASTER} 127.0.0.1 {port} 2\n\
             sentinel down-after-milliseconds {MASTER} 500\n\
             sentinel failover-timeout {MASTER} 2000\n"
        );
        let sentinels = (0..3).map(|_| Redis::start_from(config.clone(), &["--sentinel"]));
        let sentinels = sentinels.collect::<Result<Vec<_>, _>>()?;
        for sentinel in &sentinels {
            // Otherwise 2 s and 10 s; a Redis before 7 refuses, and is only slower to get ready.
            ask_redis(sentinel.port(), "SENTINEL DEBUG publish-period 200 info-period 500");
        }
        let sees_all = |sentinel: &Redis| {
            let ask = format!("INFO sentinel\r\nSENTINEL REPLICAS {MASTER}");
            let reply = ask_redis(sentinel.port(), &ask);
            let in_step = reply.matches("master-link-status\r\n$2\r\nok\r").count() == 2;
            reply.contains("status=ok") && reply.contains("slaves=2,sentinels=3") && in_step
        };
        poll(READY_WITHIN, || sentinels.iter().all(sees_all).then_some(()))
            .ok_or("the sentinels were not ready in time; retry on a less busy machine")?;
        Ok(Self { primary, replicas, sentinels })
    }

    pub fn sentinel_urls(&self) -> Vec<String> {
        self.sentinels.iter().map(Redis::url).collect()
    }

    pub fn master_name(&self) -> &'static str {
        MASTER
    }
}
