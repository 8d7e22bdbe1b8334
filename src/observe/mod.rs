//! What a guard does, as metrics and as the outcome on its spans: [`crate::metrics`] says which.
//!
//! The guard says here what has happened. What becomes of it are the handles: with the feature `metrics`
//! those of the recorder, made once per guard, because to look one up costs more than a near hit; without
//! it types without size. A handle may be used under a lock: it is an atomic of the recorder's, and none of
//! the code that a guard must not run there.
//!
//! The hook of the user's is such code. What tells it of events, all but the counting of near hits, gauges and the
//! near tier, is called without a lock.

mod event;
mod fetching;
mod hook;
mod load;
mod near_usage;
mod observer;
#[cfg(feature = "metrics")]
mod recorded;
#[cfg(not(feature = "metrics"))]
mod silent;

pub use self::event::{GuardEvent, GuardEventKind, Refusal};
#[cfg(feature = "metrics")]
pub(crate) use self::recorded::{Gauge, Stopwatch};
#[cfg(not(feature = "metrics"))]
pub(crate) use self::silent::{Gauge, Stopwatch};
pub(crate) use self::{
    hook::EventHook,
    near_usage::{EvictedFor, NearUsage},
    observer::{Gauges, Observer, Up},
};
