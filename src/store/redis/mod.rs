use std::{marker::PhantomData, sync::Arc, time::Duration};

use super::{Begin, Look, Store};
use crate::{
    Clock, Entry, Version,
    codec::Codec,
    far::{Commit, Error, Grant, Put, Record, Renewal, Token},
    redis::{Connection, Namespace},
};

pub(crate) mod header;
pub(crate) mod records;
mod server_clock;

use self::{
    header::malformed,
    records::{BY_LOCK, Opened, Records},
};

/// How long Redis remembers a load that was neither written nor ended: its process is dead.
const FORGOTTEN: Duration = Duration::from_secs(600);

/// A store on Redis 6.2 or later, single server, Sentinel group or Cluster, with values encoded by `C`.
///
/// Keys are `cgs:{namespace:name}`; use [`far::Redis`](crate::far::Redis) where Redis grants the leases
/// as well, which takes fewer commands. A load that takes longer than ten minutes is not stored. Clones
/// share the connection.
pub struct Redis<V, C> {
    records: Arc<Records<C>>,
    value: PhantomData<fn() -> V>,
}

impl<V, C: Codec<V>> Redis<V, C> {
    /// A store over this connection, in the empty namespace.
    pub fn new(connection: Connection, codec: C) -> Self {
        Self::with(connection, codec, "")
    }

    /// Keeps the entries apart from those of other kinds of values. Default: the empty one.
    pub fn namespace(self, namespace: &str) -> Self
    where
        C: Clone,
    {
        Self::with(self.records.connection.clone(), self.records.codec().clone(), namespace)
    }

    fn with(connection: Connection, codec: C, namespace: &str) -> Self {
        let keys = Namespace::new("cgs", namespace);
        let records = Records::new(connection, codec, keys, String::new(), &BY_LOCK);
        Self { records: Arc::new(records), value: PhantomData }
    }
}

impl<V, C> Clone for Redis<V, C> {
    fn clone(&self) -> Self {
        Self { records: self.records.clone(), value: PhantomData }
    }
}

impl<V: Send + Sync + 'static, C: Codec<V>> Store<V> for Redis<V, C> {
    fn clock(&self) -> &Clock {
        self.records.clock()
    }

    async fn get(&self, name: &str) -> Result<Option<Arc<Entry<V>>>, Error> {
        self.records.get(name).await
    }

    async fn look_up(&self, name: &str, fresh_for: Duration) -> Result<Look<V>, Error> {
        self.records.look_up(name, fresh_for).await
    }

    async fn begin(&self, name: &str, fence: u64, fresh_for: Duration) -> Result<Begin<V>, Error> {
        match self.records.open(name, Token::of_fence(fence), FORGOTTEN, fresh_for).await? {
            Opened::Hit(entry) => Ok(Begin::Hit(entry)),
            Opened::Granted(Grant { minimum, failures, .. }) => {
                Ok(Begin::Begun { minimum, failures })
            }
            Opened::Paused { remaining } => Ok(Begin::Paused { remaining }),
            Opened::Fenced => Ok(Begin::Fenced),
            Opened::Held { .. } => Err(malformed()),
        }
    }

    async fn check(&self, name: &str, fence: u64) -> Result<Renewal, Error> {
        self.records.renew(name, Token::of_fence(fence), FORGOTTEN).await
    }

    async fn commit(&self, name: &str, fence: u64, record: Record<V>) -> Result<Commit<V>, Error> {
        self.records.commit(name, Token::of_fence(fence), record).await
    }

    async fn end(&self, name: &str, fence: u64) -> Result<(), Error> {
        self.records.release(name, Token::of_fence(fence)).await
    }

    async fn fail(&self, name: &str, fence: u64, pause: Duration) -> Result<(), Error> {
        self.records.fail(name, Token::of_fence(fence), pause).await
    }

    async fn put(&self, name: &str, record: Record<V>) -> Result<Put<V>, Error> {
        self.records.put(name, record).await
    }

    async fn invalidate(
        &self,
        name: &str,
        version: Option<Version>,
        retention: Duration,
    ) -> Result<(), Error> {
        self.records.invalidate(name, version, retention, Vec::new()).await?;
        Ok(())
    }

    /// As [`far::Redis`](crate::far::Redis) does.
    async fn replicated(
        &self,
        name: &str,
        replicas: usize,
        timeout: Duration,
    ) -> Result<usize, Error> {
        self.records.replicated(name, replicas, timeout).await
    }
}
