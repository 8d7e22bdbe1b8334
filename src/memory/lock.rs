use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::oneshot, time::Instant};

use crate::{
    Fault, FaultKind,
    lock::{Attempt, Lease, LeaseBackend, Lock, Renewal, Validity, end_of},
};

/// A lock inside one process: the reference for the others, and enough where there is one process.
///
/// Promises the whole contract, and serves waiters in the order of asking, on tokio's clock. Promises nothing
/// to other processes, and its fencing tokens start again with the process. Clones are the same lock.
///
/// # Cancel safety
///
/// A dropped call leaves the queue, and passes on a lease that was on its way.
#[derive(Clone, Default)]
pub struct MemoryLock {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    names: Mutex<HashMap<Arc<str>, Slot>>,
    fence: AtomicU64,
}

/// A name that has a holder, waiters, or both; it is removed when it has neither.
#[derive(Default)]
struct Slot {
    holder: Option<Holder>,
    waiters: VecDeque<Waiter>,
}

struct Holder {
    fence: u64,
    until: Instant,
    validity: Validity,
}

struct Waiter {
    ttl: Duration,
    granted: oneshot::Sender<Lease>,
}

impl MemoryLock {
    /// A lock without holders.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many names are held or waited for.
    #[doc(hidden)]
    pub fn names(&self) -> usize {
        self.inner.names.lock().len()
    }
}

impl fmt::Debug for MemoryLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryLock").field("names", &self.inner.names.lock().len()).finish()
    }
}

impl Lock for MemoryLock {
    async fn try_acquire(&self, name: &str, ttl: Duration) -> Result<Attempt, Fault> {
        let mut names = self.inner.names.lock();
        match names.get_mut(name) {
            // Waiters go first.
            Some(slot) => match self.inner.hand_over(name, slot) {
                Some(until) => Ok(Attempt::Held { remaining: until - Instant::now() }),
                None => Ok(Attempt::Granted(self.inner.grant(name, slot, ttl))),
            },
            None => {
                let mut slot = Slot::default();
                let lease = self.inner.grant(name, &mut slot, ttl);
                names.insert(name.into(), slot);
                Ok(Attempt::Granted(lease))
            }
        }
    }

    async fn acquire(&self, name: &str, ttl: Duration, deadline: Instant) -> Result<Lease, Fault> {
        let (granted, waiting) = oneshot::channel();
        {
            let mut names = self.inner.names.lock();
            let slot = match names.get_mut(name) {
                Some(slot) => slot,
                None => names.entry(name.into()).or_default(),
            };
            slot.waiters.push_back(Waiter { ttl, granted });
        }
        let mut waiting = Waiting { inner: &self.inner, name, granted: waiting };
        loop {
            let until = self.inner.hand_over_if_free(name).unwrap_or(deadline);
            tokio::select! {
                biased;
                // Never an error: a sender is dropped only once this receiver is closed.
                granted = &mut waiting.granted => return granted.map_err(|_| FaultKind::Held.into()),
                () = tokio::time::sleep_until(deadline) => return Err(FaultKind::Held.into()),
                () = tokio::time::sleep_until(until) => {}
            }
        }
    }
}

struct Waiting<'a> {
    inner: &'a Inner,
    name: &'a str,
    granted: oneshot::Receiver<Lease>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // Closed first, so that `tidy` removes this waiter. A lease that was on its way is dropped with the
        // channel, which hands the name over.
        self.granted.close();
        self.inner.tidy(self.name);
    }
}

impl Inner {
    /// Gives a free name to the waiter that waits longest. Until when the name is held now.
    fn hand_over_if_free(self: &Arc<Self>, name: &str) -> Option<Instant> {
        let mut names = self.names.lock();
        let slot = names.get_mut(name)?;
        self.hand_over(name, slot)
    }

    fn hand_over(self: &Arc<Self>, name: &str, slot: &mut Slot) -> Option<Instant> {
        loop {
            if let Some(holder) = &slot.holder {
                if holder.until > Instant::now() {
                    return Some(holder.until);
                }
                holder.validity.end();
                slot.holder = None;
            }
            let waiter = slot.waiters.pop_front()?;
            if waiter.granted.is_closed() {
                continue;
            }
            let lease = self.grant(name, slot, waiter.ttl);
            if waiter.granted.send(lease).is_err() {
                slot.holder = None;
            }
        }
    }

    fn grant(self: &Arc<Self>, name: &str, slot: &mut Slot, ttl: Duration) -> Lease {
        let fence = self.fence.fetch_add(1, Ordering::Relaxed) + 1;
        let now = Instant::now();
        let (until, validity) = (end_of(now, ttl), Validity::since(now, ttl));
        let backend = MemoryLease { inner: self.clone(), name: name.into(), fence };
        // First, because it panics without a runtime.
        let lease = Lease::new(name, fence, ttl, validity.clone(), backend);
        slot.holder = Some(Holder { fence, until, validity });
        lease
    }

    fn tidy(&self, name: &str) {
        let mut names = self.names.lock();
        let Some(slot) = names.get_mut(name) else { return };
        slot.waiters.retain(|waiter| !waiter.granted.is_closed());
        if slot.holder.is_none() && slot.waiters.is_empty() {
            names.remove(name);
        }
    }
}

/// A lease of this lock.
struct MemoryLease {
    inner: Arc<Inner>,
    name: Arc<str>,
    fence: u64,
}

impl LeaseBackend for MemoryLease {
    async fn renew(&mut self, ttl: Duration) -> Result<Renewal, Fault> {
        let mut names = self.inner.names.lock();
        let holder = names.get_mut(&self.name).and_then(|slot| slot.holder.as_mut());
        let now = Instant::now();
        Ok(match holder {
            Some(holder) if holder.fence == self.fence && holder.until > now => {
                holder.until = end_of(now, ttl);
                Renewal::Renewed
            }
            _ => Renewal::Lost,
        })
    }

    async fn release(self) -> Result<(), Fault> {
        let mut names = self.inner.names.lock();
        let Some(slot) = names.get_mut(&self.name) else { return Ok(()) };
        if slot.holder.as_ref().is_some_and(|holder| holder.fence == self.fence) {
            slot.holder = None;
            if self.inner.hand_over(&self.name, slot).is_none() {
                names.remove(&self.name);
            }
        }
        Ok(())
    }
}
