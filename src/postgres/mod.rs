//! The connection to PostgreSQL.

mod connections;
mod subscriber;

pub use self::connections::Connections;
pub(crate) use self::subscriber::{Listener, State, Subscriber, hash};
