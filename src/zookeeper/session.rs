use std::{fmt, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{sync::watch, time::Instant};
use zookeeper_client as zk;

use super::{fault::to_fault, link::Link};
use crate::{Fault, FaultKind};

/// A way to reach ZooKeeper 3.5 or later. Clones share the session.
///
/// All callers share one connection to one server of the ensemble; when it breaks, the client connects to
/// another server. When the session has expired, the next request begins a new one. The session is closed
/// with the last clone, lease and lock that uses it.
///
/// At the level `debug` the client, `zookeeper_client`, logs the paths of nodes, and with them names.
///
/// ```no_run
/// # async fn connect() -> Result<(), cattleguard::Fault> {
/// use std::time::Duration;
/// use cattleguard::zookeeper::Session;
///
/// let session = Session::open("10.0.0.1:2181,10.0.0.2:2181,10.0.0.3:2181").await?;
/// let short = Session::open_lazy("127.0.0.1:2181")?.session_timeout(Duration::from_secs(2));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Session {
    inner: Arc<Inner>,
}

struct Inner {
    addresses: String,
    connector: zk::Connector,
    timeout: Duration,
    /// The attempt under way, or the last one. All callers wait for it together, and it continues when they
    /// are cancelled: otherwise callers with short timeouts would never complete a slow connection.
    opening: Mutex<Option<Opening>>,
}

type Opening = watch::Receiver<Option<Result<Arc<Link>, zk::Error>>>;

/// The shortest that a server with its own default `tickTime` of 2 s grants.
const SESSION_TIMEOUT: Duration = Duration::from_secs(4);

impl Session {
    /// Connects to an ensemble by its addresses, `host:port,host:port`, with `/path` at the end for a
    /// root other than `/`.
    ///
    /// # Cancel safety
    ///
    /// A dropped call leaves nothing behind.
    ///
    /// # Errors
    ///
    /// [`FaultKind::Config`] for addresses that cannot be used; [`FaultKind::Unreachable`] or
    /// [`FaultKind::Timeout`] when no server begins a session within twice the session timeout.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub async fn open(addresses: &str) -> Result<Self, Fault> {
        let session = Self::open_lazy(addresses)?;
        session.link().await?;
        Ok(session)
    }

    /// As [`open`](Self::open), but connects with the first request: for services that must start
    /// while ZooKeeper is down.
    ///
    /// # Errors
    ///
    /// [`FaultKind::Config`] for addresses that are empty.
    pub fn open_lazy(addresses: &str) -> Result<Self, Fault> {
        Self::from_connector(addresses, zk::Client::connector())
    }

    /// As [`open_lazy`](Self::open_lazy), with your own connector: for an ensemble that requires credentials or
    /// TLS. The session timeout is set [here](Self::session_timeout), not there.
    ///
    /// # Errors
    ///
    /// As for [`open_lazy`](Self::open_lazy).
    pub fn from_connector(addresses: &str, connector: zk::Connector) -> Result<Self, Fault> {
        if addresses.is_empty() {
            return Err(FaultKind::Config.into());
        }
        Ok(Self::new(addresses.into(), connector, SESSION_TIMEOUT))
    }

    /// How long the ensemble keeps the session of a silent process, with all its locks; and how
    /// long one call may take. Default 4 s. The servers limit it to 2 to 20 of their `tickTime`. Shorten it, and the servers' `tickTime`, for locks that are free soon after a crash;
    /// lengthen it where pauses of the process or of the network end leases too often.
    ///
    /// The first request begins a session apart from that of earlier clones.
    pub fn session_timeout(self, timeout: Duration) -> Self {
        Self::new(self.inner.addresses.clone(), self.inner.connector.clone(), timeout)
    }

    fn new(addresses: String, connector: zk::Connector, timeout: Duration) -> Self {
        // Eagerly: if no server listens, the call fails at once and not after the timeout.
        let connector = connector.with_session_timeout(timeout).with_fail_eagerly();
        Self { inner: Arc::new(Inner { addresses, connector, timeout, opening: Mutex::default() }) }
    }

    /// How long one call may take.
    pub(super) fn timeout(&self) -> Duration {
        self.inner.timeout
    }

    /// Whether there is a session, and a connection right now.
    pub(super) fn is_connected(&self) -> bool {
        let opening = self.inner.opening.lock();
        let opened = opening.as_ref().map(|opening| opening.borrow());
        opened.is_some_and(|opened| matches!(&*opened, Some(Ok(link)) if link.is_connected()))
    }

    /// The session, which is begun if there is none.
    pub(super) async fn link(&self) -> Result<Arc<Link>, Fault> {
        let mut opening = self.opening();
        match opening.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(Ok(link))) => Ok(link.clone()),
            Ok(Some(Err(error))) => Err(to_fault(error.clone())),
            // The runtime of the attempt has ended; the next call tries again.
            Ok(None) | Err(_) => Err(FaultKind::Unreachable.into()),
        }
    }

    fn opening(&self) -> Opening {
        let mut slot = self.inner.opening.lock();
        if let Some(opening) = slot.as_ref().filter(|opening| is_of_use(opening)) {
            return opening.clone();
        }
        let (opened, opening) = watch::channel(None);
        let inner = self.inner.clone();
        tokio::spawn(async move { opened.send_replace(Some(inner.connect().await)) });
        *slot = Some(opening.clone());
        opening
    }
}

fn is_of_use(opening: &Opening) -> bool {
    match &*opening.borrow() {
        Some(Ok(link)) => !link.is_over(),
        Some(Err(_)) => false,
        None => opening.has_changed().is_ok(),
    }
}

impl Inner {
    async fn connect(&self) -> Result<Arc<Link>, zk::Error> {
        let asked = Instant::now();
        let connecting = self.connector.clone().connect(&self.addresses);
        match tokio::time::timeout(2 * self.timeout, connecting).await {
            Ok(client) => Ok(Link::new(client?, asked)),
            Err(_) => Err(zk::Error::Timeout),
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("connected", &self.is_connected())
            .field("timeout", &self.inner.timeout)
            .finish()
    }
}
