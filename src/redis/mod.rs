//! How to reach Redis: a single server by URL, a Cluster, or a pool that the service already has.

mod connection;

pub use self::connection::Connection;
pub(crate) use self::connection::{subscribe, typed};
