use std::{sync::Arc, time::Duration};

use ::redis::{
    AsyncConnectionConfig, Client, ErrorKind, RedisError, RedisResult, aio::MultiplexedConnection,
    sentinel::SentinelClient,
};
use tokio::{sync::watch, time::Instant};

use super::fault::says;

/// The primary that the Sentinels name. They are asked again when it fails.
pub(super) struct Sentinels {
    client: tokio::sync::Mutex<SentinelClient>,
    state: watch::Sender<State>,
    connect_timeout: Duration,
}

/// At most one attempt to connect at a time, shared by all commands that need it.
#[derive(Default)]
struct State {
    primary: Option<Primary>,
    connecting: bool,
    attempts: u64,
}

#[derive(Clone)]
pub(super) struct Primary {
    pub(super) connection: MultiplexedConnection,
    /// Its address, for a connection of another kind to the same server.
    pub(super) client: Arc<Client>,
    attempt: u64,
    since: Instant,
}

/// A server that does not answer may be slow, frozen or replaced. The Sentinels are asked no more often than
/// this: otherwise each command would connect again to a slow server.
const DOUBT_AFTER: Duration = Duration::from_secs(1);

impl Sentinels {
    pub(super) fn new(client: SentinelClient, connect_timeout: Duration) -> Self {
        let (client, state) = (tokio::sync::Mutex::new(client), watch::Sender::default());
        Self { client, state, connect_timeout }
    }

    pub(super) async fn primary(self: &Arc<Self>) -> RedisResult<Primary> {
        let mut state = self.state.subscribe();
        let attempts = {
            let known = state.borrow_and_update();
            if let Some(primary) = &known.primary {
                return Ok(primary.clone());
            }
            known.attempts
        };
        self.connect();
        match state.wait_for(|state| state.primary.is_some() || state.attempts > attempts).await {
            Ok(state) => state.primary.clone().ok_or_else(none),
            Err(_) => Err(none()),
        }
    }

    /// The primary's address now, for a connection of another kind.
    pub(super) async fn client(&self) -> RedisResult<Client> {
        let asking = async { self.client.lock().await.async_get_client().await };
        tokio::time::timeout(self.connect_timeout, asking).await.unwrap_or_else(|_| Err(none()))
    }

    /// Lets the next command ask the Sentinels if this failure may mean a new primary.
    pub(super) fn note_error(&self, of: &Primary, error: &RedisError) {
        let replaced =
            error.is_io_error() || error.is_connection_dropped() || says(error, &["READONLY"]);
        if replaced {
            self.forget(|primary| primary.attempt == of.attempt);
        }
    }

    pub(super) fn note_timeout(&self) {
        self.forget(|primary| primary.since.elapsed() > DOUBT_AFTER);
    }

    fn forget(&self, failed: impl Fn(&Primary) -> bool) {
        self.state
            .send_if_modified(|state| state.primary.take_if(|primary| failed(primary)).is_some());
    }

    /// On a task: it may take longer than a command's timeout, and the next command needs the result, too.
    fn connect(self: &Arc<Self>) {
        let first =
            self.state.send_if_modified(|state| !std::mem::replace(&mut state.connecting, true));
        if first {
            let this = self.clone();
            tokio::spawn(async move {
                // Also when this panics or its runtime ends.
                let ended = Attempt(&this);
                let connecting = tokio::time::timeout(this.connect_timeout * 2, this.ask());
                let connected = connecting.await.ok().and_then(Result::ok);
                ended.with(connected);
            });
        }
    }

    async fn ask(&self) -> RedisResult<(MultiplexedConnection, Client)> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.connect_timeout))
            .set_response_timeout(None);
        let client = self.client.lock().await.async_get_client().await?;
        Ok((client.get_multiplexed_async_connection_with_config(&config).await?, client))
    }
}

struct Attempt<'a>(&'a Sentinels);

impl Attempt<'_> {
    fn with(self, connected: Option<(MultiplexedConnection, Client)>) {
        self.0.state.send_modify(|state| {
            let (attempt, since) = (state.attempts, Instant::now());
            state.primary = connected.map(|(connection, client)| Primary {
                connection,
                client: Arc::new(client),
                attempt,
                since,
            });
        });
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        self.0.state.send_modify(|state| {
            state.connecting = false;
            state.attempts += 1;
        });
    }
}

fn none() -> RedisError {
    (ErrorKind::Io, "the Sentinels did not name a primary that answers").into()
}
