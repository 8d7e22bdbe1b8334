use std::{sync::Arc, time::Duration};

use ::redis::{
    Client, Cmd, ErrorKind, Pipeline, RedisError, RedisFuture, RedisResult, Value,
    aio::{ConnectionLike, MultiplexedConnection},
    sentinel::SentinelClient,
};

use super::{
    gate::Gate,
    link::Dial,
    server::{CONNECT_TIMEOUT, dial},
};

/// The primary that the Sentinels name. They are asked again at each attempt to connect.
pub(super) struct Sentinels {
    client: tokio::sync::Mutex<SentinelClient>,
    pub(super) gate: Gate,
}

#[derive(Clone)]
pub(super) struct Primary {
    connection: MultiplexedConnection,
    /// Its address, for a connection of another kind to the same server.
    pub(super) client: Arc<Client>,
}

impl Sentinels {
    pub(super) fn new(client: SentinelClient) -> Self {
        Self { client: tokio::sync::Mutex::new(client), gate: Gate::default() }
    }

    /// The primary's address now, for a connection of another kind.
    pub(super) async fn client(&self) -> RedisResult<Client> {
        let asking = async { self.client.lock().await.async_get_client().await };
        tokio::time::timeout(Self::LIMIT, asking).await.unwrap_or_else(|_| Err(none()))
    }
}

impl Dial for Sentinels {
    type Connection = Primary;

    const LIMIT: Duration = CONNECT_TIMEOUT.saturating_mul(2);

    async fn dial(&self, _: bool) -> RedisResult<Primary> {
        let client = self.client.lock().await.async_get_client().await?;
        Ok(Primary { connection: dial(&client).await?, client: Arc::new(client) })
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
