//! The contract of the locks, stamped over every implementer, on servers and in processes that this
//! program starts and stops.

use std::{
    process::ExitCode,
    sync::{Arc, LazyLock},
};

use futures::{FutureExt, future::LocalBoxFuture};
use libtest_mimic::{Arguments, Trial};
use parking_lot::Mutex;

#[path = "../servers/mod.rs"]
mod servers;

mod contract;
mod faults;
mod kind;
mod leases;
mod processes;
mod transaction;
mod worker;

use kind::{Kind, Running};

/// Servers start with the first test that needs them and stop with this value.
#[derive(Default)]
struct Servers {
    started: Mutex<Vec<(Kind, Running)>>,
}

impl Servers {
    fn kind(&self, name: &str) -> Kind {
        let mut started = self.started.lock();
        if let Some((kind, _)) = started.iter().find(|(kind, _)| kind.name() == name) {
            return kind.clone();
        }
        // Kinds of one system share its server.
        let shared = match name {
            "redis-pool" => "redis",
            "postgres-row" => "postgres",
            "mysql-row" => "mysql",
            _ => "",
        };
        let address = started.iter().find(|(kind, _)| kind.name() == shared);
        let (kind, running) = match address {
            Some((kind, _)) => (Kind::new(name, kind.address()), Box::new(()) as Running),
            None => Kind::start(name).unwrap_or_else(|error| panic!("{error}")),
        };
        started.push((kind.clone(), running));
        kind
    }
}

static RUNTIME: LazyLock<tokio::runtime::Runtime> =
    LazyLock::new(|| tokio::runtime::Runtime::new().expect("a runtime"));

/// How often a release races a wait, by what a round costs.
const KINDS: [(&str, u32); 11] = [
    ("memory", 3000),
    ("redis", 3000),
    ("redis-pool", 300),
    ("redis-cluster", 300),
    ("redis-sentinel", 100),
    ("redis-quorum", 100),
    ("postgres", 3000),
    ("postgres-row", 3000),
    ("mysql", 3000),
    ("mysql-row", 300),
    ("zookeeper", 3000),
];

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1).peekable();
    if words.next_if_eq("worker").is_some() {
        RUNTIME.block_on(worker::run(words));
        return ExitCode::SUCCESS;
    }
    let arguments = Arguments::from_args();
    let servers = Arc::new(Servers::default());
    let mut trials = Vec::new();

    macro_rules! stamp {
        ($kinds:expr, $from:ident: $($test:ident),* $(,)?) => {
            for (kind, _) in $kinds {$(
                let on = servers.clone();
                trials.push(trial(&format!("{kind}::{}", stringify!($test)), move || {
                    $from::$test(on.kind(kind)).boxed_local()
                }));
            )*}
        };
    }
    stamp!(
        KINDS.into_iter().filter(|(kind, _)| *kind != "memory"), processes:
        one_holder_among_eight_processes,
        a_killed_holder_costs_its_ttl,
        a_frozen_holder_is_overtaken_and_knows,
    );
    let fair =
        ["memory", "redis", "redis-cluster", "redis-sentinel", "postgres", "mysql", "zookeeper"];
    stamp!(
        KINDS.into_iter().filter(|(kind, _)| fair.contains(kind)), contract:
        waiters_are_served_in_turn,
    );
    stamp!(
        KINDS, contract:
        one_holder_and_fences_grow,
        an_attempt_at_a_held_name_is_told_so_at_once,
        a_lease_ends_unless_renewed,
        a_lease_kept_alive_outlives_its_ttl,
        work_keeps_its_lease_and_ends_with_it,
        a_waiter_has_the_name_soon_after_its_release,
        a_deadline_ends_the_wait,
        a_cancelled_acquire_leaves_nothing_behind,
        a_reentrant_owner_counts,
        many_names_in_opposite_orders_do_not_deadlock,
        errors_show_no_names,
    );
    for (kind, rounds) in KINDS {
        let on = servers.clone();
        trials.push(trial(&format!("{kind}::no_wake_up_is_lost"), move || {
            contract::no_wake_up_is_lost(on.kind(kind), rounds).boxed_local()
        }));
    }

    macro_rules! leases {
        ($($test:ident),* $(,)?) => {$(
            trials.push(Trial::test(concat!("leases::", stringify!($test)), || {
                let mut runtime = tokio::runtime::Builder::new_current_thread();
                let runtime = runtime.enable_time().start_paused(true).build()?;
                runtime.block_on(leases::$test());
                Ok(())
            }));
        )*};
    }
    leases!(
        work_ends_with_its_lease_while_a_renewal_hangs,
        a_renewal_is_whole_when_the_work_ends,
        a_lease_kept_alive_is_renewed_at_a_third_of_its_ttl,
        a_failed_renewal_is_repeated_until_the_end,
        the_servers_no_ends_the_lease_at_once,
        an_answer_after_the_end_does_not_revive_the_lease,
        a_shorter_end_counts_from_the_call_on,
        a_bound_holds_whatever_the_ttl,
        the_longest_ttl_is_no_panic,
    );

    macro_rules! alone {
        ($from:ident: $($test:ident),* $(,)?) => {$(
            let name = concat!(stringify!($from), "::", stringify!($test));
            trials.push(trial(name, || $from::$test().boxed_local()));
        )*};
    }
    alone!(
        transaction:
        a_transaction_and_leases_exclude_each_other,
        a_connection_that_is_lost_frees_its_transactions_lock,
    );
    alone!(
        faults:
        a_cut_connection_loses_the_lease,
        a_session_ended_by_the_server_frees_its_locks,
        an_ensemble_goes_on_without_one_node,
        a_failover_leads_to_the_new_primary,
        a_quorum_needs_most_of_its_servers,
        a_frozen_server_ends_every_call_in_time,
        what_the_server_forgot_is_lost,
        a_fence_outlives_the_clock,
        a_frozen_waiter_keeps_its_place_for_a_second,
    );

    let conclusion = libtest_mimic::run(&arguments, trials);
    // `exit` would skip destructors and leave the servers running.
    drop(servers);
    conclusion.exit_code()
}

fn trial(name: &str, test: impl FnOnce() -> LocalBoxFuture<'static, ()> + Send + 'static) -> Trial {
    Trial::test(name, move || {
        RUNTIME.block_on(test());
        Ok(())
    })
}
