//! Messages as nodes:
//!
//! ```text
//! /cattleguard/events    the base, a container like all above it: gone soon after it is empty
//!   %                    the namespace, a container, too; here the empty one
//!     m-0000000007       a message: numbered in the order of publishing, deleted some seconds later
//! ```
//!
//! - A receiver keeps one watch on all that is below the namespace, whether that is there or not. It is
//!   told of each new node in order, reads what is in it, and tells in that order.
//! - The server forgets what happens while the connection is broken (ZOOKEEPER-4698): each break is the
//!   end of a watch and the beginning of another.
//! - The nodes belong to their publisher's session. So it finds all of them, also those of which it never
//!   had the reply, and deletes them together; at the latest they go with the session.

mod broom;
mod ear;

use std::{
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::task::AbortHandle;
use zookeeper_client as zk;

use self::{broom::Broom, ear::Ear};
use super::{Notifier, Reach, message::Message};
use crate::{
    far::{Error, ErrorKind, Event, Watcher},
    lock::{
        self,
        zookeeper::dir::{Dir, is_path},
    },
    zookeeper::{self, Session},
};

/// Messages over ZooKeeper 3.6 or later, as nodes that all processes watch: wake-ups and near
/// coherence, for a service that has nothing quicker. It is slow: a message is a write that a majority
/// of the ensemble puts on disk, and part of another one when it is deleted; and each process is told
/// of both by its server, and reads the message. Where there is Redis or PostgreSQL, use their messages.
///
/// - Every connected process hears every message once, in the order in which one process published
///   them. Nobody confirms: an invalidation is always [`Unconfirmed`](Reach::Unconfirmed).
/// - A message is there for 5 to 10 s, or until its publisher's session ends. Where it was gone before
///   it was read, [`Event::Disconnected`] is told, and [`Event::Connected`].
/// - A connection that breaks is noticed at once, and a silent one after 0.4 of the session timeout. A
///   server that is cut off from the others is silent, too, unless it is their leader: then messages
///   are late until it notices, after the servers' `syncLimit` (10 s by their defaults).
/// - A call takes 1 s at most, or as long as the session timeout if that is shorter; and 0.1 s while
///   there is no connection. What fails is not sent again, but may have been heard.
///
/// Listening ends with the last clone; the session with the last of all that use it, and with it the
/// nodes. Everybody may read and write them. Clones share the watch.
///
/// ```no_run
/// # async fn users() -> Result<(), Box<dyn std::error::Error>> {
/// use cattleguard::{Guard, far, lock, notify, store, zookeeper::Session};
///
/// let session = Session::open("10.0.0.1:2181,10.0.0.2:2181,10.0.0.3:2181").await?;
/// let notifier = notify::Zookeeper::new(session.clone()).namespace("users")?;
/// let far = far::Paired::new(store::Memory::new(), lock::Zookeeper::new(session), notifier);
/// let users: Guard<u64, String> = Guard::builder().far(far).build();
/// # Ok(()) }
/// ```
///
/// # Cancel safety
///
/// A dropped `publish` may have sent its message; the node is deleted like others. A dropped `ready`
/// does not end the attempt to connect.
#[derive(Clone)]
pub struct Zookeeper {
    inner: Arc<Inner>,
}

struct Inner {
    base: String,
    namespace: String,
    ear: Arc<Ear>,
    listening: OnceLock<AbortHandle>,
    /// Of the session with which the last message was published.
    broom: Mutex<Option<Broom>>,
}

const BASE: &str = "/cattleguard/events";
const CONTAINER: zk::CreateOptions<'_> =
    zk::CreateMode::Container.with_acls(zk::Acls::anyone_all());
const MESSAGE: zk::CreateOptions<'_> =
    zk::CreateMode::EphemeralSequential.with_acls(zk::Acls::anyone_all());
/// A server closes the connection at a request of 1 MiB, and with it all that others wait for.
const LONGEST: usize = 512 * 1024;
const LIMIT: Duration = Duration::from_secs(1);
/// For a connection that is being made, or made again.
const PATIENCE: Duration = Duration::from_millis(100);

impl Zookeeper {
    /// Messages over this session, below `/cattleguard/events`, in the empty namespace.
    pub fn new(session: Session) -> Self {
        Self::within(session, BASE, "").expect("a short path")
    }

    /// Below which node the namespaces are. Default `/cattleguard/events`; set it where the service may
    /// write elsewhere only. Missing nodes are created.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] for what is not an absolute path.
    pub fn base(self, path: &str) -> Result<Self, Error> {
        if !is_path(path) {
            return Err(ErrorKind::Config.into());
        }
        let base = path.trim_end_matches('/');
        Self::within(self.inner.ear.session.clone(), base, &self.inner.namespace)
    }

    /// Keeps the messages apart from those about other kinds of values. Default: the empty one. Its node
    /// is written as in [`lock::Zookeeper`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] for one that is too long, of 64 KiB with the base.
    pub fn namespace(self, namespace: &str) -> Result<Self, Error> {
        Self::within(self.inner.ear.session.clone(), &self.inner.base, namespace)
    }

    fn within(session: Session, base: &str, namespace: &str) -> Result<Self, Error> {
        let dir = Dir::of(base, namespace)?;
        Ok(Self {
            inner: Arc::new(Inner {
                base: base.into(),
                namespace: namespace.into(),
                ear: Arc::new(Ear::new(session, dir)),
                listening: OnceLock::new(),
                broom: Mutex::default(),
            }),
        })
    }
}

impl Notifier for Zookeeper {
    fn watch(&self, watcher: Weak<dyn Watcher>) {
        self.inner.ear.watch(watcher);
    }

    fn start(&self) {
        let ear = &self.inner.ear;
        let listen = || tokio::spawn(ear.clone().listen()).abort_handle();
        self.inner.listening.get_or_init(listen);
    }

    async fn ready(&self) -> bool {
        self.start();
        self.inner.ear.ready(PATIENCE).await
    }

    async fn publish(&self, event: Event<'_>) -> Result<Reach, Error> {
        let Some(message) = Message::of(event, None) else { return Ok(Reach::Unconfirmed) };
        if message.len() > LONGEST {
            return Err(ErrorKind::Refused.into());
        }
        let (ear, session) = (&self.inner.ear, &self.inner.ear.session);
        // Nobody waits long for an ensemble that is not there.
        let limit = if ear.is_broken() { PATIENCE } else { LIMIT.min(session.timeout()) };
        match tokio::time::timeout(limit, self.inner.send(&message)).await {
            Ok(Ok(())) => Ok(Reach::Unconfirmed),
            Ok(Err(error)) => Err(error.into()),
            Err(_) if session.is_connected() => Err(ErrorKind::Timeout.into()),
            Err(_) => Err(ErrorKind::Unreachable.into()),
        }
    }
}

impl Inner {
    async fn send(&self, message: &[u8]) -> Result<(), lock::Error> {
        let (link, dir) = (self.ear.session.link().await?, &self.ear.dir);
        let (client, path) = (link.client(), dir.child("m-"));
        loop {
            let created = client.create(&path, message, &MESSAGE);
            // The request is on its way, and the broom's look comes after it.
            Broom::of(&mut self.broom.lock(), &link, &path).littered();
            match created.await {
                Ok(_) => return Ok(()),
                // The first message, or the server cleared the empty namespace away.
                Err(zk::Error::NoNode) => {
                    client.mkdir(dir.path(), &CONTAINER).await.map_err(zookeeper::typed)?;
                }
                // Not again after a lost reply: nobody is to hear it twice.
                Err(error) => return Err(zookeeper::typed(error)),
            }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(task) = self.listening.get() {
            task.abort();
        }
    }
}
