use std::{fmt, sync::Arc, time::Duration};

use ::redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionInfo, FromRedisValue, IntoConnectionInfo,
    RedisError, RedisResult, ScriptInvocation,
    aio::{
        ConnectionLike, ConnectionManager, ConnectionManagerConfig, MultiplexedConnection, PubSub,
    },
    cluster::ClusterClientBuilder,
    cluster_async::ClusterConnection,
    io::tcp::TcpSettings,
    sentinel::{SentinelClient, SentinelNodeConnectionInfo, SentinelServerType},
};

use super::{
    fault::{to_fault, within},
    sentinel::Sentinels,
    tls,
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
    /// Where to subscribe: one server, or any node of a cluster. Empty: no messages, polling only.
    subscribe_at: Vec<Client>,
    timeout: Duration,
}

#[derive(Clone)]
enum Topology {
    Single(ConnectionManager, Client),
    Cluster(ClusterConnection),
    Sentinel(Arc<Sentinels>),
    #[cfg(feature = "deadpool")]
    Pool(deadpool_redis::Pool),
}

const TIMEOUT: Duration = Duration::from_millis(50);
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

impl Connection {
    /// Connects to a single server by its URL, `redis://[user:password@]host[:port][/db]`, or
    /// `rediss://…` over TLS (features `redis-rustls`, `redis-native-tls`).
    ///
    /// # Cancel safety
    ///
    /// A dropped call leaves nothing behind.
    ///
    /// # Errors
    ///
    /// [`FaultKind::Config`] for a URL that cannot be used, [`FaultKind::Unreachable`] when the server
    /// does not answer within a second.
    pub async fn open(url: &str) -> Result<Self, Fault> {
        let (client, config) = (client(url)?, manager_config());
        let connecting = ConnectionManager::new_with_config(client.clone(), config);
        let manager = within(CONNECT_TIMEOUT * 2, connecting).await?;
        Ok(Self::new(Topology::Single(manager, client.clone()), vec![client]))
    }

    /// As [`open`](Self::open), but connects with the first command: for services that must start while
    /// Redis is down.
    ///
    /// # Errors
    ///
    /// [`FaultKind::Config`] for a URL that cannot be used.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn open_lazy(url: &str) -> Result<Self, Fault> {
        Self::from_client(client(url)?)
    }

    /// Uses a client that the service has made: with a CA and a certificate of its own, a user and a password
    /// from elsewhere. Connects with the first command.
    ///
    /// ```no_run
    /// # #[cfg(feature = "redis-rustls")]
    /// # fn connect(ca: Vec<u8>) -> Result<(), Box<dyn std::error::Error>> {
    /// use cattleguard::redis::Connection;
    /// use redis::{Client, TlsCertificates};
    ///
    /// let tls = TlsCertificates { client_tls: None, root_cert: Some(ca) };
    /// let redis = Connection::from_client(Client::build_with_tls("rediss://redis.internal/", tls)?)?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`FaultKind::Config`] for a client that cannot be used.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn from_client(client: Client) -> Result<Self, Fault> {
        let client = with_settings(client.get_connection_info().clone())?;
        let manager = ConnectionManager::new_lazy_with_config(client.clone(), manager_config())
            .map_err(to_fault)?;
        Ok(Self::new(Topology::Single(manager, client.clone()), vec![client]))
    }

    /// Connects to a Redis Cluster through any of its nodes.
    ///
    /// # Cancel safety, errors
    ///
    /// As [`open`](Self::open).
    pub async fn open_cluster<U: AsRef<str>>(
        urls: impl IntoIterator<Item = U>,
    ) -> Result<Self, Fault> {
        let clients =
            urls.into_iter().map(|url| client(url.as_ref())).collect::<Result<Vec<_>, _>>()?;
        let infos = clients.iter().map(|client| client.get_connection_info().clone());
        let cluster = ClusterClientBuilder::new(infos)
            .connection_timeout(CONNECT_TIMEOUT)
            .response_timeout(CONNECT_TIMEOUT)
            .retries(2)
            .build()
            .map_err(to_fault)?;
        let connection = within(CONNECT_TIMEOUT * 2, cluster.get_async_connection()).await?;
        Ok(Self::new(Topology::Cluster(connection), clients))
    }

    /// Connects to the primary of the group `master` that these Sentinels name, and to the next one after
    /// a failover.
    ///
    /// # Cancel safety, errors
    ///
    /// As [`open`](Self::open).
    pub async fn open_sentinel<U: AsRef<str>>(
        urls: impl IntoIterator<Item = U>,
        master: &str,
    ) -> Result<Self, Fault> {
        let clients =
            urls.into_iter().map(|url| client(url.as_ref())).collect::<Result<Vec<_>, _>>()?;
        let infos = clients.iter().map(|client| client.get_connection_info().clone()).collect();
        let node = SentinelNodeConnectionInfo::default().set_tcp_settings(tcp_settings());
        let kind = SentinelServerType::Master;
        let client = SentinelClient::build(infos, master.to_owned(), Some(node), kind);
        let sentinels = Arc::new(Sentinels::new(client.map_err(to_fault)?, CONNECT_TIMEOUT));
        within(CONNECT_TIMEOUT * 2, sentinels.primary()).await?;
        Ok(Self::new(Topology::Sentinel(sentinels), Vec::new()))
    }

    /// Uses a pool that the service already has. A pool cannot subscribe: give the server's URL for
    /// messages with [`subscribe_at`](Self::subscribe_at). Without messages waiters poll, and near entries
    /// are kept for a short time only.
    ///
    /// Each command takes a connection of its own, checked by the pool: four to five times fewer hits a
    /// second than over [`open`](Self::open).
    #[cfg(feature = "deadpool")]
    pub fn from_pool(pool: deadpool_redis::Pool) -> Self {
        Self::new(Topology::Pool(pool), Vec::new())
    }

    /// The server to subscribe at: the one that takes the commands, not a replica of it. Default: the one
    /// of the URL; none for a pool.
    ///
    /// # Errors
    ///
    /// [`FaultKind::Config`] for a URL that cannot be used.
    pub fn subscribe_at(mut self, url: &str) -> Result<Self, Fault> {
        self.subscribe_at = vec![client(url)?];
        Ok(self)
    }

    /// How long one command may take: the far timeout. Default 50 ms; lengthen it where the network alone
    /// needs more. A command that took longer may have been carried out.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    fn new(topology: Topology, subscribe_at: Vec<Client>) -> Self {
        Self { topology, subscribe_at, timeout: TIMEOUT }
    }

    pub(crate) fn far_timeout(&self) -> Duration {
        self.timeout
    }

    /// Whether this is a cluster, where a publisher does not learn how many subscribers there are.
    pub(crate) fn is_cluster(&self) -> bool {
        matches!(self.topology, Topology::Cluster(_))
    }

    pub(crate) fn can_subscribe(&self) -> bool {
        !self.subscribe_at.is_empty() || matches!(self.topology, Topology::Sentinel(_))
    }

    /// A connection for a subscription. Every node of a cluster delivers every message; each attempt tries
    /// another one.
    pub(super) async fn subscription(&self, attempt: usize) -> Result<PubSub, Fault> {
        let client = match (&self.topology, &self.subscribe_at[..]) {
            (Topology::Sentinel(sentinels), []) => sentinels.client().await.map_err(to_fault)?,
            (_, []) => return Err(FaultKind::Config.into()),
            (_, clients) => clients[attempt % clients.len()].clone(),
        };
        within(CONNECT_TIMEOUT, client.get_async_pubsub()).await
    }

    /// A connection of its own to the server that takes the commands.
    pub(super) async fn own(&self) -> RedisResult<MultiplexedConnection> {
        let client = match &self.topology {
            Topology::Single(_, client) => client.clone(),
            Topology::Sentinel(sentinels) => sentinels.primary().await?.client.as_ref().clone(),
            // Many servers, and none of them is the one.
            Topology::Cluster(_) => {
                return Err((::redis::ErrorKind::InvalidClientConfig, "a cluster").into());
            }
            #[cfg(feature = "deadpool")]
            Topology::Pool(pool) => {
                return Ok(deadpool_redis::Connection::take(checked_out(pool).await?));
            }
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(None);
        client.get_multiplexed_async_connection_with_config(&config).await
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

    async fn send<T: FromRedisValue + Send>(&self, sent: &impl Sent) -> Result<T, Fault> {
        let sending = async {
            match &self.topology {
                Topology::Single(manager, _) => sent.over(&mut manager.clone()).await,
                Topology::Cluster(cluster) => sent.over(&mut cluster.clone()).await,
                Topology::Sentinel(sentinels) => {
                    Box::pin(async {
                        let mut primary = sentinels.primary().await?;
                        let answer = sent.over(&mut primary.connection).await;
                        answer.inspect_err(|error| sentinels.note_error(&primary, error))
                    })
                    .await
                }
                #[cfg(feature = "deadpool")]
                Topology::Pool(pool) => {
                    Box::pin(async { sent.over(&mut checked_out(pool).await?).await }).await
                }
            }
        };
        let answer = within(self.timeout, sending).await;
        if let (Err(fault), Topology::Sentinel(sentinels)) = (&answer, &self.topology)
            && fault.kind() == FaultKind::Timeout
        {
            sentinels.note_timeout();
        }
        answer
    }
}

/// What can be sent over a connection. A trait, so that the future of a plain command does not have the size of a
/// script's.
trait Sent: Sync {
    fn over<T: FromRedisValue + Send>(
        &self,
        connection: &mut (impl ConnectionLike + Send),
    ) -> impl Future<Output = Result<T, RedisError>> + Send;
}

impl Sent for Cmd {
    async fn over<T: FromRedisValue + Send>(
        &self,
        connection: &mut (impl ConnectionLike + Send),
    ) -> Result<T, RedisError> {
        self.query_async(connection).await
    }
}

impl Sent for ScriptInvocation<'_> {
    async fn over<T: FromRedisValue + Send>(
        &self,
        connection: &mut (impl ConnectionLike + Send),
    ) -> Result<T, RedisError> {
        self.invoke_async(connection).await
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

fn client(url: &str) -> Result<Client, Fault> {
    let info = url.into_connection_info();
    with_settings(info.map_err(|error| Fault::new(FaultKind::Config, error))?)
}

fn with_settings(info: ConnectionInfo) -> Result<Client, Fault> {
    tls::prepare(&info)?;
    let info = info.set_tcp_settings(tcp_settings());
    Client::open(info).map_err(|error| Fault::new(FaultKind::Config, error))
}

fn tcp_settings() -> TcpSettings {
    let tcp = TcpSettings::default().set_nodelay(true);
    // A connection to a host that vanished without closing it would otherwise stay for a quarter of an hour.
    #[cfg(target_os = "linux")]
    let tcp = tcp.set_user_timeout(CONNECT_TIMEOUT);
    tcp
}

/// One quick attempt per failure: the defaults hold every command for 9.45 s when the server is gone.
/// The far timeout bounds each command, so the connection needs no response timeout.
fn manager_config() -> ConnectionManagerConfig {
    ConnectionManagerConfig::new()
        .set_number_of_retries(1)
        .set_min_delay(Duration::from_millis(10))
        .set_max_delay(Duration::from_millis(100))
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(None)
}

#[cfg(feature = "deadpool")]
async fn checked_out(
    pool: &deadpool_redis::Pool,
) -> Result<deadpool_redis::Connection, RedisError> {
    pool.get().await.map_err(|error| match error {
        deadpool_redis::PoolError::Backend(error) => error,
        other => (::redis::ErrorKind::Io, "no connection from the pool", other.to_string()).into(),
    })
}
