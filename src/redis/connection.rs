use std::{fmt, sync::Arc, time::Duration};

use ::redis::{
    Client, Cmd, FromRedisValue, RedisError, RedisResult, ScriptInvocation,
    aio::{MultiplexedConnection, PubSub},
};
use tokio::sync::watch;

#[cfg(feature = "deadpool")]
use super::pool::Pooled;
use super::{
    cluster::{self, Cluster},
    command::Command,
    fault::{is_demotion, to_fault, within},
    link::{Link, typed},
    options::{CONNECT_TIMEOUT, Options},
    sentinel::Sentinels,
    server::Server,
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
    topology: Topology,
    /// Where to subscribe. Empty for a Cluster and a Sentinel group, which know, and for a pool, which does not.
    subscribe_at: Vec<Client>,
    options: Options,
    timeout: Duration,
    max_value_bytes: usize,
    /// How often a command found its server to be a replica.
    demotions: Arc<watch::Sender<u64>>,
}

#[derive(Clone)]
enum Topology {
    Single(Arc<Link<Server>>),
    Cluster(Arc<Link<Cluster>>),
    Sentinel(Arc<Link<Sentinels>>),
    #[cfg(feature = "deadpool")]
    Pool(Arc<Pooled>),
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
        self.subscribe_at = vec![self.options.client(url)?];
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
        Self {
            topology,
            subscribe_at,
            options,
            timeout: TIMEOUT,
            max_value_bytes: MAX_VALUE_BYTES,
            demotions: Arc::default(),
        }
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

    /// Whether this is a cluster, where a publisher does not learn how many subscribers there are.
    pub(crate) fn is_cluster(&self) -> bool {
        matches!(self.topology, Topology::Cluster(_))
    }

    pub(crate) fn can_subscribe(&self) -> bool {
        let finds_servers = matches!(self.topology, Topology::Sentinel(_) | Topology::Cluster(_));
        !self.subscribe_at.is_empty() || finds_servers
    }

    /// A connection for a subscription. Every node of a cluster delivers every message; each attempt tries
    /// another one.
    pub(super) async fn subscription(&self, attempt: usize) -> Result<PubSub, Fault> {
        let client = match (&self.topology, &self.subscribe_at[..]) {
            (Topology::Sentinel(link), []) => link.dialer().client().await.map_err(to_fault)?,
            (Topology::Cluster(link), []) => {
                // The nodes of the moment; without an answer those that are known.
                let _ = link.dialer().learn().await;
                let clients = link.dialer().clients();
                clients[attempt % clients.len()].clone()
            }
            (_, []) => return Err(FaultKind::Config.into()),
            (_, clients) => clients[attempt % clients.len()].clone(),
        };
        within(CONNECT_TIMEOUT, self.options.subscribe(&client)).await
    }

    /// Resolves when a command finds that its server has become a replica: who subscribes there is not among the
    /// receivers that the new primary counts.
    pub(super) fn demoted(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut demotions = self.demotions.subscribe();
        async move {
            let _ = demotions.changed().await;
        }
    }

    /// A connection of its own to the server that takes the commands.
    pub(super) async fn own(&self) -> RedisResult<MultiplexedConnection> {
        match &self.topology {
            Topology::Single(link) => self.options.dial(&link.dialer().client).await,
            Topology::Sentinel(link) => {
                self.options.dial(&link.get().await?.connection.client).await
            }
            // Many servers, and none of them is the one.
            Topology::Cluster(_) => {
                Err((::redis::ErrorKind::InvalidClientConfig, "a cluster").into())
            }
            #[cfg(feature = "deadpool")]
            Topology::Pool(pool) => pool.own().await,
        }
    }

    pub(crate) async fn query<T: FromRedisValue + Send>(&self, command: &Cmd) -> Result<T, Fault> {
        self.send(command).await
    }

    pub(crate) async fn run<T: FromRedisValue + Send>(
        &self,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, Fault> {
        self.send(script).await
    }

    async fn send<T: FromRedisValue + Send>(&self, command: &impl Command) -> Result<T, Fault> {
        let answer = match &self.topology {
            Topology::Single(link) => link.send(&link.dialer().gate, command, self.timeout).await,
            // Boxed, so that the future of the most frequent kind stays small.
            Topology::Sentinel(link) => {
                Box::pin(link.send(&link.dialer().gate, command, self.timeout)).await
            }
            Topology::Cluster(link) => Box::pin(cluster::send(link, command, self.timeout)).await,
            #[cfg(feature = "deadpool")]
            Topology::Pool(pool) => Box::pin(pool.send(command, self.timeout)).await,
        };
        if let Ok(Err(error)) = &answer {
            self.note(error);
        }
        typed(answer)
    }

    fn note(&self, error: &RedisError) {
        if is_demotion(error) {
            self.demotions.send_modify(|count| *count += 1);
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let topology = match self.topology {
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
