//! How to reach ZooKeeper: an ensemble by its addresses.

mod link;
mod session;

pub use self::session::Session;
pub(crate) use self::{link::Link, session::typed};
