//! Every way to a connection.

use std::sync::Arc;

use ::redis::Client;

use super::{
    cluster::Cluster,
    connection::Connection,
    fault::{CREDENTIALS, within},
    link::{Dial, Link},
    options::{Options, prepared},
    sentinel::Sentinels,
    server::Server,
};
use crate::{Fault, FaultKind};

impl Connection {
    /// For what a URL does not say: credentials that change, an authority of your own.
    pub fn options() -> Options {
        Options::default()
    }

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
    /// does not answer within a second, [`FaultKind::Refused`] when it refuses the password. Later a password that is
    /// refused is [`FaultKind::Busy`]: a server that restarts may get its users after a moment.
    pub async fn open(url: &str) -> Result<Self, Fault> {
        Self::options().open(url).await
    }

    /// As [`open`](Self::open), but connects with the first command: for services that must start while
    /// Redis is down.
    ///
    /// # Errors
    ///
    /// [`FaultKind::Config`] for a URL that cannot be used.
    pub fn open_lazy(url: &str) -> Result<Self, Fault> {
        Self::options().open_lazy(url)
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
    pub fn from_client(client: Client) -> Result<Self, Fault> {
        let client = prepared(client.get_connection_info().clone())?;
        let server = Server::new(client, Options::default());
        Ok(Self::single(Arc::new(Link::new(server))))
    }

    /// Connects to a Redis Cluster through any of its nodes.
    ///
    /// # Cancel safety, errors
    ///
    /// As [`open`](Self::open).
    pub async fn open_cluster<U: AsRef<str>>(
        urls: impl IntoIterator<Item = U>,
    ) -> Result<Self, Fault> {
        Self::options().open_cluster(urls).await
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
        Self::options().open_sentinel(urls, master).await
    }
}

impl Options {
    /// As [`Connection::open`].
    ///
    /// # Errors
    ///
    /// As there, and [`FaultKind::Config`] for certificates that cannot be used.
    pub async fn open(self, url: &str) -> Result<Connection, Fault> {
        let link = Arc::new(Link::new(Server::new(self.client(url)?, self)));
        connected(&link).await?;
        Ok(Connection::single(link))
    }

    /// As [`Connection::open_lazy`].
    ///
    /// # Errors
    ///
    /// [`FaultKind::Config`] for a URL or certificates that cannot be used.
    pub fn open_lazy(self, url: &str) -> Result<Connection, Fault> {
        let server = Server::new(self.client(url)?, self);
        Ok(Connection::single(Arc::new(Link::new(server))))
    }

    /// As [`Connection::open_cluster`].
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub async fn open_cluster<U: AsRef<str>>(
        self,
        urls: impl IntoIterator<Item = U>,
    ) -> Result<Connection, Fault> {
        let link = Arc::new(Link::new(Cluster::new(self.clients(urls)?, self)));
        connected(&link).await?;
        Ok(Connection::cluster(link))
    }

    /// As [`Connection::open_sentinel`].
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub async fn open_sentinel<U: AsRef<str>>(
        self,
        urls: impl IntoIterator<Item = U>,
        master: &str,
    ) -> Result<Connection, Fault> {
        let link = Arc::new(Link::new(Sentinels::new(self.clients(urls)?, master, self)?));
        connected(&link).await?;
        Ok(Connection::sentinel(link))
    }

    fn clients<U: AsRef<str>>(
        &self,
        urls: impl IntoIterator<Item = U>,
    ) -> Result<Vec<Client>, Fault> {
        urls.into_iter().map(|url| self.client(url.as_ref())).collect()
    }
}

/// A password that is refused may be accepted a little later; at the start it is likely to be wrong.
async fn connected<D: Dial>(link: &Arc<Link<D>>) -> Result<(), Fault> {
    match within(D::LIMIT, link.get()).await {
        Ok(_) => Ok(()),
        Err(fault) if fault.kind() == FaultKind::Busy => {
            Err(Fault::saying(FaultKind::Refused, CREDENTIALS))
        }
        Err(fault) => Err(fault),
    }
}
