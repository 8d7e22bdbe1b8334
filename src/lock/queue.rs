//! A queue per name inside the process: of all local callers that want a lock only one waits at the system.
//! Connections and commands grow with the processes, and local callers are served in turn.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use crate::{Fault, FaultKind};

#[derive(Default)]
pub(crate) struct Queue {
    names: Mutex<HashMap<Arc<str>, Waiting>>,
}

struct Waiting {
    /// One permit; tokio hands it out in the order of asking.
    turn: Arc<Semaphore>,
    callers: usize,
}

/// This caller's turn, until it is dropped.
pub(crate) struct Turn<'a> {
    /// Dropped before the registration, by the order of these fields.
    _permit: OwnedSemaphorePermit,
    _registration: Registration<'a>,
}

/// A caller that is counted until it is dropped: the last one removes the name.
struct Registration<'a> {
    queue: &'a Queue,
    name: Arc<str>,
}

impl Queue {
    /// Waits for the caller's turn at `name`. Dropping the future leaves the queue.
    pub(crate) async fn turn(&self, name: &str, deadline: Instant) -> Result<Turn<'_>, Fault> {
        let (turn, registration) = self.enter(name);
        let permit = tokio::time::timeout_at(deadline, turn.acquire_owned()).await;
        match permit {
            Ok(Ok(permit)) => Ok(Turn { _permit: permit, _registration: registration }),
            // The deadline: the semaphore is never closed.
            _ => Err(FaultKind::Held.into()),
        }
    }

    fn enter(&self, name: &str) -> (Arc<Semaphore>, Registration<'_>) {
        let mut names = self.names.lock();
        if let Some((name, waiting)) = names.get_key_value(name) {
            let (name, turn) = (name.clone(), waiting.turn.clone());
            if let Some(waiting) = names.get_mut(&name) {
                waiting.callers += 1;
            }
            return (turn, Registration { queue: self, name });
        }
        let (name, turn): (Arc<str>, _) = (name.into(), Arc::new(Semaphore::new(1)));
        names.insert(name.clone(), Waiting { turn: turn.clone(), callers: 1 });
        (turn, Registration { queue: self, name })
    }
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        let mut names = self.queue.names.lock();
        if let Some(waiting) = names.get_mut(&self.name) {
            waiting.callers -= 1;
            if waiting.callers == 0 {
                names.remove(&self.name);
            }
        }
    }
}
