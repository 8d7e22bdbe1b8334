//! One server at one address.

use std::time::Duration;

use ::redis::{
    AsyncConnectionConfig, Client, ConnectionInfo, IntoConnectionInfo, RedisResult,
    aio::MultiplexedConnection, io::tcp::TcpSettings,
};

use super::{gate::Gate, link::Dial, tls};
use crate::{Fault, FaultKind};

pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// One server by its address, which may stand for another server after a failover.
pub(super) struct Server {
    pub(super) client: Client,
    pub(super) gate: Gate,
}

impl Dial for Server {
    type Connection = MultiplexedConnection;

    const LIMIT: Duration = CONNECT_TIMEOUT.saturating_mul(2);

    async fn dial(&self, _: bool) -> RedisResult<MultiplexedConnection> {
        dial(&self.client).await
    }
}

/// The far timeout bounds each command, so the connection needs no response timeout.
pub(super) async fn dial(client: &Client) -> RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(None);
    client.get_multiplexed_async_connection_with_config(&config).await
}

pub(super) fn client(url: &str) -> Result<Client, Fault> {
    let info = url.into_connection_info();
    prepared(info.map_err(|error| Fault::new(FaultKind::Config, error))?)
}

/// A client with our settings, and with TLS if its address needs that.
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
