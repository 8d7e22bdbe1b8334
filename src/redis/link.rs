//! A connection that is made when it is needed, doubted, and replaced.
//!
//! ```text
//! none ── a command needs it ──▶ dialing ── connected ──▶ current
//! current ── it broke, or its runtime ended ──▶ none
//! current ── silent, or "not me, not now" ──▶ dialing another, current serves on ──▶ current
//! ```
//!
//! Each attempt is a task that all commands share: it may take longer than a command's timeout, and the next
//! command needs the result, too.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use ::redis::{ErrorKind, FromRedisValue, RedisError, RedisResult, aio::ConnectionLike};
use tokio::{
    sync::{oneshot, watch},
    time::Instant,
};

use super::{
    command::Command,
    fault::{is_answer, is_doubtful, to_fault},
    gate::{Gate, Lane},
};
use crate::{Fault, FaultKind};

/// How a connection is made.
pub(super) trait Dial: Send + Sync + 'static {
    type Connection: ConnectionLike + Clone + Send + Sync + 'static;

    /// Whether the client mends a broken connection, as it is one of many.
    const MENDS_ITSELF: bool = false;

    /// How long an attempt may take.
    const LIMIT: Duration;

    /// `replacing` says that there is a connection, which stays if this fails.
    fn dial(&self, replacing: bool) -> impl Future<Output = RedisResult<Self::Connection>> + Send;
}

pub(super) struct Link<D: Dial> {
    dial: D,
    state: watch::Sender<State<D::Connection>>,
}

struct State<C> {
    current: Option<Current<C>>,
    /// At most one attempt at a time.
    dialing: bool,
    /// How many have ended.
    attempts: u64,
    /// The last attempt's end, and why it failed.
    last: Option<(Instant, Option<RedisError>)>,
}

struct Current<C> {
    link: Linked<C>,
    since: Instant,
    /// Ends the task that watches over the runtime.
    _replaced: oneshot::Sender<()>,
}

/// The connection of the moment, and the attempt that made it.
#[derive(Clone)]
pub(super) struct Linked<C> {
    pub(super) connection: C,
    attempt: u64,
}

/// A server that does not answer may be slow, frozen or replaced. None is dialled more often than this for a doubt:
/// otherwise each command would connect again to a slow server.
const DOUBT_AFTER: Duration = Duration::from_secs(1);

/// The same for a server that answers others. A client of many servers may not know of a new one.
const DOUBT_BUSY_AFTER: Duration = Duration::from_secs(30);

impl<D: Dial> Link<D> {
    pub(super) fn new(dial: D) -> Self {
        let state = State { current: None, dialing: false, attempts: 0, last: None };
        Self { dial, state: watch::Sender::new(state) }
    }

    pub(super) fn dialer(&self) -> &D {
        &self.dial
    }

    /// Sends a command once `gate` lets it through, and waits for its answer for as long as `timeout`.
    pub(super) async fn send<T: FromRedisValue + Send>(
        self: &Arc<Self>,
        gate: &Gate,
        command: &impl Command,
        timeout: Duration,
    ) -> Result<Result<T, RedisError>, Fault> {
        let answer = self.send_once(gate, command, timeout).await;
        match &answer {
            // The server, or something between, has closed an idle connection: the first command finds out. A read
            // may be sent twice.
            Ok(Err(error)) if error.is_connection_dropped() && command.lane() == Lane::Reads => {
                Box::pin(self.send_once(gate, command, timeout)).await
            }
            _ => answer,
        }
    }

    async fn send_once<T: FromRedisValue + Send>(
        self: &Arc<Self>,
        gate: &Gate,
        command: &impl Command,
        timeout: Duration,
    ) -> Result<Result<T, RedisError>, Fault> {
        let mut attempt = None;
        let sending = async {
            let mut linked = self.get().await?;
            attempt = Some(linked.attempt);
            command.over(&mut linked.connection).await
        };
        let answer = gate.pass(command.lane(), timeout, sending).await;
        match (&answer, attempt) {
            (Ok(Ok(_)), _) | (_, None) => {}
            (Ok(Err(error)), Some(attempt)) => self.note(attempt, error),
            (Err(fault), Some(_)) if fault.kind() == FaultKind::Timeout => self.doubt(DOUBT_AFTER),
            (Err(_), Some(_)) if D::MENDS_ITSELF => self.doubt(DOUBT_BUSY_AFTER),
            (Err(_), Some(_)) => {}
        }
        answer
    }

    pub(super) async fn get(self: &Arc<Self>) -> RedisResult<Linked<D::Connection>> {
        if let Some(current) = &self.state.borrow().current {
            return Ok(current.link.clone());
        }
        // Boxed, so that the future of a command that finds a connection stays small.
        Box::pin(self.connected()).await
    }

    async fn connected(self: &Arc<Self>) -> RedisResult<Linked<D::Connection>> {
        let mut state = self.state.subscribe();
        let attempts = {
            let known = state.borrow_and_update();
            if let Some(refused) = known.refused() {
                return Err(refused);
            }
            known.attempts
        };
        self.connect();
        let ended = |state: &State<_>| state.current.is_some() || state.attempts > attempts;
        match state.wait_for(ended).await {
            Ok(state) => state.linked(),
            Err(_) => Err(no_connection()),
        }
    }

    fn note(self: &Arc<Self>, attempt: u64, error: &RedisError) {
        if is_doubtful(error) {
            self.doubt(DOUBT_AFTER);
        } else if !is_answer(error) && error.is_unrecoverable_error() {
            if D::MENDS_ITSELF {
                self.doubt(DOUBT_AFTER);
            } else {
                forget(&self.state, attempt);
            }
        }
    }

    /// Dials again, unless the connection or the last attempt is younger than `age`.
    fn doubt(self: &Arc<Self>, age: Duration) {
        let old = {
            let state = self.state.borrow();
            let since = state.current.as_ref().map(|current| current.since);
            let last = state.last.as_ref().map(|(ended, _)| *ended);
            since.into_iter().chain(last).all(|time| time.elapsed() > age)
        };
        if old {
            self.connect();
        }
    }

    fn connect(self: &Arc<Self>) {
        let first =
            self.state.send_if_modified(|state| !std::mem::replace(&mut state.dialing, true));
        if first {
            // Ends also when this panics or its runtime ends, even before the task's first poll.
            let (link, attempt) = (self.clone(), Attempt(Some(self.clone())));
            tokio::spawn(async move {
                let replacing = link.state.borrow().current.is_some();
                let dialled = tokio::time::timeout(D::LIMIT, link.dial.dial(replacing)).await;
                attempt.end(dialled.unwrap_or_else(|_| Err(no_connection())));
            });
        }
    }
}

impl<C> State<C> {
    fn ended(&mut self) {
        self.dialing = false;
        self.attempts += 1;
    }
}

impl<C: Clone> State<C> {
    fn linked(&self) -> RedisResult<Linked<C>> {
        match (&self.current, &self.last) {
            (Some(current), _) => Ok(current.link.clone()),
            (None, Some((_, Some(error)))) => Err(error.clone()),
            (None, _) => Err(no_connection()),
        }
    }

    /// A server that refuses the password is not asked again with every command.
    fn refused(&self) -> Option<RedisError> {
        let (ended, error) = self.last.as_ref()?;
        let error = error.as_ref()?;
        let refused = error.kind() == ErrorKind::AuthenticationFailed || is_doubtful(error);
        (refused && ended.elapsed() < DOUBT_AFTER).then(|| error.clone())
    }
}

/// None once it has ended.
struct Attempt<D: Dial>(Option<Arc<Link<D>>>);

impl<D: Dial> Attempt<D> {
    fn end(mut self, dialled: RedisResult<D::Connection>) {
        let Some(link) = self.0.take() else { return };
        let now = Instant::now();
        let (error, connection) = match dialled {
            Ok(connection) => (None, Some(connection)),
            Err(error) => (Some(error), None),
        };
        let (mut replaced, mut watched) = (None, None);
        // In one step: a command whose new connection breaks at once can dial again.
        link.state.send_modify(|state| {
            state.last = Some((now, error));
            if let Some(connection) = connection {
                let link = Linked { connection, attempt: state.attempts };
                let (sender, ended) = oneshot::channel();
                watched = Some((link.attempt, ended));
                replaced = state.current.replace(Current { link, since: now, _replaced: sender });
            }
            state.ended();
        });
        // Not under the lock: a connection's end may run other code, and a runtime that shuts down drops the task at
        // once, which takes the lock.
        if let Some((attempt, replaced)) = watched {
            watch_runtime(&link, attempt, replaced);
        }
        drop(replaced);
    }
}

impl<D: Dial> Drop for Attempt<D> {
    fn drop(&mut self) {
        if let Some(link) = &self.0 {
            link.state.send_modify(State::ended);
        }
    }
}

/// A connection's tasks end with the runtime that dialled it. So does this one, which takes the connection with it:
/// the next command dials in its own runtime.
fn watch_runtime<D: Dial>(link: &Arc<Link<D>>, attempt: u64, replaced: oneshot::Receiver<()>) {
    let watching = Watching { link: Arc::downgrade(link), attempt };
    tokio::spawn(async move {
        let _watching = watching;
        let _ = replaced.await;
    });
}

struct Watching<D: Dial> {
    link: Weak<Link<D>>,
    attempt: u64,
}

impl<D: Dial> Drop for Watching<D> {
    fn drop(&mut self) {
        if let Some(link) = self.link.upgrade() {
            forget(&link.state, self.attempt);
        }
    }
}

/// Only if it is still the one of this attempt.
fn forget<C>(state: &watch::Sender<State<C>>, attempt: u64) {
    let mut forgotten = None;
    state.send_if_modified(|state| {
        forgotten = state.current.take_if(|current| current.link.attempt == attempt);
        forgotten.is_some()
    });
    drop(forgotten);
}

fn no_connection() -> RedisError {
    (ErrorKind::Io, "no server answers").into()
}

/// The answer as a fault, if it is one.
pub(super) fn typed<T>(answer: Result<Result<T, RedisError>, Fault>) -> Result<T, Fault> {
    answer?.map_err(to_fault)
}

#[cfg(test)]
mod tests {
    use ::redis::aio::MultiplexedConnection;

    use super::*;

    struct Nobody;

    impl Dial for Nobody {
        type Connection = MultiplexedConnection;
        const LIMIT: Duration = Duration::from_secs(1);

        async fn dial(&self, _: bool) -> RedisResult<MultiplexedConnection> {
            Err(no_connection())
        }
    }

    #[test]
    fn an_attempt_whose_runtime_ends_before_it_begins_is_followed_by_another() {
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build();
        let link = Arc::new(Link::new(Nobody));
        let first = runtime().expect("a runtime");
        first.block_on(async { link.connect() });
        drop(first);
        let dialled = runtime()
            .expect("a runtime")
            .block_on(async { tokio::time::timeout(Duration::from_secs(60), link.get()).await });
        assert!(dialled.expect("an attempt that ends").is_err());
    }
}
