//! The commands of one process to the store: late, unanswered, refused, carried out long after their answer was given up.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use cattleguard::{
    Clock, Entry, Fault, FaultKind, Version,
    far::{Attempt, Commit, Far, Invalidated, Put, Record, Renewal, Token, Watcher},
};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    life::{Life, pass},
    mailbox::Mailbox,
    store::{Value, at_once},
    world::{Away, World},
};

/// The far timeout of clause 10.
const FAR_TIMEOUT: Duration = Duration::from_millis(50);

#[derive(Clone)]
pub(crate) struct Link(Arc<Inner>);

struct Inner {
    world: Arc<World>,
    life: Arc<Life>,
    mailbox: Arc<Mailbox>,
    trouble: Mutex<Trouble>,
}

/// What happens to commands.
#[derive(Clone, Copy, Default)]
pub(crate) struct Trouble {
    /// The chances to be slow, to be refused, to be lost, to be carried out without an answer, to be carried out late.
    pub(crate) slow: f64,
    pub(crate) refused: f64,
    pub(crate) lost: f64,
    pub(crate) unanswered: f64,
    pub(crate) late: f64,
}

/// What happens to a command.
enum Fate {
    /// How long it takes in each direction, in milliseconds.
    Answered(u64, u64),
    Refused,
    Lost,
    Unanswered,
    /// Carried out then, when its answer is not waited for any more.
    Late(Instant),
}

impl Link {
    pub(crate) fn new(world: &Arc<World>, life: &Arc<Life>, mailbox: &Arc<Mailbox>) -> Self {
        Self(Arc::new(Inner {
            world: world.clone(),
            life: life.clone(),
            mailbox: mailbox.clone(),
            trouble: Mutex::default(),
        }))
    }

    pub(crate) fn trouble(&self, change: impl FnOnce(&mut Trouble)) {
        change(&mut self.0.trouble.lock());
    }

    fn fate(&self) -> Fate {
        if let Some(Away { until, refuses }) = self.0.world.away() {
            return if refuses { Fate::Refused } else { Fate::Late(until) };
        }
        let Trouble { slow, refused, lost, unanswered, late } = *self.0.trouble.lock();
        let mut dice = fastrand::f64();
        let mut falls = |chance: f64| {
            dice -= chance;
            dice < 0.0
        };
        if falls(refused) {
            Fate::Refused
        } else if falls(lost) {
            Fate::Lost
        } else if falls(unanswered) {
            Fate::Unanswered
        } else if falls(late) {
            Fate::Late(Instant::now() + Duration::from_millis(fastrand::u64(51..500)))
        } else if falls(slow) {
            Fate::Answered(24, 24)
        } else {
            let latency = self.0.world.latency;
            Fate::Answered(latency, latency)
        }
    }

    /// Has the store carry out a call, or not.
    async fn carry<T: Send + 'static>(
        &self,
        call: impl FnOnce(Arc<World>) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let Inner { world, life, .. } = &*self.0;
        life.awake().await;
        world.tick();
        let sent = Instant::now();
        let unanswered = || async move {
            tokio::time::sleep_until(sent + FAR_TIMEOUT).await;
            Err(FaultKind::Timeout.into())
        };
        let answer = match self.fate() {
            Fate::Answered(there, back) => {
                pass(there).await;
                world.tick();
                let answer = call(world.clone());
                pass(back).await;
                answer
            }
            Fate::Refused => {
                pass(1).await;
                Err(FaultKind::Unreachable.into())
            }
            Fate::Lost => unanswered().await,
            Fate::Unanswered => {
                pass(24).await;
                let _ = call(world.clone());
                unanswered().await
            }
            Fate::Late(at) => {
                let world = world.clone();
                tokio::spawn(async move {
                    tokio::time::sleep_until(at).await;
                    let _ = call(world);
                });
                unanswered().await
            }
        };
        life.awake().await;
        world.tick();
        answer
    }
}

impl Far<Value> for Link {
    fn clock(&self) -> &Clock {
        self.0.world.store.clock()
    }

    async fn read(&self, name: &str) -> Result<Option<Arc<Entry<Value>>>, Fault> {
        let name = name.to_owned();
        self.carry(move |world| at_once(world.store.memory().read(&name))).await
    }

    async fn read_many(&self, names: &[&str]) -> Vec<Result<Option<Arc<Entry<Value>>>, Fault>> {
        let owned: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let reading = self.carry(move |world| {
            let memory = world.store.memory();
            Ok(owned.iter().map(|name| at_once(memory.read(name))).collect())
        });
        match reading.await {
            Ok(found) => found,
            Err(fault) => names.iter().map(|_| Err(fault.clone())).collect(),
        }
    }

    /// A full store has a hit to give, and no room for a lease.
    async fn look_up_or_lease(
        &self,
        name: &str,
        token: Token,
        ttl: Duration,
        fresh_for: Duration,
    ) -> Result<Attempt<Value>, Fault> {
        let name = name.to_owned();
        self.carry(move |world| {
            let memory = world.store.memory();
            let attempt = at_once(memory.look_up_or_lease(&name, token, ttl, fresh_for))?;
            if world.is_full() && matches!(attempt, Attempt::Granted(_)) {
                let _ = at_once(memory.release(&name, token));
                return Err(FaultKind::Refused.into());
            }
            Ok(attempt)
        })
        .await
    }

    /// In a full store it still ends the lease.
    async fn commit(
        &self,
        name: &str,
        token: Token,
        record: Record<Value>,
    ) -> Result<Commit<Value>, Fault> {
        let name = name.to_owned();
        self.carry(move |world| {
            let memory = world.store.memory();
            if world.is_full() {
                let _ = at_once(memory.release(&name, token));
                return Err(FaultKind::Refused.into());
            }
            at_once(memory.commit(&name, token, record))
        })
        .await
    }

    async fn renew(&self, name: &str, token: Token, ttl: Duration) -> Result<Renewal, Fault> {
        let name = name.to_owned();
        self.carry(move |world| at_once(world.store.memory().renew(&name, token, ttl))).await
    }

    async fn release(&self, name: &str, token: Token) -> Result<(), Fault> {
        let name = name.to_owned();
        self.carry(move |world| at_once(world.store.memory().release(&name, token))).await
    }

    async fn fail(&self, name: &str, token: Token, back_off: Duration) -> Result<(), Fault> {
        let name = name.to_owned();
        self.carry(move |world| at_once(world.store.memory().fail(&name, token, back_off))).await
    }

    async fn put(&self, name: &str, record: Record<Value>) -> Result<Put<Value>, Fault> {
        let name = name.to_owned();
        self.carry(move |world| match world.is_full() {
            true => Err(FaultKind::Refused.into()),
            false => at_once(world.store.memory().put(&name, record)),
        })
        .await
    }

    async fn invalidate(
        &self,
        name: &str,
        version: Option<Version>,
        retention: Duration,
    ) -> Result<Invalidated, Fault> {
        let Inner { world, mailbox, .. } = &*self.0;
        let number = world.number();
        let reply_to = mailbox.confirming(number);
        let is_counted = reply_to.is_some();
        let name = name.to_owned();
        let receivers = self
            .carry(move |world| Ok(world.invalidate(&name, version, retention, reply_to)))
            .await?;
        let confirmed = is_counted && mailbox.is_confirmed(number, receivers).await;
        Ok(if confirmed { Invalidated::Everywhere } else { Invalidated::Unconfirmed })
    }

    async fn invalidate_unconfirmed(
        &self,
        name: &str,
        version: Option<Version>,
        retention: Duration,
    ) -> Result<(), Fault> {
        let name = name.to_owned();
        self.carry(move |world| {
            world.invalidate(&name, version, retention, None);
            Ok(())
        })
        .await
    }

    fn watch(&self, watcher: Weak<dyn Watcher>) {
        self.0.mailbox.watch(watcher);
    }
}
