use std::{
    collections::{HashMap, VecDeque},
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
/// Promises all of the contract, in the order of asking, on tokio's clock. Promises nothing to other
/// processes, and its fencing tokens begin anew with the process. Clones are the same lock.
#[derive(Clone, Default)]
pub struct MemoryLock {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    names: Mutex<HashMap<Arc<str>, Slot>>,
    fence: AtomicU64,
}

/// Held, waited for, or both; a slot that is neither is removed.
#[derive(Default)]
struct Slot {
    held: Option<Held>,
    waiters: VecDeque<Waiter>,
}

struct Held {
    fence: u64,
    until: Instant,
    belief: Validity,
}

struct Waiter {
    ttl: Duration,
    granted: oneshot::Sender<Lease>,
}

impl MemoryLock {
    /// A lock that nobody holds.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many names are held or waited for.
    #[doc(hidden)]
    pub fn names(&self) -> usize {
        self.inner.names.lock().len()
    }
}

impl Lock for MemoryLock {
    async fn try_acquire(&self, name: &str, ttl: Duration) -> Result<Attempt, Fault> {
        let mut names = self.inner.names.lock();
        match names.get_mut(name) {
            // Whoever waits has the older claim.
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
            let until = self.inner.look(name).unwrap_or(deadline);
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
        // Closed first, so that `tidy` finds it so. A lease that was on its way is dropped with the
        // channel, which hands the name on.
        self.granted.close();
        self.inner.tidy(self.name);
    }
}

impl Inner {
    /// Gives a free name to who waits longest. Until when the name is held now.
    fn look(self: &Arc<Self>, name: &str) -> Option<Instant> {
        let mut names = self.names.lock();
        let slot = names.get_mut(name)?;
        self.hand_over(name, slot)
    }

    fn hand_over(self: &Arc<Self>, name: &str, slot: &mut Slot) -> Option<Instant> {
        loop {
            if let Some(held) = &slot.held {
                if held.until > Instant::now() {
                    return Some(held.until);
                }
                held.belief.end();
                slot.held = None;
            }
            let waiter = slot.waiters.pop_front()?;
            if waiter.granted.is_closed() {
                continue;
            }
            let lease = self.grant(name, slot, waiter.ttl);
            if waiter.granted.send(lease).is_err() {
                slot.held = None;
            }
        }
    }

    fn grant(self: &Arc<Self>, name: &str, slot: &mut Slot, ttl: Duration) -> Lease {
        let fence = self.fence.fetch_add(1, Ordering::Relaxed) + 1;
        let now = Instant::now();
        let (until, belief) = (end_of(now, ttl), Validity::since(now, ttl));
        let hold = Grasp { inner: self.clone(), name: name.into(), fence };
        // First, because it panics without a runtime.
        let lease = Lease::new(name, fence, ttl, belief.clone(), hold);
        slot.held = Some(Held { fence, until, belief });
        lease
    }

    fn tidy(&self, name: &str) {
        let mut names = self.names.lock();
        let Some(slot) = names.get_mut(name) else { return };
        slot.waiters.retain(|waiter| !waiter.granted.is_closed());
        if slot.held.is_none() && slot.waiters.is_empty() {
            names.remove(name);
        }
    }
}

struct Grasp {
    inner: Arc<Inner>,
    name: Arc<str>,
    fence: u64,
}

impl LeaseBackend for Grasp {
    async fn renew(&mut self, ttl: Duration) -> Result<Renewal, Fault> {
        let mut names = self.inner.names.lock();
        let held = names.get_mut(&self.name).and_then(|slot| slot.held.as_mut());
        let now = Instant::now();
        Ok(match held {
            Some(held) if held.fence == self.fence && held.until > now => {
                held.until = end_of(now, ttl);
                Renewal::Renewed
            }
            _ => Renewal::Lost,
        })
    }

    async fn release(self) -> Result<(), Fault> {
        let mut names = self.inner.names.lock();
        let Some(slot) = names.get_mut(&self.name) else { return Ok(()) };
        if slot.held.as_ref().is_some_and(|held| held.fence == self.fence) {
            slot.held = None;
            if self.inner.hand_over(&self.name, slot).is_none() {
                names.remove(&self.name);
            }
        }
        Ok(())
    }
}
