//! Real servers for tests and examples: child processes on loopback, in temporary folders, stopped
//! on drop and when this process ends in another way; and a TCP proxy that disturbs the way to them.
#![allow(dead_code, unused_imports, unreachable_pub, reason = "each includer uses a part")]

mod clocks;
mod mariadb;
mod postgres;
mod process;
mod proxy;
mod redis;
mod sentinel;
mod tls;
mod watchdog;
mod zookeeper;

pub use self::clocks::Clocks;
pub use self::mariadb::MariaDb;
pub use self::postgres::Postgres;
pub use self::process::{Signal, free_port, is_dead, poll, signal};
pub use self::proxy::Proxy;
pub use self::redis::{Redis, RedisCluster, ask_redis};
pub use self::sentinel::RedisSentinel;
pub use self::tls::{Certificates, RedisClusterTls, RedisSentinelTls, RedisTls};
pub use self::watchdog::Watchdog;
pub use self::zookeeper::{Zookeeper, ZookeeperEnsemble};
