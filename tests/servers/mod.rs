//! Real servers for tests and examples: child processes on loopback, in temporary folders, stopped
//! on drop; and a TCP proxy that disturbs the way to them. A `static` is never dropped, nor is
//! anything when this process is killed or calls `exit`: the servers then stay. Ctrl-C reaches most
//! of them too.
#![allow(dead_code, unused_imports, unreachable_pub, reason = "each includer uses a part")]

mod mariadb;
mod postgres;
mod process;
mod proxy;
mod redis;
mod sentinel;
mod tls;
mod zookeeper;

pub use self::mariadb::MariaDb;
pub use self::postgres::Postgres;
pub use self::process::{Signal, free_port, signal};
pub use self::proxy::Proxy;
pub use self::redis::{Redis, RedisCluster, ask_redis};
pub use self::sentinel::RedisSentinel;
pub use self::tls::{Certificates, RedisTls};
pub use self::zookeeper::{Zookeeper, ZookeeperEnsemble};
