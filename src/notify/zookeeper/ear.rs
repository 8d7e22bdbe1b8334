use std::{
    pin::pin,
    sync::{Arc, Weak},
    time::Duration,
};

use futures::{StreamExt, future, stream};
use tokio::{sync::watch, time::timeout};
use zookeeper_client as zk;

use super::super::{Watchers, message::Message};
use crate::{
    far::{Event, Watcher},
    lock::{Error, ErrorKind, zookeeper::dir::Dir},
    zookeeper::{Session, typed},
};

/// What the listening task holds: not the notifier, whose end is the task's.
pub(super) struct Ear {
    pub(super) session: Session,
    pub(super) dir: Dir,
    watchers: Watchers,
    state: watch::Sender<State>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// The first attempt is under way: worth a short wait.
    Starting,
    Connected,
    Broken,
}

/// Before another watch, about.
const PAUSE: Duration = Duration::from_millis(200);
const READ_AT_ONCE: usize = 64;

impl Ear {
    pub(super) fn new(session: Session, dir: Dir) -> Self {
        let state = watch::Sender::new(State::Starting);
        Self { session, dir, watchers: Watchers::default(), state }
    }

    pub(super) fn watch(&self, watcher: Weak<dyn Watcher>) {
        self.watchers.add(watcher.clone());
        // Added first, so no event falls between; a second `Connected` does no harm. The state is
        // borrowed over the call, so that a `Disconnected` comes after it.
        let state = self.state.borrow();
        if *state == State::Connected
            && let Some(watcher) = watcher.upgrade()
        {
            watcher.on_event(Event::Connected);
        }
    }

    pub(super) fn is_broken(&self) -> bool {
        *self.state.borrow() == State::Broken
    }

    /// Whether messages arrive. Waits for the first connection, once.
    pub(super) async fn ready(&self, patience: Duration) -> bool {
        let mut state = self.state.subscribe();
        let decided = state.wait_for(|state| *state != State::Starting);
        if timeout(patience, decided).await.is_err() {
            self.state.send_if_modified(|state| {
                let starting = *state == State::Starting;
                *state = if starting { State::Broken } else { *state };
                starting
            });
        }
        *self.state.borrow() == State::Connected
    }

    /// Keeps a watch, and after it another. Does not end.
    pub(super) async fn listen(self: Arc<Self>) {
        loop {
            let listening = Listening(&self);
            let ended = self.watch_nodes().await;
            drop(listening);
            if let Err(error) = ended {
                tracing::debug!(%error, "watch ended");
            }
            tokio::time::sleep(PAUSE.mul_f64(0.5 + fastrand::f64())).await;
        }
    }

    /// One watch, from its beginning to its end.
    async fn watch_nodes(&self) -> Result<(), Error> {
        let (link, path) = (self.session.link().await?, self.dir.path());
        let watching = async {
            let watcher = link.client().watch(path, zk::AddWatchMode::PersistentRecursive).await?;
            // With a `sync`: a server that is cut off would watch, and see nothing.
            link.exists(path).await?;
            Ok(watcher)
        };
        let watcher = link.within(link.timeout(), watching).await?;
        let mut states = link.client().state_watcher();
        if states.state() != zk::SessionState::SyncConnected {
            return Err(ErrorKind::Unreachable.into());
        }
        self.state.send_replace(State::Connected);
        self.watchers.tell(Event::Connected);
        tokio::select! {
            heard = self.hear(link.client(), watcher) => heard.map_err(typed),
            // A read could be waiting for the next connection.
            _ = states.changed() => Err(ErrorKind::Unreachable.into()),
        }
    }

    /// Tells what comes, until the connection breaks.
    async fn hear(
        &self,
        client: &zk::Client,
        watcher: zk::PersistentWatcher,
    ) -> Result<(), zk::Error> {
        let events = stream::unfold(watcher, |mut watcher| async {
            let event = watcher.changed().await;
            // After a session's last one the watcher must not be asked again.
            (event.event_type != zk::EventType::Session).then_some((event, watcher))
        });
        let messages = self.dir.child("m-");
        let reads = events.filter_map(|event| {
            let created = event.event_type == zk::EventType::NodeCreated;
            let message = created && event.path.starts_with(&messages);
            future::ready(message.then(|| client.get_data(&event.path)))
        });
        // Asked for ahead, answered in order.
        let mut reads = pin!(reads.buffered(READ_AT_ONCE));
        while let Some(read) = reads.next().await {
            match read {
                Ok((message, _)) => {
                    if let Some((event, _)) = Message::read(&message) {
                        self.watchers.tell(event);
                    }
                }
                Err(zk::Error::NoNode) => {
                    self.watchers.tell(Event::Disconnected);
                    self.watchers.tell(Event::Connected);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// However listening ends, also when the task is dropped with its runtime, nobody goes on believing
/// that messages arrive.
struct Listening<'a>(&'a Ear);

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        if self.0.state.send_replace(State::Broken) == State::Connected {
            self.0.watchers.tell(Event::Disconnected);
        }
    }
}
