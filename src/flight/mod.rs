//! Flights: one load in progress in this process, and the callers that share it.
//!
//! ```text
//! board ─┬─ no caller is there ▶ SoloReader ─┬─ found ─────────────▶ completed, no flight
//!        │                                  └─ not found, or stale ▶ a flight
//!        ├─ a solo reader is there ────────▶ a flight beside it (Leader)
//!        └─ a flight is there ─────────────▶ Follower
//!
//! flight: the task has the Completer, each caller a Waiter
//! ```
//!
//! - The first caller of a name is a [`SoloReader`]: it looks into the far tier by itself, which is all that
//!   most misses of the near tier need. The second caller that comes while it looks, or the first when it
//!   found nothing, starts a flight.
//! - A flight is a spawned task that holds a [`Completer`]; callers hold a [`Waiter`] and come and go
//!   freely. A dropped, aborted or never polled caller changes nothing for the others; a solo reader has
//!   no others.
//! - At most one solo reader or one flight of a name is *open*: in the map, where callers find it. It
//!   leaves the map when it completes, when an invalidation closes it, and when its holder is dropped.
//! - An answer may be visible only to callers that boarded before an [`Epoch`], because what was read from
//!   far tier or origin before a caller came may be older than an invalidation that this caller knows of.
//!   The others go round again.
//! - Only what is open fills the near tier, under the name's lock, where invalidations also run: either
//!   the invalidation finds it open, and closes it unfilled, or it comes after the near entry, and
//!   drops it. [`Flights`] states the order of locks.
//!
//! Not `futures::future::Shared`: it can miss a wake-up when the clone that polls is dropped
//! (rust-lang/futures-rs#2706), which is our callers' daily life.

mod boarding;
mod completer;
mod depth;
#[expect(clippy::module_inception, reason = "the noun that the others are about")]
mod flight;
mod flights;
mod solo;
mod solo_state;
#[cfg(test)]
mod tests;
mod waiter;

pub(crate) use self::{
    boarding::{Boarded, Boarding},
    completer::Completer,
    depth::Depth,
    flight::{Completion, Epoch, Provisional},
    flights::Flights,
    solo::SoloReader,
    waiter::Waiter,
};
