//! Redis' pub/sub as a feed: channels, and a handler for their messages.

use std::{pin::pin, sync::Arc, time::Duration};

use ::redis::{
    Msg,
    aio::{PubSubSink, PubSubStream},
};
use futures::StreamExt;

use super::{connection::Connection, fault::within};
use crate::{Fault, backoff::Backoff, subscription::Feed};

const PING_EVERY: Duration = Duration::from_millis(500);
const PING_TIMEOUT: Duration = Duration::from_millis(500);

/// The longest pause between attempts to subscribe, before it is spread.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Handles what arrives. Called on the task that reads the messages: must be quick and must not block.
pub(super) trait MessageHandler: Send + Sync + 'static {
    fn channels(&self) -> Vec<String>;
    fn on_message(&self, channel: &str, payload: &[u8]);
    fn on_connected(&self) {}
    fn on_disconnected(&self) {}
}

/// The channels of a handler.
pub(super) struct Channels<H> {
    pub(super) connection: Connection,
    pub(super) handler: Arc<H>,
}

impl<H: MessageHandler> Feed for Channels<H> {
    type Connection = (PubSubSink, PubSubStream);

    const BACKOFF: Backoff = Backoff::new(Duration::from_millis(20), LONGEST_PAUSE);

    fn is_possible(&self) -> bool {
        self.connection.can_subscribe()
    }

    async fn connect(&self, attempt: usize) -> Result<Self::Connection, Fault> {
        let (mut sink, messages) = self.connection.subscription(attempt).await?.split();
        within(PING_TIMEOUT, sink.subscribe(&self.handler.channels())).await?;
        Ok((sink, messages))
    }

    async fn deliver(&self, (mut sink, mut messages): Self::Connection) -> Result<(), Fault> {
        let mut demoted = pin!(self.connection.demoted());
        loop {
            let next = tokio::select! {
                next = tokio::time::timeout(PING_EVERY, messages.next()) => next,
                () = &mut demoted => return Ok(()),
            };
            match next {
                Ok(Some(message)) => self.handle(&message),
                Ok(None) => return Ok(()),
                Err(_) => {
                    let ping = self.handle_during(&mut messages, sink.ping::<()>());
                    within(PING_TIMEOUT, ping).await?;
                }
            }
        }
    }

    fn on_connected(&self) {
        self.handler.on_connected();
    }

    fn on_disconnected(&self) {
        self.handler.on_disconnected();
    }
}

impl<H: MessageHandler> Channels<H> {
    /// Waits for `work`, and handles messages meanwhile: a full buffer would hold up the pong.
    async fn handle_during<T>(
        &self,
        messages: &mut PubSubStream,
        work: impl Future<Output = T>,
    ) -> T {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                Some(message) = messages.next() => self.handle(&message),
            }
        }
    }

    fn handle(&self, message: &Msg) {
        self.handler.on_message(message.get_channel_name(), message.get_payload_bytes());
    }
}
