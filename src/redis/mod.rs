//! Redis: how to reach it, the far tier on it, and locks.

mod channels;
mod connection;
mod elected;
mod far;
mod fault;
mod lock;
mod message;
mod messages;
mod namespace;
mod records;
mod replicas;
mod script;
mod sentinel;

pub use self::{
    connection::Connection,
    elected::ElectedFar,
    far::RedisFar,
    lock::{RedisLock, RedisQuorumLock},
};
