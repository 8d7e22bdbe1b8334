use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use ::redis::Script;
use tokio::time::Instant;

use crate::{
    Fault,
    lock::{Lease, LeaseBackend, Renewal, Validity},
    redis::{
        connection::Connection,
        namespace::{Namespace, millis},
        script::script,
    },
    token::Token,
};

const PRELUDE: &str = include_str!("lua/prelude.lua");

static ACQUIRE: LazyLock<Script> =
    LazyLock::new(|| script(&[PRELUDE, include_str!("lua/acquire.lua")]));
static RENEW: LazyLock<Script> =
    LazyLock::new(|| script(&[PRELUDE, include_str!("lua/renew.lua")]));
static RELEASE: LazyLock<Script> =
    LazyLock::new(|| script(&[PRELUDE, include_str!("lua/release.lua")]));

pub(super) enum Answer {
    Granted(u64),
    /// With the rest of the lease. `None` for a free lock whose turn is another waiter's.
    Held {
        remaining: Option<Duration>,
    },
}

/// One server's scripts.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) connection: Connection,
    pub(super) keys: Arc<Namespace>,
}

impl Server {
    fn script<'a>(&self, script: &'a Script, name: &str) -> ::redis::ScriptInvocation<'a> {
        let mut call = script.key(self.keys.key(name));
        for suffix in [":f", ":q", ":w"] {
            call.key(self.keys.key_with(name, suffix));
        }
        call
    }

    /// One attempt. A `waiter` that is not empty stands in the queue afterwards if the lock is held.
    pub(super) async fn acquire(
        &self,
        name: &str,
        token: Token,
        ttl: Duration,
        waiter: &[u8],
    ) -> Result<Answer, Fault> {
        let mut call = self.script(&ACQUIRE, name);
        call.arg(token.as_bytes()).arg(millis(ttl)).arg(waiter);
        let (granted, number): (i64, i64) = self.connection.run(&call).await?;
        Ok(match (granted, u64::try_from(number)) {
            (1, Ok(fence)) => Answer::Granted(fence),
            (_, remaining) => Answer::Held { remaining: remaining.ok().map(Duration::from_millis) },
        })
    }

    /// Extends the lease, and raises its fence to this one at least.
    pub(super) async fn renew(
        &self,
        name: &str,
        token: Token,
        ttl: Duration,
        fence: Option<u64>,
    ) -> Result<Renewal, Fault> {
        let mut call = self.script(&RENEW, name);
        call.arg(token.as_bytes()).arg(millis(ttl));
        call.arg(fence.map(|fence| fence.to_string()).unwrap_or_default());
        let renewed: i64 = self.connection.run(&call).await?;
        Ok(if renewed == 1 { Renewal::Renewed } else { Renewal::Lost })
    }

    /// Ends the lease of the token, and the wait of `waiter`.
    pub(super) async fn release(
        &self,
        name: &str,
        token: Token,
        waiter: &[u8],
    ) -> Result<(), Fault> {
        let mut call = self.script(&RELEASE, name);
        call.arg(token.as_bytes()).arg(waiter);
        self.connection.run(&call).await
    }

    /// The lease that was granted. `asked` is the moment before the server was.
    pub(super) fn lease(
        &self,
        name: &str,
        token: Token,
        fence: u64,
        ttl: Duration,
        asked: Instant,
    ) -> Lease {
        let backend = ServerLease { server: self.clone(), name: name.into(), token };
        Lease::new(name, fence, ttl, Validity::since(asked, ttl), backend)
    }
}

/// A lease at one server.
struct ServerLease {
    server: Server,
    name: Arc<str>,
    token: Token,
}

impl LeaseBackend for ServerLease {
    async fn renew(&mut self, ttl: Duration) -> Result<Renewal, Fault> {
        self.server.renew(&self.name, self.token, ttl, None).await
    }

    async fn release(self) -> Result<(), Fault> {
        self.server.release(&self.name, self.token, &[]).await
    }
}
