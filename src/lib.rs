#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(unreachable_pub)]

mod clock;
pub mod codec;
mod entry;
mod error;
pub mod far;
mod flight;
mod guard;
#[cfg(feature = "http")]
pub mod http;
mod key;
pub mod lock;
#[cfg(feature = "metrics")]
pub mod metrics;
#[cfg(feature = "mysql")]
pub mod mysql;
mod near;
pub mod notify;
mod observe;
mod outcome;
mod policy;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(any(feature = "postgres", feature = "mysql"))]
mod sql;
pub mod store;
pub mod tower;
mod version;
#[cfg(feature = "zookeeper")]
pub mod zookeeper;

pub use self::{
    clock::{Clock, Moment},
    entry::{Entry, Fetched, Loaded},
    error::Error,
    guard::{Guard, GuardBuilder, Invalidation, Shutdown, Write},
    key::{Key, Name},
    outcome::{Bypass, Outcome, Tier, Trouble},
    policy::Policy,
    tower::GuardLayer,
    version::Version,
};
