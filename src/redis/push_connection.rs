//! A connection that messages arrive over: to one server with `SUBSCRIBE`, or to a node of a Cluster with `SSUBSCRIBE`.

use std::time::Duration;

use ::redis::{
    AsyncConnectionConfig, Client, Msg, Pipeline, PushInfo, PushKind, RedisError, RedisResult,
    Value,
    aio::{MultiplexedConnection, PubSub, PubSubSink, PubSubStream},
};
use futures::{FutureExt, StreamExt, future::OptionFuture};
use tokio::{sync::mpsc, time::MissedTickBehavior};

use super::{
    channel::Scope,
    fault::{to_fault, within},
    options::CONNECT_TIMEOUT,
    route::Route,
};
use crate::{Fault, FaultKind};

/// After two of these without a message the server is asked for a sign of life, after four it is taken for dead: within
/// a second, with what a busy machine needs, a process notices that its messages no longer arrive, whatever became of the
/// connection.
const TICK: Duration = Duration::from_millis(200);

pub(super) struct PushConnection {
    pub(super) sink: Sink,
    pushes: Pushes,
}

/// The half that asks.
#[derive(Clone)]
pub(super) enum Sink {
    Server(PubSubSink),
    Node(MultiplexedConnection),
}

/// The half that hears.
enum Pushes {
    Server(PubSubStream),
    Node(mpsc::UnboundedReceiver<PushInfo>),
}

impl PushConnection {
    pub(super) fn to_server(subscription: PubSub) -> Self {
        let (sink, messages) = subscription.split();
        Self { sink: Sink::Server(sink), pushes: Pushes::Server(messages) }
    }

    pub(super) async fn to_node(route: &Route, client: &Client) -> Result<Self, Fault> {
        let (sender, pushes) = mpsc::unbounded_channel();
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(None)
            .set_push_sender(sender);
        let connection = within(CONNECT_TIMEOUT, route.subscription_at(client, config)).await?;
        Ok(Self { sink: Sink::Node(connection), pushes: Pushes::Node(pushes) })
    }

    /// Hands on messages until the connection ends, or one of the channels that are wanted, and notices when a silent
    /// connection has died.
    pub(super) async fn read(
        self,
        handle: impl Fn(&Msg),
        is_wanted: impl Fn(&str) -> bool,
    ) -> Result<(), Fault> {
        let Self { sink, mut pushes } = self;
        let mut ticks = tokio::time::interval(TICK);
        // A machine that stood still has not been silent for all that time.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut silent, mut pong) = (0, None);
        loop {
            tokio::select! {
                next = pushes.next(&is_wanted) => match next {
                    Some(message) => {
                        silent = 0;
                        handle(&message);
                    }
                    None => return Ok(()),
                },
                answer = OptionFuture::from(pong.as_mut()), if pong.is_some() => {
                    answer.unwrap_or(Ok(())).map_err(to_fault)?;
                    (silent, pong) = (0, None);
                }
                _ = ticks.tick() => {
                    silent += 1;
                    match silent {
                        2 if pong.is_none() => pong = Some(sink.clone().ping().boxed()),
                        4.. => return Err(FaultKind::Timeout.into()),
                        _ => {}
                    }
                }
            }
        }
    }
}

impl Pushes {
    /// Nothing more comes after `None`.
    async fn next(&mut self, is_wanted: &impl Fn(&str) -> bool) -> Option<Msg> {
        match self {
            Self::Server(messages) => messages.next().await,
            Self::Node(pushes) => loop {
                let push = pushes.recv().await?;
                match push.kind {
                    PushKind::Disconnection => return None,
                    // A node that hands over a slot ends what is subscribed there.
                    PushKind::SUnsubscribe if channel(&push).is_some_and(is_wanted) => return None,
                    _ => {}
                }
                if let Some(message) = Msg::from_push_info(push) {
                    return Some(message);
                }
            },
        }
    }
}

fn channel(push: &PushInfo) -> Option<&str> {
    match push.data.first()? {
        Value::BulkString(bytes) => str::from_utf8(bytes).ok(),
        _ => None,
    }
}

impl Sink {
    async fn ping(mut self) -> RedisResult<()> {
        match self {
            Self::Server(ref mut sink) => sink.ping::<()>().await,
            Self::Node(ref mut connection) => ::redis::cmd("PING").query_async(connection).await,
        }
    }

    /// Whether the node has the slot of a key, as a primary: otherwise it says where that is.
    pub(super) async fn has(&mut self, key: &str) -> Result<(), Fault> {
        match self {
            Self::Server(_) => Ok(()),
            Self::Node(connection) => {
                within(CONNECT_TIMEOUT, ::redis::cmd("GET").arg(key).query_async(connection)).await
            }
        }
    }

    pub(super) async fn subscribe(&mut self, channels: &[String]) -> Result<(), Fault> {
        match self {
            _ if channels.is_empty() => Ok(()),
            Self::Server(sink) => within(CONNECT_TIMEOUT, sink.subscribe(channels)).await,
            Self::Node(connection) => each(connection, ["SUBSCRIBE", "SSUBSCRIBE"], channels).await,
        }
    }

    pub(super) async fn unsubscribe(&mut self, channels: &[String]) -> Result<(), Fault> {
        match self {
            _ if channels.is_empty() => Ok(()),
            Self::Server(sink) => within(CONNECT_TIMEOUT, sink.unsubscribe(channels)).await,
            Self::Node(connection) => {
                each(connection, ["UNSUBSCRIBE", "SUNSUBSCRIBE"], channels).await
            }
        }
    }
}

/// A command for each: it has one confirmation, as the client expects.
async fn each(
    connection: &mut MultiplexedConnection,
    [plain, sharded]: [&str; 2],
    channels: &[String],
) -> Result<(), Fault> {
    let mut pipeline = Pipeline::new();
    for channel in channels {
        let (scope, _) = Scope::of(channel);
        let command = if scope == Scope::Global { plain } else { sharded };
        pipeline.cmd(command).arg(channel).ignore();
    }
    within(CONNECT_TIMEOUT, async { pipeline.query_async(connection).await.map_err(first) }).await
}

/// Of a pipeline's errors the first says what is wrong.
fn first(error: RedisError) -> RedisError {
    let all = error.clone().into_server_errors();
    let first = all.as_deref().and_then(<[_]>::first).map(|(_, answer)| answer.clone());
    first.map_or(error, RedisError::from)
}
