//! The contract of the far tier, stamped over every implementer, on servers that this program starts
//! and stops.

use std::{future::Future, process::ExitCode, sync::Arc, time::Duration};

use libtest_mimic::Arguments;

#[path = "../servers/mod.rs"]
mod servers;

#[path = "../guard/gate.rs"]
#[expect(dead_code, reason = "the tests of the guard use the rest")]
mod gate;
/// The origin of the guard's tests.
#[path = "../guard/origin.rs"]
#[expect(dead_code, reason = "the guard's tests use the rest of it")]
mod origin;

mod bytes;
mod clock;
mod cluster;
mod contract;
mod credentials;
mod elected;
mod faults;
mod fences;
mod implementers;
mod links;
mod messages;
mod permissions;
mod replicas;
mod scripted_lock;
mod setup;
mod strangers;
mod tls;
mod values;
mod waiters;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let servers = Arc::new(setup::Servers::default());
    let trials = [
        implementers::trials,
        fences::trials,
        bytes::trials,
        messages::trials,
        replicas::trials,
        faults::trials,
        links::trials,
        clock::trials,
        cluster::trials,
        values::trials,
        waiters::trials,
        elected::trials,
        strangers::trials,
        permissions::trials,
        tls::trials,
        credentials::trials,
    ];
    let trials = trials.into_iter().flat_map(|of_module| of_module(&servers)).collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    // `exit` would skip destructors and leave the servers running.
    drop(servers);
    conclusion.exit_code()
}

/// No test waits for longer than this.
async fn bounded<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("somebody hangs")
}
