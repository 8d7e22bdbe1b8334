//! A pool of connections that the service already has.

use std::time::Duration;

use ::redis::{ErrorKind, FromRedisValue, RedisError, RedisResult, aio::MultiplexedConnection};
use deadpool_redis::{Connection, Pool, PoolError};

use super::{
    command::Command,
    fault::{is_answer, is_doubtful},
    gate::Gate,
};
use crate::{Fault, FaultKind};

pub(super) struct Pooled {
    pool: Pool,
    gate: Gate,
}

impl Pooled {
    pub(super) fn new(pool: Pool) -> Self {
        let gate = Gate::new(pool.status().max_size.max(1));
        Self { pool, gate }
    }

    pub(super) async fn send<T: FromRedisValue + Send>(
        &self,
        command: &impl Command,
        timeout: Duration,
    ) -> Result<Result<T, RedisError>, Fault> {
        let mut taken = None;
        let sending = async {
            let connection = taken.insert(self.checked_out().await?);
            command.over(connection).await
        };
        let answer = self.gate.pass(command.lane(), timeout, sending).await;
        let is_suspect = match &answer {
            // Others have the pool's connections: that says nothing about the server.
            Err(_) if taken.is_none() && self.is_taken() => {
                return Err(FaultKind::Busy.into());
            }
            Err(_) => true,
            Ok(Err(error)) => is_doubtful(error) || !is_answer(error),
            Ok(Ok(_)) => false,
        };
        if let Some(connection) = taken.filter(|_| is_suspect) {
            // It does not go back to the pool: the next command gets another.
            drop(Connection::take(connection));
        }
        answer
    }

    /// Whether others have all connections. Those that are being made do not count: then the server does not answer.
    fn is_taken(&self) -> bool {
        let status = self.pool.status();
        status.size >= status.max_size && status.available == 0
    }

    /// A connection that no longer belongs to the pool.
    pub(super) async fn own(&self) -> RedisResult<MultiplexedConnection> {
        Ok(Connection::take(self.checked_out().await?))
    }

    async fn checked_out(&self) -> RedisResult<Connection> {
        self.pool.get().await.map_err(|error| match error {
            PoolError::Backend(error) => error,
            _ => (ErrorKind::Io, "no connection from the pool").into(),
        })
    }
}
