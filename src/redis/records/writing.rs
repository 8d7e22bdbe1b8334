//! Commits, puts and invalidations.

use std::{sync::Arc, time::Duration};

use ::redis::Value;

use super::{
    header::{self, Kind},
    reply::{bulk, integer, malformed},
    store::Records,
};
use crate::{
    Entry, Fault, FaultKind, Version,
    codec::Codec,
    far::{Commit, Event, Put, Record, Token},
    redis::{channel::Address, message::Message, namespace::millis},
};

enum Written<V> {
    Stored(Arc<Entry<V>>),
    Older(Version),
    Lost,
}

impl<C> Records<C> {
    pub(crate) async fn commit<V>(
        &self,
        name: &str,
        token: Token,
        record: Record<V>,
    ) -> Result<Commit<V>, Fault>
    where
        C: Codec<V>,
    {
        let payload = match self.encoded(&record.entry) {
            Ok(payload) => payload,
            Err(fault) => {
                // Nothing was sent: the lease would last for its ttl.
                self.release(name, token).await?;
                return Err(fault);
            }
        };
        match self.write(name, token.as_bytes(), record, payload).await? {
            Written::Stored(entry) => Ok(Commit::Stored(entry)),
            Written::Older(minimum) => Ok(Commit::Older { minimum }),
            Written::Lost => Ok(Commit::Lost),
        }
    }

    pub(crate) async fn put<V>(&self, name: &str, record: Record<V>) -> Result<Put<V>, Fault>
    where
        C: Codec<V>,
    {
        let payload = self.encoded(&record.entry)?;
        match self.write(name, b"", record, payload).await? {
            Written::Stored(entry) => Ok(Put::Stored(entry)),
            Written::Older(minimum) => Ok(Put::Older { minimum }),
            Written::Lost => Err(malformed()),
        }
    }

    /// How many subscribers are to confirm the message.
    pub(crate) async fn invalidate(
        &self,
        name: &str,
        version: Option<Version>,
        retention: Duration,
        address: &Address,
        message: &[u8],
    ) -> Result<usize, Fault> {
        let by_script = self.run(&self.scripts.invalidate, |call| {
            call.key(self.keys.key(name))
                .key(self.lease_key(name))
                .arg(version.map(|version| version.to_bytes().to_vec()).unwrap_or_default())
                .arg(millis(retention))
                .arg(message)
                .arg(&address.subscribers)
                .arg(address);
        });
        let by_script: i64 = by_script.await?;
        match usize::try_from(by_script) {
            Ok(receivers) => Ok(receivers),
            Err(_) => Ok(self.publish(address, message).await),
        }
    }

    /// What follows the header's fields that the script writes.
    fn encoded<V>(&self, entry: &Entry<V>) -> Result<Vec<u8>, Fault>
    where
        C: Codec<V>,
    {
        let mut payload = header::before_value(entry.load_time(), entry.terms().as_deref());
        let begin = payload.len();
        if let Some(value) = entry.value() {
            let encoded = self.codec.encode(value, &mut payload);
            encoded.map_err(|error| Fault::new(FaultKind::Codec, error))?;
        }
        self.connection.check_value_bytes(payload.len() - begin)?;
        entry.set_bytes(payload.len());
        Ok(payload)
    }

    /// A commit, or, without a token, a put.
    async fn write<V>(
        &self,
        name: &str,
        token: &[u8],
        record: Record<V>,
        payload: Vec<u8>,
    ) -> Result<Written<V>, Fault> {
        let kind = if record.entry.value().is_some() { Kind::Value } else { Kind::Absent };
        let has_terms = record.entry.terms().is_some();
        let version = record.version.map(|version| version.to_bytes().to_vec());
        let address = self.address(name);
        let answer = self.run(&self.scripts.commit, |call| {
            call.key(self.keys.key(name))
                .key(self.lease_key(name))
                .arg(token)
                .arg(kind.letter(has_terms))
                .arg(version.unwrap_or_default())
                .arg(millis(record.ttl))
                .arg(millis(record.retention))
                .arg(payload)
                .arg(Message::tail(name, None))
                .arg(&address);
        });
        let answer: Vec<Value> = answer.await?;
        let mut answer = answer.into_iter();
        let kind = answer.next().and_then(integer).ok_or_else(malformed)?;
        let detail = answer.next().and_then(bulk).unwrap_or_default();
        let told = answer.next().and_then(integer).ok_or_else(malformed)?;
        let written = match kind {
            1 => Written::Stored(stored(record, &detail)?),
            0 => Written::Lost,
            -1 => Written::Older(header::version(&detail).ok_or_else(malformed)?),
            _ => return Err(malformed()),
        };
        if told < 0 {
            let event = match &written {
                Written::Stored(entry) if token.is_empty() => {
                    Event::Put { name, version: entry.version() }
                }
                Written::Stored(entry) => Event::Committed { name, version: entry.version() },
                Written::Older(_) | Written::Lost => Event::Released { name },
            };
            self.publish(&address, &Message::of(event, None).unwrap_or_default()).await;
        }
        Ok(written)
    }
}

/// The entry as it was written: one without a version has taken over that on record.
fn stored<V>(record: Record<V>, version: &[u8]) -> Result<Arc<Entry<V>>, Fault> {
    if record.version.is_some() {
        return Ok(record.entry);
    }
    let version = header::version(version).ok_or_else(malformed)?;
    Ok(Arc::new(record.entry.absent_at(version)))
}
