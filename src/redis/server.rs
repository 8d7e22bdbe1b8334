//! One server at one address.

use std::time::Duration;

use ::redis::{Client, RedisResult, aio::MultiplexedConnection};

use super::{
    gate::Gate,
    link::Dial,
    options::{CONNECT_TIMEOUT, Options},
};

/// One server by its address, which may stand for another server after a failover.
pub(super) struct Server {
    pub(super) client: Client,
    pub(super) options: Options,
    pub(super) gate: Gate,
}

impl Server {
    pub(super) fn new(client: Client, options: Options) -> Self {
        Self { client, options, gate: Gate::default() }
    }
}

impl Dial for Server {
    type Connection = MultiplexedConnection;

    const LIMIT: Duration = CONNECT_TIMEOUT.saturating_mul(2);

    async fn dial(&self, _: bool) -> RedisResult<MultiplexedConnection> {
        self.options.dial(&self.client).await
    }
}
