use std::{fmt, time::Duration};

#[cfg(feature = "redis-rustls")]
use ::redis::TlsCertificates;
use ::redis::{
    AsyncConnectionConfig, Client, ConnectionInfo, IntoConnectionInfo, ProtocolVersion,
    RedisResult,
    aio::{MultiplexedConnection, PubSub},
    auth::StreamingCredentialsProvider,
    cluster::ClusterClientBuilder,
    io::tcp::TcpSettings,
    sentinel::SentinelClientBuilder,
};

use super::{
    credentials::{Credentials, Password},
    tls,
};
use crate::{Fault, FaultKind};

pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How to connect where a URL does not say it all: credentials that change, an authority of your own. Made by
/// [`Connection::options`](crate::redis::Connection::options).
///
/// ```no_run
/// # #[cfg(feature = "redis-rustls")]
/// # async fn connect(ca: Vec<u8>, tokens: impl redis::auth::StreamingCredentialsProvider + 'static)
/// # -> Result<(), cattleguard::Fault> {
/// use cattleguard::redis::Connection;
/// use redis::TlsCertificates;
///
/// let tls = TlsCertificates { client_tls: None, root_cert: Some(ca) };
/// let options = Connection::options().certificates(tls).credentials(tokens);
/// let redis = options.open_cluster(["rediss://redis.internal:6379/"]).await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Default)]
pub struct Options {
    credentials: Option<Credentials>,
    #[cfg(feature = "redis-rustls")]
    certificates: Option<TlsCertificates>,
}

impl Options {
    /// The user and the password for the servers, in place of those in URLs. For a Sentinel group: for its primary, as the URLs
    /// have those for the Sentinels. A server that has only a password knows the user `default`. Default: those in the URL.
    pub fn password(self, user: &str, password: &str) -> Self {
        self.credentials(Password { user: user.into(), password: password.into() })
    }

    /// As [`password`](Self::password), for credentials that change: tokens of a cloud's identity service. Each new
    /// connection takes the latest. One that stands authenticates again when there are new ones; a subscription connects again if
    /// its server ends it, for less than a second without messages.
    pub fn credentials(mut self, provider: impl StreamingCredentialsProvider + 'static) -> Self {
        self.credentials = Some(Credentials::of(provider));
        self
    }

    /// The authority to trust for `rediss://` URLs, and a certificate for servers that ask for one. Default: Mozilla's
    /// roots, and none.
    #[cfg(feature = "redis-rustls")]
    pub fn certificates(mut self, certificates: TlsCertificates) -> Self {
        self.certificates = Some(certificates);
        self
    }

    /// A client of this URL, with our settings.
    pub(super) fn client(&self, url: &str) -> Result<Client, Fault> {
        let config = |error| Fault::new(FaultKind::Config, error);
        let info = url.into_connection_info().map_err(config)?;
        tls::prepare(&info)?;
        #[cfg(feature = "redis-rustls")]
        if let Some(certificates) = &self.certificates {
            let client = Client::build_with_tls(info, certificates.clone()).map_err(config)?;
            return prepared(client.get_connection_info().clone());
        }
        prepared(info)
    }

    /// The far timeout bounds each command, so the connection needs no response timeout.
    pub(super) async fn dial(&self, client: &Client) -> RedisResult<MultiplexedConnection> {
        let mut config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(None);
        if let Some(credentials) = &self.credentials {
            config = config.set_credentials_provider(credentials.clone());
        }
        client.get_multiplexed_async_connection_with_config(&config).await
    }

    /// A connection that pushes messages, as `config` says where to.
    pub(super) async fn dial_for_pushes(
        &self,
        client: &Client,
        config: AsyncConnectionConfig,
    ) -> RedisResult<MultiplexedConnection> {
        let client = match &self.credentials {
            Some(credentials) => credentials.put_into(client).await?,
            None => client.clone(),
        };
        let info = client.get_connection_info().clone();
        let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let client = Client::open(info.set_redis_settings(settings))?;
        client.get_multiplexed_async_connection_with_config(&config).await
    }

    /// A connection for messages.
    pub(super) async fn subscribe(&self, client: &Client) -> RedisResult<PubSub> {
        match &self.credentials {
            Some(credentials) => credentials.put_into(client).await?.get_async_pubsub().await,
            None => client.get_async_pubsub().await,
        }
    }

    pub(super) fn of_cluster(&self, mut cluster: ClusterClientBuilder) -> ClusterClientBuilder {
        if let Some(credentials) = &self.credentials {
            cluster = cluster.set_credentials_provider(credentials.clone());
        }
        #[cfg(feature = "redis-rustls")]
        if let Some(certificates) = &self.certificates {
            cluster = cluster.certs(certificates.clone());
        }
        cluster
    }

    /// The Sentinels' addresses have their certificates already.
    pub(super) async fn of_primary(
        &self,
        mut sentinels: SentinelClientBuilder,
    ) -> RedisResult<SentinelClientBuilder> {
        if let Some(credentials) = &self.credentials {
            let now = credentials.now().await?;
            sentinels = sentinels
                .set_client_to_redis_username(now.username())
                .set_client_to_redis_password(now.password());
        }
        #[cfg(feature = "redis-rustls")]
        if let Some(certificates) = &self.certificates {
            sentinels = sentinels.set_client_to_redis_certificates(certificates.clone());
        }
        Ok(sentinels)
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").finish_non_exhaustive()
    }
}

/// With our settings, and with TLS if its address needs that.
pub(super) fn prepared(info: ConnectionInfo) -> Result<Client, Fault> {
    tls::prepare(&info)?;
    let info = info.set_tcp_settings(tcp_settings());
    Client::open(info).map_err(|error| Fault::new(FaultKind::Config, error))
}

pub(super) fn tcp_settings() -> TcpSettings {
    let tcp = TcpSettings::default().set_nodelay(true);
    // A connection to a host that vanished without closing it would otherwise stay for a quarter of an hour.
    #[cfg(target_os = "linux")]
    let tcp = tcp.set_user_timeout(CONNECT_TIMEOUT);
    tcp
}
