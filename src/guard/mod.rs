//! The guard: the story of one fetch, a noun or a verb per file.
//!
//! ```text
//! fetch ─▶ near tier ─ fresh ─▶ answer                                    fetch
//!   │ anything else
//!   ▼
//! board ─▶ a solo reader reads the far tier ─ found ─▶ answer             boarding
//!   │ not found, or a flight is there
//!   ▼
//! flight ─▶ look up or lease ─ held ─▶ wait for the holder, look again    flight_task
//!   │ granted
//!   ▼
//! load (bulkhead, origin) ─▶ commit ─▶ complete: near tier, then callers  load · leased · complete
//! ```
//!
//! What an entry is worth now is judged in `freshness`, who may call the far tier in `far_access`, how a near
//! entry comes and goes in `coherence`, what callers get when the origin does not answer in `fallback`.

mod answer;
mod batch;
mod boarding;
mod breaker;
mod builder;
mod bulkhead;
mod bypass;
mod coherence;
mod core;
mod departure;
mod epochs;
mod failure_backoff;
mod fallback;
mod far_access;
mod fetch;
mod flight_task;
mod leased;
mod limits;
mod load;
mod loader;
mod loading_guard;
mod nesting;
mod options;
mod passes;
mod pending;
mod recovery;
mod refresh;
mod reload;
mod renewing;
mod serving;
mod shutdown;
mod tags;
mod tasks;
mod waiting;
mod wakeups;
mod write;

pub use self::{
    builder::GuardBuilder,
    core::Guard,
    loading_guard::{Loaders, LoadingGuard},
    options::FetchOptions,
    shutdown::Shutdown,
    write::Invalidation,
};
#[cfg(feature = "http")]
pub(crate) use self::{
    loader::{FlightLoader, LoadBudget},
    tags::Before,
};
