//! The stampede, live: what happens to a database when a cached value is missing and everybody asks.
//!
//! ```text
//! cargo run --release --example herd                        # no server needed
//! cargo run --release --example herd -- --far redis         # real processes, private Redis
//! cargo run --release --example herd -- --far redis --lock zookeeper
//! cargo run --release --example herd -- --far redis --origin postgres \
//!     --phenomenon invalidate --report report.html
//! cargo run --release --example herd -- --far redis --phenomenon outage --report report.html
//! cargo run --release --example herd -- --phenomenon failing-origin
//! cargo run --release --example herd -- --far redis --phenomenon fleet --processes 1,10,50,200,1000
//! ```

use std::{fs::File, process::ExitCode};

use crate::{
    args::{Args, Phenomenon},
    error::Error,
};

mod args;
mod breakable_redis;
mod cache;
#[path = "../console/child.rs"]
mod child;
mod closing;
mod command_count;
mod comparison;
#[path = "../console/mod.rs"]
mod console;
mod count;
mod database;
mod environment;
mod error;
mod fault;
mod figures;
mod fleet;
mod fleet_cost;
#[path = "../../tests/locks/kind.rs"]
mod kind;
mod open_files;
mod origin;
mod output;
mod page;
mod plain_link;
mod plain_store;
mod plan;
mod progress;
mod redis_address;
mod redis_info;
mod redis_servers;
mod refused;
mod report;
mod round;
#[path = "../../tests/servers/mod.rs"]
mod servers;
mod sheet;
mod statistics;
mod strategy;
mod table;
mod timeline;
mod trace;
mod trial;
mod trial_table;
mod trials;
mod work;
mod worker;

const NAME: &str = "herd";

fn main() -> ExitCode {
    let args = match console::parse::<Args>() {
        Ok(args) => args,
        Err(line) => return console::bad_input(NAME, &line),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return console::failed(NAME, &error),
    };
    refused::count();
    if args.worker {
        return child::run(NAME, &runtime, worker::live());
    }
    let ended = runtime.block_on(async {
        tokio::select! {
            ended = run(&args) => Some(ended),
            () = console::interrupted() => None,
        }
    });
    // Everything that `run` held is dropped by now: processes and private servers are gone. The threads that
    // stand for slow queries would keep the runtime for the time of a query.
    runtime.shutdown_background();
    match ended {
        Some(Ok(())) => ExitCode::SUCCESS,
        Some(Err(Error::BadInput(line))) => console::bad_input(NAME, &line),
        Some(Err(Error::Failed(error))) => console::failed(NAME, &*error),
        None => ExitCode::from(130),
    }
}

async fn run(args: &Args) -> Result<(), Error> {
    args.check().map_err(Error::BadInput)?;
    let keys = match &args.trace {
        Some(trace) => trace::read(trace).map_err(Error::BadInput)?.1,
        None => 1,
    };
    let report = match &args.report {
        Some(path) => Some(File::create(path).map_err(|error| {
            let path = path.display();
            let advice = "name a file in a folder that exists";
            Error::BadInput(format!("cannot write the report {path}: {error}; {advice}"))
        })?),
        None => None,
    };
    match args.phenomenon {
        Phenomenon::Fleet => fleet_cost::run(args, report).await,
        phenomenon if phenomenon.is_trial() => trials::run(args, report).await,
        _ => comparison::run(args, keys, report).await,
    }
}
