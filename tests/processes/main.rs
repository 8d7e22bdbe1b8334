//! Real processes, killed and frozen, over a real Redis that is killed and frozen, too.
//!
//! This program starts itself as `worker`: a process with a guard, told what to do by lines on standard
//! input; as `web-service`: one with an HTTP service; or as `starts-others`. The "database" is a row in another Redis, so every process
//! reads and counts the same one.

use std::{process::ExitCode, time::Duration};

use libtest_mimic::{Arguments, Trial};

#[path = "../servers/mod.rs"]
mod servers;

mod balance;
mod clocks;
mod fleet;
mod holders;
mod memory;
mod orphans;
mod outages;
mod promises;
mod quick_start;
mod recoveries;
mod steps;
mod web;
mod worker;

fn main() -> ExitCode {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut words = std::env::args().skip(1);
    let what = words.next();
    let mut urls = || (words.next().expect("a URL"), words.next().expect("a URL"));
    match what.as_deref() {
        Some("worker") => {
            let (far, database) = urls();
            runtime.block_on(worker::live(far, database, words.collect()));
            return ExitCode::SUCCESS;
        }
        Some("web-service") => {
            let (far, database) = urls();
            runtime.block_on(web::live(far, database));
            return ExitCode::SUCCESS;
        }
        Some("starts-others") => {
            runtime.block_on(orphans::live());
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    let mut arguments = Arguments::from_args();
    // One after the other: they freeze and time processes, and two cores are few.
    arguments.test_threads = Some(1);
    libtest_mimic::run(&arguments, trials()).exit_code()
}

fn trials() -> Vec<Trial> {
    macro_rules! trials {
        ($($module:ident { $($test:ident),* $(,)? })*) => {
            vec![$($(Trial::test(concat!(stringify!($module), "::", stringify!($test)), || {
                let runtime = tokio::runtime::Runtime::new().expect("a runtime");
                let limit = Duration::from_secs(90);
                let test = async { tokio::time::timeout(limit, $module::$test()).await };
                runtime.block_on(test).map_err(|_| "did not end within 90 s".into())
            }),)*)*]
        };
    }
    trials!(
        promises {
            one_load_for_a_thousand_callers_in_four_processes,
            a_refresh_by_a_thousand_callers_in_four_processes_is_one_load,
            an_older_write_after_a_newer_one_is_refused,
            an_invalidation_during_a_load_keeps_its_value_out,
            no_process_answers_older_than_an_acknowledged_invalidation,
            two_loads_of_one_process_around_an_invalidation_are_told_apart,
            a_lagging_read_is_refused_and_repeated,
            huge_versions_keep_their_order,
            no_wake_up_is_lost,
        }
        holders {
            a_killed_holder_costs_one_lease,
            a_frozen_holder_wakes_up_and_is_refused,
            a_holder_killed_at_any_step_costs_one_lease,
            a_holder_frozen_at_any_step_costs_one_lease_and_brings_nothing_old_back,
            the_late_commit_of_a_dead_holder_is_refused,
            a_load_longer_than_its_lease_keeps_it,
            a_load_six_leases_long_is_one_load,
        }
        outages {
            without_redis_a_herd_is_one_load_and_a_tenth_of_a_second,
            without_redis_a_process_makes_no_more_loads_at_once_than_it_may,
            after_the_first_few_nobody_pays_for_a_frozen_redis,
            who_waits_for_another_process_when_redis_goes_is_answered,
            a_slow_redis_adds_three_commands,
            two_seconds_of_latency_cost_no_more_than_an_outage,
            a_process_that_is_cut_off_goes_on_alone_and_comes_back,
            a_process_behind_a_dead_network_is_behind_for_a_near_ttl_at_most,
            a_failover_ends_nobody,
        }
        recoveries {
            within_a_second_of_redis_all_processes_share_a_load_again,
            what_was_invalidated_before_and_during_an_outage_is_so_after_it,
            a_redis_that_comes_back_empty_takes_no_old_load,
            who_changes_a_row_never_sees_it_older_whatever_happens_to_redis,
            an_invalidation_says_whether_a_replica_has_it,
        }
        clocks {
            a_clock_that_jumps_ten_minutes_reverses_nothing,
        }
        quick_start {
            the_quick_start_of_the_readme_runs,
        }
        web {
            one_handler_run_for_a_thousand_connections_to_four_services,
        }
        orphans {
            what_a_killed_program_has_started_ends_with_it,
        }
        memory {
            a_million_keys_leave_nothing_behind,
            abandoned_callers_leave_nothing_behind,
        }
    )
}
