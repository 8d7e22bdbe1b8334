//! Real processes, killed and frozen, over a real Redis.
//!
//! This program starts itself as `worker`: a process with a guard, told what to do by lines on standard
//! input. The "database" is a row in the same Redis, so every process reads and counts the same one.

use std::{process::ExitCode, time::Duration};

use libtest_mimic::{Arguments, Trial};

#[path = "../servers/mod.rs"]
mod servers;

mod fleet;
mod promises;
mod worker;

fn main() -> ExitCode {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    if std::env::args().nth(1).as_deref() == Some("worker") {
        runtime.block_on(worker::live(std::env::args().nth(2).expect("a URL")));
        return ExitCode::SUCCESS;
    }
    macro_rules! trials {
        ($($test:ident),* $(,)?) => {
            vec![$(Trial::test(stringify!($test), || {
                let runtime = tokio::runtime::Runtime::new().expect("a runtime");
                let limit = Duration::from_secs(60);
                let test = async { tokio::time::timeout(limit, promises::$test()).await };
                runtime.block_on(test).map_err(|_| "did not end within 60 s".into())
            })),*]
        };
    }
    let trials = trials!(
        one_load_for_a_thousand_callers_in_four_processes,
        a_killed_holder_costs_one_lease,
        a_frozen_holder_wakes_up_and_is_refused,
        an_older_write_after_a_newer_one_is_refused,
        an_invalidation_during_a_load_keeps_its_value_out,
        no_process_answers_older_than_an_acknowledged_invalidation,
        two_loads_of_one_process_around_an_invalidation_are_told_apart,
        a_lagging_read_is_refused_and_repeated,
        huge_versions_keep_their_order,
        no_wake_up_is_lost,
        a_load_longer_than_its_lease_keeps_it,
    );
    let mut arguments = Arguments::from_args();
    // One after the other: they freeze and time processes, and two cores are few.
    arguments.test_threads = Some(1);
    libtest_mimic::run(&arguments, trials).exit_code()
}
