//! The scenarios. What only the guard's own files see is included here once more.

mod flight_runs;
mod guard_runs;
mod link;
mod world;

use crate::run::Scenario;

/// All there are, by what they are about.
pub const ALL: &[(&str, &[Scenario])] =
    &[("flight", flight_runs::SCENARIOS), ("guard", guard_runs::SCENARIOS)];
