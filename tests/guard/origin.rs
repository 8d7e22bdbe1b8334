//! A scripted origin with one row, a gate and counters.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use cattleguard::Loaded;
use futures::{FutureExt, future::BoxFuture};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::bounded;
pub(crate) use crate::gate::Gate;

/// Loads read the row when they begin and answer when their time has passed and the gate is open:
/// the worst order for a cache.
#[derive(Clone)]
pub(crate) struct Origin(Arc<State>);

struct State {
    row: Mutex<u64>,
    script: Mutex<VecDeque<Reply>>,
    takes: Duration,
    gate: Gate,
    begun: watch::Sender<usize>,
    running: AtomicUsize,
    most_at_once: AtomicUsize,
}

/// What a load comes to.
#[derive(Clone)]
pub(crate) enum Reply {
    /// The row as it was when the load began.
    Row,
    Version(u64),
    Loaded(Loaded<String>),
    Fail,
    Panic,
    PanicInClosure,
    Never,
}

/// The origin's error.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Broken;

impl Origin {
    /// Row version 1, answered at once.
    pub(crate) fn new() -> Self {
        Self::with(Duration::ZERO, Gate::opened())
    }

    pub(crate) fn taking(takes: Duration) -> Self {
        Self::with(takes, Gate::opened())
    }

    pub(crate) fn gated() -> (Self, Gate) {
        let gate = Gate::closed();
        (Self::with(Duration::ZERO, gate.clone()), gate)
    }

    fn with(takes: Duration, gate: Gate) -> Self {
        Self(Arc::new(State {
            row: Mutex::new(1),
            script: Mutex::default(),
            takes,
            gate,
            begun: watch::Sender::new(0),
            running: AtomicUsize::new(0),
            most_at_once: AtomicUsize::new(0),
        }))
    }

    /// Somebody writes the row.
    pub(crate) fn write(&self, version: u64) {
        *self.0.row.lock() = version;
    }

    /// Somebody writes the row: its new version.
    pub(crate) fn write_next(&self) -> u64 {
        let mut row = self.0.row.lock();
        *row += 1;
        *row
    }

    /// The next load that is not scripted yet comes to this.
    pub(crate) fn next(&self, reply: Reply) -> &Self {
        self.0.script.lock().push_back(reply);
        self
    }

    /// How many loads have begun.
    pub(crate) fn loads(&self) -> usize {
        *self.0.begun.borrow()
    }

    /// How many loads run now.
    pub(crate) fn running(&self) -> usize {
        self.0.running.load(Ordering::SeqCst)
    }

    pub(crate) fn most_at_once(&self) -> usize {
        self.0.most_at_once.load(Ordering::SeqCst)
    }

    /// Waits until so many loads have begun.
    pub(crate) async fn begun(&self, loads: usize) {
        let mut begun = self.0.begun.subscribe();
        bounded(begun.wait_for(|begun| *begun >= loads)).await.expect("the origin lives");
    }

    pub(crate) fn load(
        &self,
    ) -> impl FnMut() -> BoxFuture<'static, Result<Loaded<String>, Broken>> + Send + use<> {
        let origin = self.clone();
        move || {
            origin.0.begun.send_modify(|begun| *begun += 1);
            let reply = origin.0.script.lock().pop_front().unwrap_or(Reply::Row);
            let row = *origin.0.row.lock();
            assert!(!matches!(reply, Reply::PanicInClosure), "the closure panics");
            let running = Running::new(origin.clone());
            async move {
                tokio::time::sleep(running.0.0.takes).await;
                running.0.0.gate.pass().await;
                match reply {
                    Reply::Row => Ok(row_at(row)),
                    Reply::Version(version) => Ok(row_at(version)),
                    Reply::Loaded(loaded) => Ok(loaded),
                    Reply::Fail => Err(Broken),
                    Reply::Panic => panic!("the load panics"),
                    Reply::Never => std::future::pending().await,
                    Reply::PanicInClosure => unreachable!("it has panicked above"),
                }
            }
            .boxed()
        }
    }
}

/// The row as the origin has it at `version`.
pub(crate) fn row_at(version: u64) -> Loaded<String> {
    Loaded::found(format!("v{version}"), version)
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the database is broken")
    }
}

impl std::error::Error for Broken {}

/// Counts a load until it ends or is dropped.
struct Running(Origin);

impl Running {
    fn new(origin: Origin) -> Self {
        let now = origin.0.running.fetch_add(1, Ordering::SeqCst) + 1;
        origin.0.most_at_once.fetch_max(now, Ordering::SeqCst);
        Self(origin)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}
