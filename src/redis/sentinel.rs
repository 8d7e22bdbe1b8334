use std::{sync::Arc, time::Duration};

use ::redis::{
    Client, Cmd, ConnectionAddr, ErrorKind, Pipeline, RedisError, RedisFuture, RedisResult,
    TlsMode, Value,
    aio::{ConnectionLike, MultiplexedConnection},
    sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType},
};

use super::{
    gate::Gate,
    link::Dial,
    options::{CONNECT_TIMEOUT, Options, tcp_settings},
};
use crate::{Fault, FaultKind};

/// The primary that the Sentinels name. They are asked again at each attempt to connect.
pub(super) struct Sentinels {
    clients: Vec<Client>,
    master: String,
    pub(super) options: Options,
    pub(super) gate: Gate,
}

#[derive(Clone)]
pub(super) struct Primary {
    connection: MultiplexedConnection,
    /// Its address, for a connection of another kind to the same server.
    pub(super) client: Arc<Client>,
}

impl Sentinels {
    /// Their user, password and TLS are those of the first.
    pub(super) fn new(clients: Vec<Client>, master: &str, options: Options) -> Result<Self, Fault> {
        if clients.is_empty() {
            return Err(Fault::saying(FaultKind::Config, "no Sentinel is given"));
        }
        Ok(Self { clients, master: master.into(), options, gate: Gate::default() })
    }

    /// The primary's address now, for a connection of another kind.
    pub(super) async fn client(&self) -> RedisResult<Client> {
        tokio::time::timeout(Self::LIMIT, self.primary()).await.unwrap_or_else(|_| Err(none()))
    }

    async fn primary(&self) -> RedisResult<Client> {
        self.ask().await?.async_get_client().await
    }

    async fn ask(&self) -> RedisResult<SentinelClient> {
        let infos = self.clients.iter().map(Client::get_connection_info);
        let addresses = infos.map(|info| info.addr().clone());
        let kind = SentinelServerType::Master;
        let mut asking = SentinelClientBuilder::new(addresses, &self.master, kind)?
            .set_client_to_sentinel_tcp_settings(tcp_settings())
            .set_client_to_redis_tcp_settings(tcp_settings());
        let Some(first) = self.clients.first().map(Client::get_connection_info) else {
            return Err(none());
        };
        if let Some(user) = first.redis_settings().username() {
            asking = asking.set_client_to_sentinel_username(user);
        }
        if let Some(password) = first.redis_settings().password() {
            asking = asking.set_client_to_sentinel_password(password);
        }
        if let ConnectionAddr::TcpTls { insecure, .. } = first.addr() {
            let mode = if *insecure { TlsMode::Insecure } else { TlsMode::Secure };
            asking = asking.set_client_to_redis_tls_mode(mode);
        }
        self.options.of_primary(asking).await?.build()
    }
}

impl Dial for Sentinels {
    type Connection = Primary;

    const LIMIT: Duration = CONNECT_TIMEOUT.saturating_mul(2);

    async fn dial(&self, _: bool) -> RedisResult<Primary> {
        let client = self.primary().await?;
        Ok(Primary { connection: self.options.dial(&client).await?, client: Arc::new(client) })
    }
}

impl ConnectionLike for Primary {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        self.connection.req_packed_command(command)
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        commands: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        self.connection.req_packed_commands(commands, offset, count)
    }

    fn get_db(&self) -> i64 {
        self.connection.get_db()
    }
}

fn none() -> RedisError {
    (ErrorKind::Io, "the Sentinels did not name a primary that answers").into()
}
