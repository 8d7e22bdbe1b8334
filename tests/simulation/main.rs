//! Whole fleets in simulated time: guards on one store, each behind a way of its own on which commands and messages are
//! delayed, lost, repeated and overtaken, beside processes that freeze and die, a store that forgets, and an origin that fails
//! and lags. Everything is drawn from one seed, so a seed that fails fails again:
//!
//! ```text
//! SIMULATION_SEED=17 cargo test --all-features --test simulation deaf
//! SIMULATION_SEED=1 SIMULATION_SEEDS=5000 cargo test --all-features --test simulation
//! ```

#[path = "../history/mod.rs"]
mod history;

mod fleet;
mod life;
mod link;
mod mailbox;
mod nemesis;
mod origin;
mod profile;
mod record;
mod run;
mod store;
mod world;

use std::env;

use self::{history::Promise, profile::Profile, run::run};

/// How many seeds of each profile.
const SEEDS: u64 = 140;

fn check(profile: Profile, seeds: u64) {
    let number = |name: &str| env::var(name).ok().and_then(|number| number.parse::<u64>().ok());
    let replayed = number("SIMULATION_SEED");
    let seeds = number("SIMULATION_SEEDS").unwrap_or(if replayed.is_some() { 1 } else { seeds });
    let first = replayed.unwrap_or(1);
    let mut asked = Vec::new();
    for seed in first..first + seeds {
        let ran = run(profile, seed);
        let verdict = ran.verdict();
        let complaints = ran.complaints(&verdict);
        assert!(
            complaints.is_empty(),
            "{}\nSIMULATION_SEED={seed} cargo test --all-features --test simulation {}",
            complaints.join("\n"),
            format!("{profile:?}").to_lowercase()
        );
        asked.extend(verdict.asked.into_keys());
    }
    for promise in ASKED {
        assert!(asked.contains(&promise) || replayed.is_some(), "{promise:?} is never tested");
    }
}

/// What every profile puts to the test.
const ASKED: [Promise; 7] = [
    Promise::OneLoad,
    Promise::NeverBackwards,
    Promise::NoResurrection,
    Promise::FreshHere,
    Promise::FreshElsewhere,
    Promise::EveryCallerAnswered,
    Promise::OriginSafe,
];

macro_rules! profiles {
    ($($name:ident: $profile:ident,)*) => {$(
        #[test]
        fn $name() {
            check(Profile::$profile, SEEDS);
        }
    )*};
}

profiles! {
    // Without a fault nothing is admitted.
    calm: Calm,
    late: Late,
    deaf: Deaf,
    cut: Cut,
    partition: Partition,
    away: Away,
    forgetful: Forgetful,
    rewound: Rewound,
    full: Full,
    killed: Killed,
    frozen: Frozen,
    clock: Clock,
    origin: Origin,
    lag: Lag,
    everything: Everything,
}

#[test]
fn thousand() {
    check(Profile::Thousand, 1);
}

#[test]
fn a_seed_gives_the_same_events_again() {
    for profile in [Profile::Calm, Profile::Clock, Profile::Everything] {
        for seed in 1..=15 {
            let (once, again) = (run(profile, seed), run(profile, seed));
            let pairs = once.events.iter().zip(&again.events);
            let differs = pairs.enumerate().find(|(_, (one, other))| one != other);
            assert_eq!(differs, None, "{profile:?} {seed}");
            assert_eq!(once.events.len(), again.events.len(), "{profile:?} {seed}");
        }
    }
}
