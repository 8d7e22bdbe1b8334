use std::{fmt, sync::Arc, time::Duration};

use ::redis::{
    Client, Cmd, FromRedisValue, RedisResult, ScriptInvocation, aio::MultiplexedConnection,
};

#[cfg(feature = "deadpool")]
use super::pool::Pooled;
use super::{
    cluster::Cluster,
    link::Link,
    options::Options,
    route::{Route, Topology},
    sentinel::Sentinels,
    server::Server,
    subscriber::Subscriber,
};
use crate::{Fault, FaultKind};

/// A way to reach Redis. Clones share the connection.
///
/// Commands of all callers travel together over one multiplexed connection, which reconnects by itself.
/// Messages arrive over a second one.
///
/// ```no_run
/// # async fn connect() -> Result<(), cattleguard::Fault> {
/// use cattleguard::redis::Connection;
///
/// let single = Connection::open("redis://127.0.0.1/").await?;
/// let cluster = Connection::open_cluster(["redis://127.0.0.1:7000/", "redis://127.0.0.1:7001/"]).await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Connection {
    route: Route,
    subscriber: Arc<Subscriber>,
    timeout: Duration,
    max_value_bytes: usize,
}

const TIMEOUT: Duration = Duration::from_millis(50);

const MAX_VALUE_BYTES: usize = 1 << 20;

impl Connection {
    /// Uses a pool that the service already has. A pool cannot subscribe: give the server's URL for
    /// messages with [`subscribe_at`](Self::subscribe_at). Without messages waiters poll, and near entries
    /// are kept for a short time only.
    ///
    /// Each command takes a connection of its own, checked by the pool: four to five times fewer hits a
    /// second than over [`open`](Self::open).
    #[cfg(feature = "deadpool")]
    pub fn from_pool(pool: deadpool_redis::Pool) -> Self {
        Self::new(Topology::Pool(Arc::new(Pooled::new(pool))), Vec::new(), Options::default())
    }

    pub(super) fn single(link: Arc<Link<Server>>) -> Self {
        let (client, options) = (link.dialer().client.clone(), link.dialer().options.clone());
        Self::new(Topology::Single(link), vec![client], options)
    }

    pub(super) fn cluster(link: Arc<Link<Cluster>>) -> Self {
        let options = link.dialer().options.clone();
        Self::new(Topology::Cluster(link), Vec::new(), options)
    }

    pub(super) fn sentinel(link: Arc<Link<Sentinels>>) -> Self {
        let options = link.dialer().options.clone();
        Self::new(Topology::Sentinel(link), Vec::new(), options)
    }

    /// The server to subscribe at: the one that takes the commands, not a replica of it. Default: the one
    /// of the URL, any node of a Cluster, the primary of a Sentinel group; none for a pool.
    ///
    /// # Errors
    ///
    /// [`FaultKind::Config`] for a URL that cannot be used.
    pub fn subscribe_at(mut self, url: &str) -> Result<Self, Fault> {
        self.route.subscribe_at = vec![self.route.options.client(url)?];
        self.subscriber = Arc::new(Subscriber::new(self.route.clone()));
        Ok(self)
    }

    /// How long Redis may be silent while a command waits for its answer: the far timeout. Default 50 ms; lengthen
    /// it where the network alone needs more. It counts from the moment at which there is room for the command on
    /// the connection. While Redis answers others it does not count, up to ten times the timeout. A command that
    /// was given up may have been carried out.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The longest encoded value that is stored, in bytes; a longer one is [`FaultKind::Refused`]. Default 1 MiB:
    /// all commands of a process share a connection, and a hit waits there behind a long value. Raise it if
    /// longer values are rare, and a wait of some milliseconds for each MiB does no harm.
    pub fn max_value_bytes(mut self, bytes: usize) -> Self {
        self.max_value_bytes = bytes;
        self
    }

    fn new(topology: Topology, subscribe_at: Vec<Client>, options: Options) -> Self {
        let route = Route::new(topology, subscribe_at, options);
        let subscriber = Arc::new(Subscriber::new(route.clone()));
        Self { route, subscriber, timeout: TIMEOUT, max_value_bytes: MAX_VALUE_BYTES }
    }

    pub(crate) fn far_timeout(&self) -> Duration {
        self.timeout
    }

    /// Whether an encoded value of so many bytes may be sent.
    pub(crate) fn check_value_bytes(&self, bytes: usize) -> Result<(), Fault> {
        let text = "a value is longer than Connection::max_value_bytes: raise that, or store less";
        if bytes > self.max_value_bytes {
            return Err(Fault::saying(FaultKind::Refused, text));
        }
        Ok(())
    }

    pub(crate) fn is_cluster(&self) -> bool {
        self.route.is_cluster()
    }

    /// What all that use this connection hear messages through.
    pub(super) fn subscriber(&self) -> &Arc<Subscriber> {
        &self.subscriber
    }

    /// A connection of its own to the server that takes the commands.
    pub(super) async fn own(&self) -> RedisResult<MultiplexedConnection> {
        self.route.own().await
    }

    pub(crate) async fn query<T: FromRedisValue + Send>(&self, command: &Cmd) -> Result<T, Fault> {
        self.route.send(command, self.timeout).await
    }

    pub(crate) async fn run<T: FromRedisValue + Send>(
        &self,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, Fault> {
        self.route.send(script, self.timeout).await
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let topology = match self.route.topology {
            Topology::Single(..) => "single",
            Topology::Cluster(_) => "cluster",
            Topology::Sentinel(_) => "sentinel",
            #[cfg(feature = "deadpool")]
            Topology::Pool(_) => "pool",
        };
        f.debug_struct("Connection")
            .field("topology", &topology)
            .field("timeout", &self.timeout)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_is_too_long_is_refused() {
        let connection = Connection::open_lazy("redis://127.0.0.1/").expect("a URL");
        assert!(connection.check_value_bytes(MAX_VALUE_BYTES).is_ok());
        let refused = connection.check_value_bytes(MAX_VALUE_BYTES + 1).expect_err("too long");
        assert_eq!(refused.kind(), FaultKind::Refused);
        assert!(refused.to_string().contains("max_value_bytes"), "{refused}");
        assert!(connection.max_value_bytes(2 << 20).check_value_bytes(1 << 21).is_ok());
    }
}
