//! Who may load: leases, or loads that a lock of another system has elected, and back-offs after failed
//! ones.

use std::{sync::Arc, time::Duration, vec};

use ::redis::Value;

use super::{
    header,
    reply::{bulk, integer, malformed, remaining},
    scripts::{FAIL, RELEASE, RENEW},
    store::Records,
};
use crate::{
    Entry, Fault,
    codec::Codec,
    far::{Grant, Renewal, Token},
    redis::{
        channel::{Address, ProcessId},
        message::Message,
        namespace::millis,
    },
};

/// Longer than any entry stays fresh, in milliseconds.
const FOREVER: u64 = u64::MAX;

/// The answer to an attempt to begin a load.
pub(crate) enum OpenReply<V> {
    Hit(Arc<Entry<V>>),
    Granted(Grant),
    Held {
        remaining: Duration,
        /// How many processes wait already. `None` if this one may miss the end of the lease.
        ahead: Option<usize>,
    },
    /// The record has seen a greater fencing token.
    Fenced,
    BackOff {
        remaining: Duration,
    },
}

impl<C> Records<C> {
    /// The entry if it is fresh for long enough, or what the script that begins a load says.
    pub(crate) async fn open<V>(
        &self,
        name: &str,
        token: Token,
        ttl: Duration,
        fresh_for: Duration,
        waiter: Option<ProcessId>,
    ) -> Result<OpenReply<V>, Fault>
    where
        C: Codec<V>,
    {
        let fresh_for = if fresh_for.is_zero() { 0 } else { millis(fresh_for) };
        if let Some(reply) = self.try_open(name, token, ttl, fresh_for, waiter).await? {
            return Ok(reply);
        }
        // The entry is fresh and does not decode: another release wrote it. Ask for the lease, to
        // replace it.
        self.try_open(name, token, ttl, FOREVER, waiter).await?.ok_or_else(malformed)
    }

    /// `None` for an entry that does not decode.
    async fn try_open<V>(
        &self,
        name: &str,
        token: Token,
        ttl: Duration,
        fresh_for: u64,
        waiter: Option<ProcessId>,
    ) -> Result<Option<OpenReply<V>>, Fault>
    where
        C: Codec<V>,
    {
        let answer = self.run(&self.scripts.open, |call| {
            call.key(self.keys.key(name)).key(self.lease_key(name));
            call.arg(token.as_bytes()).arg(millis(ttl)).arg(fresh_for);
            call.arg(waiter.as_ref().map_or(&[][..], |waiter| waiter));
        });
        let answer: Vec<Value> = answer.await?;
        let mut answer = answer.into_iter();
        let now = answer.next().and_then(integer).ok_or_else(malformed)?;
        if self.permissions.get().time {
            self.clock.note(now);
        }
        let kind = answer.next().and_then(integer).ok_or_else(malformed)?;
        let mut value = || answer.next().ok_or_else(malformed);
        Ok(Some(match kind {
            0 => {
                let entry = bulk(value()?).and_then(|bytes| self.entry(bytes));
                return Ok(entry.map(|entry| OpenReply::Hit(Arc::new(entry))));
            }
            1 => OpenReply::Granted(granted(answer)?),
            2 => OpenReply::Held {
                remaining: remaining(value()?)?,
                ahead: integer(value()?).and_then(|ahead| ahead.try_into().ok()),
            },
            3 => OpenReply::Fenced,
            4 => OpenReply::BackOff { remaining: remaining(value()?)? },
            _ => return Err(malformed()),
        }))
    }

    pub(crate) async fn renew(
        &self,
        name: &str,
        token: Token,
        ttl: Duration,
    ) -> Result<Renewal, Fault> {
        let mut call = RENEW.key(self.lease_key(name));
        call.arg(token.as_bytes()).arg(millis(ttl));
        let answer = self.connection.run(&call).await;
        self.doubt_if_refused(&answer);
        match answer? {
            1 => Ok(Renewal::Renewed),
            _ => Ok(Renewal::Lost),
        }
    }

    pub(crate) async fn release(&self, name: &str, token: Token) -> Result<(), Fault> {
        let (address, message) = (self.address(name), Message::released(name));
        let mut call = ::redis::cmd("EVAL");
        call.arg(RELEASE).arg(1).arg(self.lease_key(name));
        call.arg(token.as_bytes()).arg(&message).arg(&address);
        let answer = self.connection.query(&call).await;
        self.doubt_if_refused(&answer);
        self.told_end(&address, answer?, &message).await;
        Ok(())
    }

    pub(crate) async fn fail(
        &self,
        name: &str,
        token: Token,
        back_off: Duration,
    ) -> Result<(), Fault> {
        let (address, message) = (self.address(name), Message::released(name));
        let answer = self.run(&FAIL, |call| {
            call.key(self.lease_key(name)).arg(token.as_bytes()).arg(millis(back_off));
            call.arg(&message).arg(&address);
        });
        let ended = answer.await?;
        self.told_end(&address, ended, &message).await;
        Ok(())
    }

    /// Tells the end of a lease if its script could not.
    async fn told_end(&self, address: &Address, (_, told): (i64, i64), message: &[u8]) {
        if told < 0 {
            self.publish(address, message).await;
        }
    }
}

/// The fencing token with the failures, and the version on record.
fn granted(mut answer: vec::IntoIter<Value>) -> Result<Grant, Fault> {
    let grant = answer.next().and_then(bulk).and_then(|bytes| header::grant(&bytes));
    let (fence, failures) = grant.ok_or_else(malformed)?;
    let minimum = answer.next().and_then(bulk);
    let minimum = minimum.as_deref().and_then(header::version).unwrap_or_default();
    Ok(Grant::new(fence, minimum, failures))
}
