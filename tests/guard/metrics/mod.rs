//! What a recorder hears of a guard.

use std::borrow::Borrow;

use cattleguard::{Error, Fetched, Loaded, Policy, far::Far};

use self::recorder::{Recorder, Spans, Tally};
use crate::{TestGuard, builder, origin::Broken};

mod far;
mod fetches;
mod loads;
mod page;
mod recorder;
mod stale;

const FETCHES: &str = "cattleguard_fetches_total";
const LOADS: &str = "cattleguard_loads_total";
const IN_PROGRESS: &str = "cattleguard_loads_in_progress";
const QUEUED: &str = "cattleguard_loads_queued";
const FLIGHTS: &str = "cattleguard_flights_open";

/// What the load of a batch comes to.
type Rows = Result<Vec<(&'static str, Loaded<String>)>, Broken>;

fn watched(recorder: &Recorder, far: impl Far<String>, policy: Policy) -> TestGuard {
    recorder.during(|| builder().name("users").policy(policy).far(far).build())
}

/// The word that an answer carries.
fn word<V>(answer: &Result<Fetched<V>, Error>) -> &'static str {
    match answer {
        Ok(fetched) => fetched.outcome().as_str(),
        Err(error) => error.as_str(),
    }
}

fn tally<W: Borrow<str>>(words: impl IntoIterator<Item = W>) -> Tally {
    let mut tally = Tally::new();
    for word in words {
        *tally.entry(word.borrow().to_owned()).or_default() += 1;
    }
    tally
}
