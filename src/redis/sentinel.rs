use std::{sync::Arc, time::Duration};

use ::redis::{
    AsyncConnectionConfig, Client, ErrorKind, RedisError, RedisResult, ServerErrorKind,
    aio::MultiplexedConnection, sentinel::SentinelClient,
};
use parking_lot::Mutex;
use tokio::time::Instant;

/// The primary that Sentinels name, asked anew when it fails.
pub(super) struct Sentinels {
    client: tokio::sync::Mutex<SentinelClient>,
    primary: Mutex<Option<Primary>>,
    connect_timeout: Duration,
}

struct Primary {
    connection: MultiplexedConnection,
    since: Instant,
}

/// A server that does not answer may be slow, frozen or replaced. It is doubted no more often than this,
/// or a slow one would be connected to with every command.
const DOUBT_AFTER: Duration = Duration::from_secs(1);

impl Sentinels {
    pub(super) fn new(client: SentinelClient, connect_timeout: Duration) -> Self {
        let (client, primary) = (tokio::sync::Mutex::new(client), Mutex::new(None));
        Self { client, primary, connect_timeout }
    }

    pub(super) async fn connection(self: &Arc<Self>) -> RedisResult<MultiplexedConnection> {
        if let Some(primary) = self.current() {
            return Ok(primary);
        }
        // On a task: asking may take longer than the command's timeout, and the next command needs
        // the answer as well.
        let this = self.clone();
        let connecting = tokio::spawn(async move { this.connect().await });
        connecting.await.unwrap_or_else(|_| Err(closed()))
    }

    /// The primary's address now, for a connection of another kind.
    pub(super) async fn client(&self) -> RedisResult<Client> {
        let mut client = self.client.lock().await;
        let asking = tokio::time::timeout(self.connect_timeout, client.async_get_client());
        asking.await.unwrap_or_else(|_| Err(closed()))
    }

    /// Lets the next command ask the Sentinels if this failure may mean a new primary.
    pub(super) fn note_error(&self, error: &RedisError) {
        let replaced = error.is_io_error()
            || error.is_connection_dropped()
            || error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly);
        if replaced {
            *self.primary.lock() = None;
        }
    }

    pub(super) fn note_timeout(&self) {
        let mut primary = self.primary.lock();
        if primary.as_ref().is_some_and(|primary| primary.since.elapsed() > DOUBT_AFTER) {
            *primary = None;
        }
    }

    fn current(&self) -> Option<MultiplexedConnection> {
        self.primary.lock().as_ref().map(|primary| primary.connection.clone())
    }

    async fn connect(&self) -> RedisResult<MultiplexedConnection> {
        let mut client = self.client.lock().await;
        if let Some(primary) = self.current() {
            return Ok(primary);
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.connect_timeout))
            .set_response_timeout(None);
        let connecting = client.get_async_connection_with_config(&config);
        let connected = tokio::time::timeout(self.connect_timeout * 2, connecting).await;
        let connection = connected.unwrap_or_else(|_| Err(closed()))?;
        let since = Instant::now();
        *self.primary.lock() = Some(Primary { connection: connection.clone(), since });
        Ok(connection)
    }
}

fn closed() -> RedisError {
    (ErrorKind::Io, "the Sentinels did not name a primary that answers").into()
}
