//! Redis with Sentinel.

use super::process::{READY_WITHIN, poll};
use super::redis::{Redis, ask_redis};

const MASTER: &str = "m1";

/// One primary, two replicas and three sentinels that replace a primary that is silent for 0.5 s.
pub struct RedisSentinel {
    pub primary: Redis, // the first one: a failover does not move it
    pub replicas: Vec<Redis>,
    pub sentinels: Vec<Redis>, // one that is restarted knows the first primary and is slow
}

impl RedisSentinel {
    /// Returns once every sentinel sees both replicas in step and both other sentinels.
    pub fn start() -> Result<Self, String> {
        // Otherwise a replica copies its primary, which any of them may become, only after 5 s, and
        // gets the writes since then up to 1 s late.
        let swift = "--repl-diskless-sync no";
        let primary = Redis::start_with(&swift.split(' ').collect::<Vec<_>>())?;
        let port = primary.port();
        let options = format!("{swift} --replicaof 127.0.0.1 {port}");
        let options: Vec<&str> = options.split(' ').collect();
        let replicas = (0..2).map(|_| Redis::start_with(&options));
        let replicas = replicas.collect::<Result<Vec<_>, _>>()?;
        // A sentinel asks a primary once for its replicas, and then not again for 10 s.
        let write = "SET ready 1\r\nDEL ready\r\nWAIT 2 500";
        poll(READY_WITHIN, || ask_redis(port, write).contains(":2\r\n").then_some(()))
            .ok_or("the replicas did not copy their primary; retry on a less busy machine")?;

        let config = format!(
            "sentinel monitor {MASTER} 127.0.0.1 {port} 2\n\
             sentinel down-after-milliseconds {MASTER} 500\n\
             sentinel failover-timeout {MASTER} 2000\n"
        );
        let sentinels = (0..3).map(|_| Redis::start_from(config.clone(), &["--sentinel"]));
        let sentinels = sentinels.collect::<Result<Vec<_>, _>>()?;
        for sentinel in &sentinels {
            // A sentinel connects again once in a ping period. Were that the usual 1 s, a new
            // primary, which drops its connections, would seem down after 0.5 s, and so the next.
            // It must stay above 0.2 s: a replica unheard of for five periods is not promoted,
            // and they are asked once a second. Redis 7 and later know the command.
            let swift = "SENTINEL DEBUG ping-period 250 publish-period 200 info-period 500";
            ask_redis(sentinel.port(), swift);
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
