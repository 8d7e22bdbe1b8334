//! The sources of `cattleguard`, over shuttle's locks, atomics and tasks, and scenarios that run them in many
//! schedules. See the README.
//!
//! The list of modules is that of the library's `lib.rs`, without features.

#[path = "../../../src/backoff.rs"]
mod backoff;
#[path = "../../../src/clock.rs"]
mod clock;
#[path = "../../../src/codec.rs"]
pub mod codec;
#[path = "../../../src/entry.rs"]
mod entry;
#[path = "../../../src/error.rs"]
mod error;
#[path = "../../../src/far/mod.rs"]
pub mod far;
#[path = "../../../src/fault.rs"]
mod fault;
#[path = "../../../src/fetched.rs"]
mod fetched;
#[path = "../../../src/flight/mod.rs"]
mod flight;
#[path = "../../../src/freshness.rs"]
mod freshness;
#[path = "../../../src/guard/mod.rs"]
mod guard;
#[path = "../../../src/key.rs"]
mod key;
#[path = "../../../src/loaded.rs"]
mod loaded;
#[path = "../../../src/loader.rs"]
mod loader;
#[path = "../../../src/lock/mod.rs"]
pub mod lock;
#[path = "../../../src/memory/mod.rs"]
pub mod memory;
#[path = "../../../src/near/mod.rs"]
mod near;
#[path = "../../../src/observe/mod.rs"]
mod observe;
#[path = "../../../src/outcome.rs"]
mod outcome;
#[path = "../../../src/policy.rs"]
mod policy;
pub mod run;
pub mod scenarios;
#[path = "../../../src/size.rs"]
mod size;
mod sync;
#[path = "../../../src/terms.rs"]
mod terms;
#[path = "../../../src/token.rs"]
mod token;
#[path = "../../../src/tower/mod.rs"]
pub mod tower;
#[path = "../../../src/version.rs"]
mod version;

pub use self::{
    clock::{Clock, Moment},
    entry::Entry,
    error::Error,
    fault::{Fault, FaultKind},
    fetched::Fetched,
    guard::{FetchOptions, Guard, GuardBuilder, Invalidation, Loaders, LoadingGuard, Shutdown},
    key::{Key, Name},
    loaded::Loaded,
    loader::Loader,
    observe::{GuardEvent, GuardEventKind, Refusal},
    outcome::{Bypass, Outcome, StaleReason, Tier, Write},
    policy::Policy,
    tower::GuardLayer,
    version::{NegativeVersion, Version},
};
