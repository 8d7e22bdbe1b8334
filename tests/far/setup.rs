//! The servers that the tests share, and connections to them.

use std::{
    any::Any,
    sync::{Arc, LazyLock},
    time::Duration,
};

use cattleguard::{codec::Json, redis::Connection, redis::RedisFar};
use futures::{FutureExt, future::LocalBoxFuture};
use libtest_mimic::Trial;
use parking_lot::Mutex;

use crate::{servers, tls};

/// The far tier that most tests are about.
pub type Tier = RedisFar<String, Json>;

/// Two cores, many servers: the defaults are for production machines.
pub const TIMEOUT: Duration = Duration::from_secs(5);

/// Servers start with the first test that needs them and stop with this value.
#[derive(Default)]
pub struct Servers {
    started: Mutex<Vec<Box<dyn Any + Send>>>,
    cluster: Mutex<Option<servers::RedisCluster>>,
    tls: Mutex<Option<servers::RedisTls>>,
}

/// A server that tests can share.
pub trait Server: Send + 'static {
    fn start() -> Self;
    fn address(&self) -> String;
}

macro_rules! server {
    ($server:ty, $address:ident) => {
        impl Server for $server {
            fn start() -> Self {
                Self::start().expect("a server")
            }

            fn address(&self) -> String {
                self.$address()
            }
        }
    };
}
server!(servers::Redis, url);
server!(servers::Postgres, url);
server!(servers::Zookeeper, address);

impl Servers {
    /// The address of the one that all tests share.
    pub fn one<S: Server>(&self) -> String {
        let mut started = self.started.lock();
        let found = started.iter().find_map(|server| server.downcast_ref::<S>());
        if let Some(server) = found {
            return server.address();
        }
        let server = S::start();
        let address = server.address();
        started.push(Box::new(server));
        address
    }

    pub fn redis(&self) -> String {
        self.one::<servers::Redis>()
    }

    /// Over TLS. As from another process.
    pub fn tls(&self) -> Connection {
        let mut tls = self.tls.lock();
        tls::connect(tls.get_or_insert_with(|| servers::RedisTls::start().expect("a Redis")))
    }

    pub fn cluster(&self) -> Vec<String> {
        let mut cluster = self.cluster.lock();
        cluster.get_or_insert_with(|| servers::RedisCluster::start().expect("a cluster")).urls()
    }
}

/// A connection of its own, as another process would have it.
pub async fn open(url: &str) -> Connection {
    Connection::open(url).await.expect("a connection").timeout(TIMEOUT)
}

/// Over a pool, with messages.
pub fn pooled(url: &str) -> Connection {
    let connection = Connection::from_pool(pool(url)).subscribe_at(url).expect("a URL");
    connection.timeout(TIMEOUT)
}

/// Over a pool that cannot subscribe.
pub fn without_messages(url: &str) -> Connection {
    Connection::from_pool(pool(url)).timeout(TIMEOUT)
}

fn pool(url: &str) -> deadpool_redis::Pool {
    let config = deadpool_redis::Config::from_url(url);
    config.create_pool(Some(deadpool_redis::Runtime::Tokio1)).expect("a pool")
}

static RUNTIME: LazyLock<tokio::runtime::Runtime> =
    LazyLock::new(|| tokio::runtime::Runtime::new().expect("a runtime"));

/// A test of this name, that may share servers with others.
pub fn trial<T: Future<Output = ()> + 'static>(
    name: &str,
    servers: &Arc<Servers>,
    test: impl FnOnce(Arc<Servers>) -> T + Send + 'static,
) -> Trial {
    let servers = servers.clone();
    Trial::test(name, move || {
        let test: LocalBoxFuture<'static, ()> = async move { test(servers).await }.boxed_local();
        RUNTIME.block_on(test);
        Ok(())
    })
}

/// Trials named after their module and function, each of which is given the servers.
macro_rules! trials {
    ($servers:expr, $prefix:literal; $($test:path),* $(,)?) => {
        vec![$($crate::setup::trial(
            &format!("{}::{}", $prefix, stringify!($test).rsplit("::").next().unwrap_or_default().trim()),
            $servers,
            $test,
        )),*]
    };
}
pub(crate) use trials;
