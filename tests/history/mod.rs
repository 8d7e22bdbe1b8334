//! What a run was seen to do, and whether it kept the promises: for fleets in simulated time (`tests/simulation`) and in real
//! time (`examples/torture`). [`judge`] reads nothing but the record: it knows no line of the library.

mod event;
mod faults;
mod judge;
mod words;

pub use event::{Answer, Deed, Event, Micros, Reached, Span};
pub use faults::{Admitted, Fault, Kind};
pub use judge::{Bounds, Breach, Verdict, judge};
