//! The scenarios. Parts of the guard that only their neighbours see are included once more, to run by themselves.

#[expect(dead_code, reason = "a guard uses the rest")]
#[path = "../../../../src/guard/bulkhead.rs"]
mod bulkhead;
#[path = "../../../../src/guard/limits.rs"]
mod limits;
#[path = "../../../../src/guard/wakeups.rs"]
mod wakeups;

mod bulkhead_runs;
mod flight_runs;
mod guard_runs;
mod link;
mod wakeup_runs;
mod world;

use crate::run::Scenario;

/// All there are, by what they are about.
pub const ALL: &[(&str, &[Scenario])] = &[
    ("flight", flight_runs::SCENARIOS),
    ("wakeup", wakeup_runs::SCENARIOS),
    ("bulkhead", bulkhead_runs::SCENARIOS),
    ("guard", guard_runs::SCENARIOS),
];
