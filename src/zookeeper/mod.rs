//! ZooKeeper 3.5 or later: a session with an ensemble, and a lock.

mod claim;
mod dir;
mod fault;
mod link;
mod lock;
mod node_lease;
mod session;

pub use self::{lock::ZookeeperLock, session::Session};
