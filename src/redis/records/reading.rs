//! Reads, without a script: plain `GET` and `MGET`.

use std::{sync::Arc, time::Duration};

use ::redis::{Cmd, Value};
use bytes::Bytes;
use futures::future::join_all;

use super::{
    header,
    reply::{bulk, malformed},
    store::Records,
};
use crate::{Entry, Fault, FaultKind, codec::Codec};

/// How many names one command asks for: a longer answer would hold up the commands behind it.
const AT_ONCE: usize = 512;

type Found<V> = Option<Arc<Entry<V>>>;

/// What a load would meet.
pub(crate) enum LookUp<V> {
    /// There is an entry that is fresh for long enough.
    Hit(Arc<Entry<V>>),
    /// The last load failed, and none begins until the back-off is over.
    BackOff {
        remaining: Duration,
    },
    Miss,
}

impl<C> Records<C> {
    pub(crate) async fn get<V>(&self, name: &str) -> Result<Found<V>, Fault>
    where
        C: Codec<V>,
    {
        self.know_server(name).await?;
        let key = self.keys.key(name);
        let mut get = Cmd::with_capacity(2, 3 + key.len());
        get.arg("GET").arg(&key);
        let bytes = match self.connection.query::<Option<Vec<u8>>>(&get).await {
            Ok(bytes) => bytes.map(Bytes::from),
            // Perhaps a key of another type, which is no entry: MGET says nil where GET refuses.
            Err(fault) if fault.kind() == FaultKind::Refused => self.get_any(&key).await?,
            Err(fault) => return Err(fault),
        };
        Ok(bytes.and_then(|bytes| self.entry(bytes)).map(Arc::new))
    }

    async fn get_any(&self, key: &str) -> Result<Option<Bytes>, Fault> {
        let mut get = Cmd::new();
        get.arg("MGET").arg(key);
        let found: Vec<Value> = self.connection.query(&get).await?;
        Ok(found.into_iter().next().and_then(bulk))
    }

    /// One command for [`AT_ONCE`] names; in a cluster, where each is in a slot of its own, one for each.
    pub(crate) async fn get_many<V>(&self, names: &[&str]) -> Vec<Result<Found<V>, Fault>>
    where
        V: Send + Sync,
        C: Codec<V>,
    {
        if self.connection.is_cluster() {
            return join_all(names.iter().map(|name| self.get(name))).await;
        }
        let chunks = join_all(names.chunks(AT_ONCE).map(|names| self.get_chunk(names))).await;
        let answers =
            chunks.into_iter().zip(names.chunks(AT_ONCE)).map(|(found, names)| match found {
                Ok(found) => found.into_iter().map(Ok).collect::<Vec<_>>(),
                Err(fault) => names.iter().map(|_| Err(fault.clone())).collect(),
            });
        answers.flatten().collect()
    }

    async fn get_chunk<V>(&self, names: &[&str]) -> Result<Vec<Found<V>>, Fault>
    where
        C: Codec<V>,
    {
        self.know_server(names.first().copied().unwrap_or_default()).await?;
        let mut get = Cmd::new();
        get.arg("MGET");
        for name in names {
            get.arg(self.keys.key(name));
        }
        let found: Vec<Value> = self.connection.query(&get).await?;
        if found.len() != names.len() {
            return Err(malformed());
        }
        let entries = found.into_iter().map(|value| self.entry(bulk(value)?).map(Arc::new));
        Ok(entries.collect())
    }

    /// What a load would meet that began now.
    pub(crate) async fn look_up<V>(
        &self,
        name: &str,
        fresh_for: Duration,
    ) -> Result<LookUp<V>, Fault>
    where
        C: Codec<V>,
    {
        self.know_server(name).await?;
        let mut get = Cmd::new();
        get.arg("MGET").arg(self.keys.key(name)).arg(self.lease_key(name));
        let (entry, lease): (Value, Value) = self.connection.query(&get).await?;
        let now = self.clock.own().now();
        if let Some(entry) = bulk(entry).and_then(|bytes| self.entry(bytes))
            && entry.is_fresh_at(now.after(fresh_for))
        {
            return Ok(LookUp::Hit(Arc::new(entry)));
        }
        let back_off = bulk(lease).and_then(|lease| header::back_off(&lease));
        match back_off.map(|(length, until)| self.clock.moment_of(until, length).since(now)) {
            Some(remaining) if remaining > Duration::ZERO => Ok(LookUp::BackOff { remaining }),
            _ => Ok(LookUp::Miss),
        }
    }
}
