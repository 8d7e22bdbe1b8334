//! The way to the far tier, on which calls are counted and fail, hang or are held up, and messages
//! get lost. For the tests of the HTTP cache, too.

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

use crate::gate::Gate;

/// The far timeout that contract clause 10 asks for.
pub(crate) const FAR_TIMEOUT: Duration = Duration::from_millis(50);

#[derive(Clone)]
pub(crate) struct Wire<V = String> {
    memory: MemoryFar<V>,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    calls: Mutex<HashMap<Call, usize>>,
    faults: Mutex<HashMap<Call, Disturbance>>,
    relays: Mutex<Vec<Arc<Relay>>>,
}

#[derive(Clone)]
struct Disturbance {
    how: Break,
    about: About,
    is_over_after_one: bool,
}

/// The names that calls are disturbed about.
pub(crate) type About = fn(&str) -> bool;

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

#[derive(Clone, Debug)]
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

impl<V> Wire<V> {
    pub(crate) fn to(memory: &MemoryFar<V>) -> Self {
        Self { memory: memory.clone(), state: Arc::default() }
    }

    pub(crate) fn fault(&self, call: Call, how: Break) {
        self.disturb(call, Disturbance { how, about: |_| true, is_over_after_one: false });
    }

    /// The next call alone.
    pub(crate) fn fault_one(&self, call: Call, how: Break) {
        self.disturb(call, Disturbance { how, about: |_| true, is_over_after_one: true });
    }

    pub(crate) fn fault_all(&self, how: &Break) {
        self.fault_about(|_| true, how);
    }

    /// Calls of every kind about these names.
    pub(crate) fn fault_about(&self, about: About, how: &Break) {
        for call in Call::ALL {
            self.disturb(call, Disturbance { how: how.clone(), about, is_over_after_one: false });
        }
    }

    fn disturb(&self, call: Call, disturbance: Disturbance) {
        self.state.faults.lock().insert(call, disturbance);
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

    /// What happens to a call about these names.
    fn disturbance(&self, call: Call, names: &[&str]) -> Option<Break> {
        *self.state.calls.lock().entry(call).or_default() += 1;
        let mut faults = self.state.faults.lock();
        let Disturbance { how, is_over_after_one, .. } =
            faults.get(&call).filter(|fault| names.iter().any(|name| (fault.about)(name)))?.clone();
        if is_over_after_one {
            faults.remove(&call);
        }
        Some(how)
    }

    async fn carry<T>(
        &self,
        call: Call,
        names: &[&str],
        carried_out: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        match self.disturbance(call, names) {
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

impl<V: Send + Sync + 'static> Far<V> for Wire<V> {
    fn clock(&self) -> &Clock {
        self.memory.clock()
    }

    async fn read(&self, name: &str) -> Result<Option<Arc<Entry<V>>>, Fault> {
        self.carry(Call::Read, &[name], self.memory.read(name)).await
    }

    async fn read_many(&self, names: &[&str]) -> Vec<Result<Option<Arc<Entry<V>>>, Fault>> {
        match self
            .carry(Call::ReadMany, names, async { Ok(self.memory.read_many(names).await) })
            .await
        {
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
    ) -> Result<Attempt<V>, Fault> {
        let looking = self.memory.look_up_or_lease(name, token, ttl, fresh_for);
        self.carry(Call::LookUp, &[name], looking).await
    }

    async fn commit(
        &self,
        name: &str,
        token: Token,
        record: Record<V>,
    ) -> Result<Commit<V>, Fault> {
        self.carry(Call::Commit, &[name], self.memory.commit(name, token, record)).await
    }

    async fn renew(&self, name: &str, token: Token, ttl: Duration) -> Result<Renewal, Fault> {
        self.carry(Call::Renew, &[name], self.memory.renew(name, token, ttl)).await
    }

    async fn release(&self, name: &str, token: Token) -> Result<(), Fault> {
        self.carry(Call::Release, &[name], self.memory.release(name, token)).await
    }

    async fn fail(&self, name: &str, token: Token, pause: Duration) -> Result<(), Fault> {
        self.carry(Call::Fail, &[name], self.memory.fail(name, token, pause)).await
    }

    async fn put(&self, name: &str, record: Record<V>) -> Result<Put<V>, Fault> {
        self.carry(Call::Put, &[name], self.memory.put(name, record)).await
    }

    async fn invalidate(
        &self,
        name: &str,
        version: Option<Version>,
        retention: Duration,
    ) -> Result<Invalidated, Fault> {
        self.carry(Call::Invalidate, &[name], self.memory.invalidate(name, version, retention))
            .await
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
