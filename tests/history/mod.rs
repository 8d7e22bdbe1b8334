//! What a run was seen to do, and whether it kept the promises: for fleets in simulated time (`tests/simulation`) and in real
//! time (`examples/torture`). [`judge`] reads nothing but the record: it knows no line of the library.

mod answers;
mod event;
mod faults;
mod freshness;
mod judge;
mod loads;
mod overtaken;
mod record;
#[cfg(test)]
mod tests;
mod verdict;
mod words;

pub use event::{Answer, Deed, Event, Micros, Reached, Span};
pub use faults::{Fault, Kind};
pub use judge::judge;
pub use record::Bounds;
pub use verdict::{Admitted, Breach, Promise, Verdict};
