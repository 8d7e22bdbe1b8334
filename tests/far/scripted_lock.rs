//! A lock whose fencing tokens the test decides.

use std::{sync::Arc, time::Duration};

use cattleguard::{
    Fault,
    far::Renewal,
    lock::{Attempt, Lease, LeaseBackend, Lock, Validity},
};
use tokio::{sync::watch, time::Instant};

/// Grants to everyone who asks the token that the script says, also twice, as a lock does whose
/// answer was lost. While the script says none, those who ask wait. Clones are the same lock.
#[derive(Clone, Default)]
pub struct ScriptedLock {
    script: Arc<watch::Sender<Option<u64>>>,
    asked: Arc<watch::Sender<usize>>,
}

impl ScriptedLock {
    /// From now on this token is granted.
    pub fn grant(&self, fence: u64) {
        self.script.send_replace(Some(fence));
    }

    /// From now on those who ask wait for the next `grant`.
    pub fn stall(&self) {
        self.script.send_replace(None);
        self.asked.send_replace(0);
    }

    /// Waits until somebody has asked since the last `stall`.
    pub async fn asked(&self) {
        let mut asked = self.asked.subscribe();
        let asked = asked.wait_for(|asked| *asked > 0);
        let asked = tokio::time::timeout(Duration::from_secs(10), asked).await;
        asked.expect("asked within 10 s").expect("the lock lives");
    }
}

impl Lock for ScriptedLock {
    async fn try_acquire(&self, name: &str, ttl: Duration) -> Result<Attempt, Fault> {
        let validity = Validity::since(Instant::now(), ttl);
        self.asked.send_modify(|asked| *asked += 1);
        let mut script = self.script.subscribe();
        let fence = *script.wait_for(Option::is_some).await.expect("the lock lives");
        let fence = fence.expect("waited for");
        Ok(Attempt::Granted(Lease::new(name, fence, ttl, validity, Unwatched)))
    }

    async fn acquire(&self, name: &str, ttl: Duration, _: Instant) -> Result<Lease, Fault> {
        match self.try_acquire(name, ttl).await? {
            Attempt::Granted(lease) => Ok(lease),
            _ => unreachable!("it is granted to everyone"),
        }
    }
}

/// Renews whatever the others hold: what is refused is refused by the record.
struct Unwatched;

impl LeaseBackend for Unwatched {
    async fn renew(&mut self, _: Duration) -> Result<Renewal, Fault> {
        Ok(Renewal::Renewed)
    }

    async fn release(self) -> Result<(), Fault> {
        Ok(())
    }
}
