//! Entries, tombstones and leases in Redis. Everything that writes is one atomic script;
//! `lua/prelude.lua` states what the scripts and [`header`] write.
//!
//! - [`store`]: the records of one namespace, and how an entry is read from bytes.
//! - [`reading`]: `GET` and `MGET`. [`leasing`]: who may load. [`writing`]: commit, put, invalidate.
//! - [`scripts`]: the scripts, put together from `lua/`. [`reply`]: their answers.
//! - [`probe`]: what the server lets us do, and what it costs where it does not.
//! - [`server_clock`]: all times are the server's.

mod header;
mod leasing;
mod probe;
mod reading;
mod reply;
mod scripts;
mod server_clock;
mod store;
mod writing;

#[cfg(any(test, fuzzing))]
pub(super) use self::{
    header::{Kind, back_off, before_value, grant},
    server_clock::ServerClock,
    store::read,
};
pub(super) use self::{
    leasing::OpenReply,
    reading::LookUp,
    reply::malformed,
    scripts::{BY_CLOCK, BY_LOCK},
    store::Records,
};
