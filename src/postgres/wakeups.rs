//! Messages about released names: one connection that listens for all waiters of a process.
//!
//! 1. A waiter registers, waits until the connection listens, and asks for the lock again: that finds a
//!    release before, and a release after is announced.
//! 2. Messages may be lost when the connection breaks: all waiters try once, and poll until there is
//!    another connection.

use std::{sync::Arc, time::Duration};

use sqlx::{
    Executor, Postgres,
    postgres::{PgConnectOptions, PgListener, PgPoolOptions},
};
use tokio::time::{Instant, timeout};

use super::{
    channel::CHANNEL,
    pool::Pool,
    waiting::{Names, Waiter},
};
use crate::{
    Fault,
    backoff::Backoff,
    sql::Failure,
    subscription::{Feed, Subscription},
};

const PING_EVERY: Duration = Duration::from_millis(500);

pub(super) struct Wakeups {
    subscription: Subscription<Notifications>,
    names: Arc<Names>,
    timeout: Duration,
}

impl Wakeups {
    /// Takes one connection to the same server, besides those of the pool.
    pub(super) fn new(pool: &Pool) -> Self {
        let (names, timeout) = (Arc::new(Names::default()), pool.0.timeout());
        let options = pool.0.options().clone();
        let feed = Notifications { options, timeout, names: names.clone() };
        Self { subscription: Subscription::new(feed), names, timeout }
    }

    /// Registers a waiter, and gives the first connection time to listen.
    pub(super) async fn wait(&self, name: &str, deadline: Instant) -> Waiter {
        let waiter = self.names.register(name, self.subscription.states());
        let rest = deadline.saturating_duration_since(Instant::now());
        // While it does not, the waiter polls.
        self.subscription.ready(rest.min(self.timeout)).await;
        waiter
    }
}

/// The channel as PostgreSQL's `LISTEN` delivers it.
struct Notifications {
    options: PgConnectOptions,
    /// For connecting, and for the answer to a ping.
    timeout: Duration,
    names: Arc<Names>,
}

impl Feed for Notifications {
    type Connection = PgListener;

    const BACKOFF: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_millis(500));

    async fn connect(&self, _: usize) -> Result<PgListener, Fault> {
        // The driver's listener takes its connection from a pool: one for this connection only.
        let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(self.timeout);
        let pool = pool.idle_timeout(None).max_lifetime(None);
        let pool = pool.connect_lazy_with(self.options.clone());
        let listening = async {
            let mut connection = PgListener::connect_with(&pool).await?;
            // The driver would reconnect without saying that messages may have been lost.
            connection.eager_reconnect(false);
            connection.ignore_pool_close_event(true);
            connection.listen(CHANNEL).await?;
            Ok(connection)
        };
        Ok(self.within(listening).await?)
    }

    async fn deliver(&self, mut connection: PgListener) -> Result<(), Fault> {
        loop {
            match timeout(PING_EVERY, connection.try_recv()).await {
                Ok(Ok(Some(notification))) => {
                    if let Ok(message) = notification.payload().parse() {
                        self.names.notify(message);
                    }
                }
                Ok(Ok(None)) => return Ok(()),
                Ok(Err(error)) => return Err(Failure::of::<Postgres>(error).into()),
                // The driver keeps what arrives meanwhile.
                Err(_) => self.within(connection.execute("")).await.map(drop)?,
            }
        }
    }

    fn on_connected(&self) {
        self.names.notify_all();
    }

    fn on_disconnected(&self) {
        self.names.notify_all();
    }
}

impl Notifications {
    async fn within<T>(
        &self,
        work: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, Failure> {
        match timeout(self.timeout, work).await {
            Ok(done) => done.map_err(Failure::of::<Postgres>),
            Err(_) => Err(Failure::Timeout),
        }
    }
}
