//! Whether replicas have what was written: Redis' `WAIT`.
//!
//! A `WAIT` holds up the commands behind it, and is about the writes of its own connection. So it has a
//! connection of its own, after a small write there: replicas that have that write have all that the server
//! accepted before it.

use std::{sync::LazyLock, time::Duration};

use ::redis::{Cmd, Script};

use super::{connection::Connection, fault::within, namespace::millis, options::CONNECT_TIMEOUT};
use crate::{Fault, FaultKind};

/// A DEL first: a server whose memory is full finishes a script that began with one.
static MARK: LazyLock<Script> = LazyLock::new(|| {
    Script::new("redis.call('DEL', KEYS[1]) return redis.call('SET', KEYS[1], '', 'PX', 1)")
});

impl Connection {
    /// Writes `mark`, a key without a meaning, and returns how many replicas have it: as soon as `replicas` of
    /// them do, or after `timeout`.
    pub(crate) async fn replicated(
        &self,
        mark: &str,
        replicas: usize,
        timeout: Duration,
    ) -> Result<usize, Fault> {
        if self.is_cluster() {
            let text = "confirmation by replicas is not supported in a Redis Cluster";
            return Err(Fault::new(FaultKind::Config, text));
        }
        let limit = timeout.saturating_add(self.far_timeout()).saturating_add(CONNECT_TIMEOUT);
        let asking = async {
            let mut own = self.own().await?;
            // A pool's connection brings a shorter one.
            own.set_response_timeout(limit);
            MARK.key(mark).invoke_async::<()>(&mut own).await?;
            let mut wait = Cmd::new();
            wait.arg("WAIT").arg(replicas.min(i32::MAX as usize)).arg(millis(timeout));
            wait.query_async(&mut own).await
        };
        within(limit, asking).await
    }
}
