//! What locks on PostgreSQL and on MariaDB or MySQL share: connections, lease rows, session locks.

mod background;
mod failure;
mod pool;
pub(crate) mod row;
mod server;
pub(crate) mod session;

pub(crate) use self::{
    failure::Failure,
    pool::{ANSWER_SLACK, Pool, Pooled},
    server::Server,
};
