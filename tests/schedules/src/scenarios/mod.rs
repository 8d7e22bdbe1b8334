//! The scenarios. Parts of the guard that only their neighbours see are included once more, to run by themselves.

#[expect(dead_code, reason = "a guard uses the rest")]
#[path = "../../../../src/guard/breaker.rs"]
mod breaker;
#[expect(dead_code, reason = "a guard uses the rest")]
#[path = "../../../../src/guard/bulkhead.rs"]
mod bulkhead;
#[expect(dead_code, reason = "a guard uses the rest")]
#[path = "../../../../src/guard/epochs.rs"]
mod epochs;
#[path = "../../../../src/guard/limits.rs"]
mod limits;
#[path = "../../../../src/guard/pending.rs"]
mod pending;
#[path = "../../../../src/guard/wakeups.rs"]
mod wakeups;

mod breaker_runs;
mod bulkhead_runs;
mod caller_runs;
mod epoch_runs;
mod flight_runs;
mod guard_runs;
mod link;
mod near_runs;
mod outage_runs;
mod pending_runs;
mod wakeup_runs;
mod world;

use crate::run::Scenario;

/// All there are, by what they are about.
pub const ALL: &[(&str, &[Scenario])] = &[
    ("flight", flight_runs::SCENARIOS),
    ("wakeup", wakeup_runs::SCENARIOS),
    ("bulkhead", bulkhead_runs::SCENARIOS),
    ("breaker", breaker_runs::SCENARIOS),
    ("pending", pending_runs::SCENARIOS),
    ("near", near_runs::SCENARIOS),
    ("epoch", epoch_runs::SCENARIOS),
    ("guard", guard_runs::SCENARIOS),
    ("callers", caller_runs::SCENARIOS),
    ("outage", outage_runs::SCENARIOS),
];
