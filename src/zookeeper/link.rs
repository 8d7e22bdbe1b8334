//! One session with the ensemble, from its beginning to its end, and whether it can be believed.
//!
//! The leader ends a session that it has not heard of for the session timeout T; whoever waits for one
//! of its nodes is let in then. So we must doubt the session before, by our own clock:
//!
//! - Every T/6 we ask for a `sync`. Unlike a ping or a read, which a server that is cut off from its
//!   leader goes on answering, it is answered by way of the leader, and only for a session that lives.
//!   The moment *before* we asked is when we were last heard.
//! - The session is in doubt 2/3 T after that, connected or not. The last third is for what the leader
//!   knows late: servers tell it of their clients every half `tickTime`, and T can be as short as two.
//!
//! The client's own word, "disconnected", comes at 0.4 T after the last byte from the server, be it
//! the answer to something old; it is of no use here. Its pings stay away while we ask more often.
//!
//! A session in doubt can come back. The leases that were lost meanwhile stay lost; new ones may be had.

use std::{
    future::Future,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{runtime::Handle, sync::watch, time::Instant};
use zookeeper_client as zk;

use super::fault::typed;
use crate::{Fault, FaultKind, lock::Validity};

pub(super) struct Link {
    client: zk::Client,
    pulse: watch::Sender<Pulse>,
    /// Where the client lives: for what is to be done in a `drop`, perhaps outside of any runtime.
    runtime: Handle,
}

#[derive(Clone, Copy)]
enum Pulse {
    /// The ensemble heard us then, or later.
    Heard(Instant),
    /// Expired or closed: the session's nodes are gone, or will be.
    Over,
}

impl Link {
    pub(super) fn new(client: zk::Client, asked: Instant) -> Arc<Self> {
        let states = client.state_watcher();
        let (pulse, runtime) = (watch::Sender::new(Pulse::Heard(asked)), Handle::current());
        let link = Arc::new(Self { client, pulse, runtime });
        // Weakly, so that the session is closed with whoever uses it.
        tokio::spawn(beat(Arc::downgrade(&link), states, link.timeout() / 6));
        link
    }

    pub(super) fn client(&self) -> &zk::Client {
        &self.client
    }

    pub(super) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// The session timeout that the server agreed to.
    pub(super) fn timeout(&self) -> Duration {
        self.client.session_timeout()
    }

    pub(super) fn is_connected(&self) -> bool {
        self.client.state() == zk::SessionState::SyncConnected
    }

    /// Whether the session has expired or was closed, with all its nodes.
    pub(super) fn is_over(&self) -> bool {
        self.client.state().is_terminated()
    }

    /// Tells a lease for how long the session can be believed, again and again. Ends with the session.
    pub(super) fn vouch(
        &self,
        belief: Validity,
    ) -> impl Future<Output = ()> + Send + 'static + use<> {
        let mut pulses = self.pulse.subscribe();
        let patience = self.timeout() * 2 / 3;
        // Once here: the first bound must be there before somebody believes the lease.
        let mut pulse = *pulses.borrow_and_update();
        if let Pulse::Heard(at) = pulse {
            belief.bound(at + patience);
        }
        async move {
            while let Pulse::Heard(at) = pulse {
                belief.bound(at + patience);
                if pulses.changed().await.is_err() {
                    return;
                }
                pulse = *pulses.borrow_and_update();
            }
        }
    }

    /// The children of a node, as they are now or later: without the `sync` a server may answer from
    /// what it knew some time ago.
    pub(super) async fn children(&self, path: &str) -> Result<Vec<String>, zk::Error> {
        self.again(|| async {
            // Requests are sent as they are made: both travel together.
            let (synced, children) = (self.sync(), self.client.list_children(path));
            synced.await?;
            children.await
        })
        .await
    }

    /// Whether a node is there, as for [`children`](Self::children).
    pub(super) async fn exists(&self, path: &str) -> Result<bool, zk::Error> {
        self.again(|| async {
            let (synced, stat) = (self.sync(), self.client.check_stat(path));
            synced.await?;
            Ok(stat.await?.is_some())
        })
        .await
    }

    /// Deletes a node. That there is none is fine.
    pub(super) async fn delete(&self, path: &str) -> Result<(), zk::Error> {
        match self.again(|| self.client.delete(path, None)).await {
            Err(zk::Error::NoNode) => Ok(()),
            deleted => deleted,
        }
    }

    /// Asks once more whenever the connection breaks, until the session is over: for what may be asked
    /// twice.
    async fn again<T, F: Future<Output = Result<T, zk::Error>>>(
        &self,
        ask: impl Fn() -> F,
    ) -> Result<T, zk::Error> {
        loop {
            match ask().await {
                // The next request waits for the next connection; the pause is for one that breaks at
                // each request.
                Err(zk::Error::ConnectionLoss) => tokio::time::sleep(self.timeout() / 100).await,
                answer => return answer,
            }
        }
    }

    /// Runs `work` for as long as `limit` at most.
    pub(super) async fn within<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = Result<T, zk::Error>>,
    ) -> Result<T, Fault> {
        match tokio::time::timeout(limit, work).await {
            Ok(done) => done.map_err(typed),
            Err(_) if self.is_connected() => Err(FaultKind::Timeout.into()),
            Err(_) => Err(FaultKind::Unreachable.into()),
        }
    }

    fn sync(&self) -> impl Future<Output = Result<(), zk::Error>> + Send + '_ {
        let (asked, synced) = (Instant::now(), self.client.sync("/"));
        async move {
            synced.await?;
            self.pulse.send_if_modified(|pulse| match pulse {
                Pulse::Heard(at) if *at < asked => {
                    *at = asked;
                    true
                }
                _ => false,
            });
            Ok(())
        }
    }
}

/// Asks the ensemble whether it hears us, until the session is over or nobody uses it.
async fn beat(link: Weak<Link>, mut states: zk::StateWatcher, pause: Duration) {
    loop {
        let Some(link) = link.upgrade() else { return };
        if link.is_over() {
            link.pulse.send_replace(Pulse::Over);
            return;
        }
        tokio::select! {
            // While disconnected it waits, and fails when the session is over.
            _ = link.sync() => {}
            _ = states.changed() => continue,
        }
        drop(link);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = states.changed() => {}
        }
    }
}
