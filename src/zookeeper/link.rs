//! One session with the ensemble, from its beginning to its end, and whether it is surely alive.
//!
//! The leader ends a session from which it has heard nothing for the session timeout T, and grants its locks
//! to others. So a session is in doubt here before that, by our own clock:
//!
//! - Every T/6 we ask for a `sync`. A server that is cut off from its leader still answers pings and reads;
//!   a `sync` is answered by way of the leader, and only for a session that is alive. The moment *before*
//!   we asked is when the leader last heard us.
//! - The session is in doubt 2/3 T after that, connected or not. The last third is for the leader's late
//!   knowledge: servers report their clients every half `tickTime`, and T can be as short as two of them.
//!
//! The client reports "disconnected" 0.4 T after the last byte from the server, even if that was the answer
//! to an old request; that is of no use here. It sends no pings while we ask more often.
//!
//! A session in doubt can prove to be alive after all. The leases that were lost meanwhile stay lost; new
//! ones can be granted.

use std::{
    future::Future,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{runtime::Handle, sync::watch, time::Instant};
use zookeeper_client as zk;

use super::fault::to_fault;
use crate::{Fault, FaultKind, lock::Validity};

pub(super) struct Link {
    client: zk::Client,
    heartbeat: watch::Sender<Heartbeat>,
    /// The client's: a `drop` outside of any runtime needs it, too.
    runtime: Handle,
}

#[derive(Clone, Copy)]
enum Heartbeat {
    /// The ensemble heard us then, or later.
    Heard(Instant),
    /// The session has expired or was closed: its nodes are gone, or will be soon.
    Over,
}

impl Link {
    pub(super) fn new(client: zk::Client, asked: Instant) -> Arc<Self> {
        let states = client.state_watcher();
        let (heartbeat, runtime) = (watch::Sender::new(Heartbeat::Heard(asked)), Handle::current());
        let link = Arc::new(Self { client, heartbeat, runtime });
        // Weakly, so that the session is closed with its last user.
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

    /// Bounds a lease's validity by the session, with each heartbeat. Resolves with the end of the session.
    pub(super) fn bound(
        &self,
        validity: Validity,
    ) -> impl Future<Output = ()> + Send + 'static + use<> {
        let mut heartbeats = self.heartbeat.subscribe();
        let alive_for = self.timeout() * 2 / 3;
        // Once here: the lease must be bounded before it is granted.
        let mut heartbeat = *heartbeats.borrow_and_update();
        if let Heartbeat::Heard(at) = heartbeat {
            validity.bound(at + alive_for);
        }
        async move {
            while let Heartbeat::Heard(at) = heartbeat {
                validity.bound(at + alive_for);
                if heartbeats.changed().await.is_err() {
                    return;
                }
                heartbeat = *heartbeats.borrow_and_update();
            }
        }
    }

    /// The children of a node, as they are now or later. Without the `sync` a server may answer with what
    /// it knew some time ago.
    pub(super) async fn children(&self, path: &str) -> Result<Vec<String>, zk::Error> {
        self.retry(|| async {
            // Both requests are sent at once.
            let (synced, children) = (self.sync(), self.client.list_children(path));
            synced.await?;
            children.await
        })
        .await
    }

    /// Whether a node is there, as for [`children`](Self::children).
    pub(super) async fn exists(&self, path: &str) -> Result<bool, zk::Error> {
        self.retry(|| async {
            let (synced, stat) = (self.sync(), self.client.check_stat(path));
            synced.await?;
            Ok(stat.await?.is_some())
        })
        .await
    }

    /// Deletes a node. That there is none is fine.
    pub(super) async fn delete(&self, path: &str) -> Result<(), zk::Error> {
        match self.retry(|| self.client.delete(path, None)).await {
            Err(zk::Error::NoNode) => Ok(()),
            deleted => deleted,
        }
    }

    /// Asks again whenever the connection breaks, until the session is over: for requests that may be
    /// carried out twice.
    async fn retry<T, F: Future<Output = Result<T, zk::Error>>>(
        &self,
        ask: impl Fn() -> F,
    ) -> Result<T, zk::Error> {
        loop {
            match ask().await {
                // The next request waits for a new connection. The pause is for connections that break with
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
            Ok(done) => done.map_err(to_fault),
            Err(_) if self.is_connected() => Err(FaultKind::Timeout.into()),
            Err(_) => Err(FaultKind::Unreachable.into()),
        }
    }

    fn sync(&self) -> impl Future<Output = Result<(), zk::Error>> + Send + '_ {
        let (asked, synced) = (Instant::now(), self.client.sync("/"));
        async move {
            synced.await?;
            self.heartbeat.send_if_modified(|heartbeat| match heartbeat {
                Heartbeat::Heard(at) if *at < asked => {
                    *at = asked;
                    true
                }
                _ => false,
            });
            Ok(())
        }
    }
}

/// Proves the session alive, until it is over or has no user any more.
async fn beat(link: Weak<Link>, mut states: zk::StateWatcher, pause: Duration) {
    loop {
        let Some(link) = link.upgrade() else { return };
        if link.is_over() {
            link.heartbeat.send_replace(Heartbeat::Over);
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
