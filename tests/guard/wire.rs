//! The way to the far tier, on which calls are counted and fail, hang or are held up, and messages
//! get lost.

use std::{
    collections::HashMap,
    future::Future,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use cattleguard::{
    Clock, Entry, Fault, FaultKind, Version,
    far::{Attempt, Commit, Event, Far, Invalidated, Put, Record, Renewal, Token, Watcher},
    memory::MemoryFar,
};
use parking_lot::Mutex;

use crate::{ms, origin::Gate};

/// The far timeout that contract clause 10 asks for.
pub(crate) const FAR_TIMEOUT: Duration = ms(50);

#[derive(Clone)]
pub(crate) struct Wire {
    memory: MemoryFar<String>,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    calls: Mutex<HashMap<Call, usize>>,
    faults: Mutex<HashMap<Call, Break>>,
    relays: Mutex<Vec<Arc<Relay>>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Call {
    Read,
    ReadMany,
    LookUp,
    Commit,
    Renew,
    Release,
    Fail,
    Put,
    Invalidate,
}

impl Call {
    pub(crate) const ALL: [Self; 9] = [
        Self::Read,
        Self::ReadMany,
        Self::LookUp,
        Self::Commit,
        Self::Renew,
        Self::Release,
        Self::Fail,
        Self::Put,
        Self::Invalidate,
    ];
}

#[derive(Clone)]
pub(crate) enum Break {
    /// Not reached.
    Error,
    /// Reached, and refused.
    Refuse,
    /// Reached, and refused for now.
    Busy,
    /// Not carried out; the far timeout ends it.
    Hang,
    /// Carried out, but the answer is lost; the far timeout ends it.
    Mute,
    /// Carried out, after so long.
    Slow(Duration),
    Panic,
    /// Held up before it reaches the store.
    Before(Gate),
    /// Held up on its way back.
    After(Gate),
}

impl Wire {
    pub(crate) fn to(memory: &MemoryFar<String>) -> Self {
        Self { memory: memory.clone(), state: Arc::default() }
    }

    pub(crate) fn fault(&self, call: Call, fault: Break) {
        self.state.faults.lock().insert(call, fault);
    }

    pub(crate) fn fault_all(&self, fault: &Break) {
        for call in Call::ALL {
            self.fault(call, fault.clone());
        }
    }

    pub(crate) fn heal(&self) {
        self.state.faults.lock().clear();
    }

    /// Holds up answers of `call` on their way back.
    pub(crate) fn hold_after(&self, call: Call) -> Gate {
        let gate = Gate::closed();
        self.fault(call, Break::After(gate.clone()));
        gate
    }

    pub(crate) fn hold_before(&self, call: Call) -> Gate {
        let gate = Gate::closed();
        self.fault(call, Break::Before(gate.clone()));
        gate
    }

    pub(crate) fn calls(&self, call: Call) -> usize {
        self.state.calls.lock().get(&call).copied().unwrap_or(0)
    }

    /// Calls of every kind.
    pub(crate) fn all_calls(&self) -> usize {
        self.state.calls.lock().values().sum()
    }

    /// Loses all messages from now on, without a word.
    pub(crate) fn lose_messages(&self) {
        for relay in self.state.relays.lock().iter() {
            relay.deaf.store(true, Ordering::SeqCst);
        }
    }

    /// Brings a message of our own.
    pub(crate) fn tell(&self, event: Event<'_>) {
        let relays = self.state.relays.lock().clone();
        for watcher in relays.iter().filter_map(|relay| relay.watcher.upgrade()) {
            watcher.on_event(event);
        }
    }

    async fn carry<T>(
        &self,
        call: Call,
        carried_out: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        *self.state.calls.lock().entry(call).or_default() += 1;
        let fault = self.state.faults.lock().get(&call).cloned();
        match fault {
            None => carried_out.await,
            Some(Break::Error) => Err(FaultKind::Unreachable.into()),
            Some(Break::Refuse) => Err(FaultKind::Refused.into()),
            Some(Break::Busy) => Err(FaultKind::Busy.into()),
            Some(Break::Hang) => {
                tokio::time::sleep(FAR_TIMEOUT).await;
                Err(FaultKind::Timeout.into())
            }
            Some(Break::Mute) => {
                let _ = carried_out.await;
                tokio::time::sleep(FAR_TIMEOUT).await;
                Err(FaultKind::Timeout.into())
            }
            Some(Break::Slow(delay)) => {
                tokio::time::sleep(delay).await;
                carried_out.await
            }
            Some(Break::Panic) => panic!("the far tier panics"),
            Some(Break::Before(gate)) => {
                gate.pass().await;
                carried_out.await
            }
            Some(Break::After(gate)) => {
                let answer = carried_out.await;
                gate.pass().await;
                answer
            }
        }
    }
}

impl Far<String> for Wire {
    fn clock(&self) -> &Clock {
        self.memory.clock()
    }

    async fn read(&self, name: &str) -> Result<Option<Arc<Entry<String>>>, Fault> {
        self.carry(Call::Read, self.memory.read(name)).await
    }

    async fn read_many(&self, names: &[&str]) -> Vec<Result<Option<Arc<Entry<String>>>, Fault>> {
        match self.carry(Call::ReadMany, async { Ok(self.memory.read_many(names).await) }).await {
            Ok(found) => found,
            Err(error) => names.iter().map(|_| Err(error.kind().into())).collect(),
        }
    }

    async fn look_up_or_lease(
        &self,
        name: &str,
        token: Token,
        ttl: Duration,
        fresh_for: Duration,
    ) -> Result<Attempt<String>, Fault> {
        let looking = self.memory.look_up_or_lease(name, token, ttl, fresh_for);
        self.carry(Call::LookUp, looking).await
    }

    async fn commit(
        &self,
        name: &str,
        token: Token,
        record: Record<String>,
    ) -> Result<Commit<String>, Fault> {
        self.carry(Call::Commit, self.memory.commit(name, token, record)).await
    }

    async fn renew(&self, name: &str, token: Token, ttl: Duration) -> Result<Renewal, Fault> {
        self.carry(Call::Renew, self.memory.renew(name, token, ttl)).await
    }

    async fn release(&self, name: &str, token: Token) -> Result<(), Fault> {
        self.carry(Call::Release, self.memory.release(name, token)).await
    }

    async fn fail(&self, name: &str, token: Token, pause: Duration) -> Result<(), Fault> {
        self.carry(Call::Fail, self.memory.fail(name, token, pause)).await
    }

    async fn put(&self, name: &str, record: Record<String>) -> Result<Put<String>, Fault> {
        self.carry(Call::Put, self.memory.put(name, record)).await
    }

    async fn invalidate(
        &self,
        name: &str,
        version: Option<Version>,
        retention: Duration,
    ) -> Result<Invalidated, Fault> {
        self.carry(Call::Invalidate, self.memory.invalidate(name, version, retention)).await
    }

    fn watch(&self, watcher: Weak<dyn Watcher>) {
        let relay = Arc::new(Relay { watcher, deaf: AtomicBool::new(false) });
        self.state.relays.lock().push(relay.clone());
        let relay: Arc<dyn Watcher> = relay;
        self.memory.watch(Arc::downgrade(&relay));
    }
}

/// Passes messages on, unless deaf.
struct Relay {
    watcher: Weak<dyn Watcher>,
    deaf: AtomicBool,
}

impl Watcher for Relay {
    fn on_event(&self, event: Event<'_>) {
        if !self.deaf.load(Ordering::SeqCst)
            && let Some(watcher) = self.watcher.upgrade()
        {
            watcher.on_event(event);
        }
    }
}
