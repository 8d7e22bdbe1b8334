#![doc = include_str!("guide/links.md")]
#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(unreachable_pub)]

pub mod guide;

// Vocabulary: values, no I/O.
mod clock;
pub mod codec;
mod entry;
mod error;
mod fault;
mod fetched;
mod key;
mod loaded;
mod loader;
mod outcome;
mod policy;
mod size;
mod sync;
mod terms;
mod token;
mod version;

// What the systems share.
mod backoff;
#[cfg(any(feature = "redis", feature = "postgres"))]
mod subscription;

// The contracts.
pub mod far;
pub mod lock;

// Systems: a folder each, everything that knows the system in it.
pub mod memory;
#[cfg(feature = "mysql")]
pub mod mysql;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(any(feature = "postgres", feature = "mysql"))]
mod sql;
#[cfg(feature = "zookeeper")]
pub mod zookeeper;

// The guard, and what stands on it.
mod flight;
mod freshness;
mod guard;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "metrics")]
pub mod metrics;
mod near;
mod observe;
pub mod tower;

// What `fuzz/` calls, and the replay of its corpora.
#[cfg(all(any(test, fuzzing), feature = "redis", feature = "http"))]
#[doc(hidden)]
pub mod fuzzing;

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
