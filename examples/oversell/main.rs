//! Selling what is not there: many buyers, one product, and what keeps the shop honest.
//!
//! Buyers in several processes read the stock, decide, and write it back, on a real PostgreSQL.
//! Without a lock the shop sells more than it has; under any [`cattleguard::lock`] it does not; and
//! for this one problem the database alone would do, which is shown, too. Two stories follow: what
//! a lock saves (one e-mail and not two), and what it cannot promise without its fencing token.
//!
//! ```text
//! cargo run --release --example oversell                      # every lock; servers from PATH
//! cargo run --release --example oversell -- --lock redis,postgres-row
//! cargo run --release --example oversell -- --lock memory --database-url postgres://me@localhost/test
//! ```
//!
//! Locks whose server is not installed are left out, unless they are named with `--lock`.
//! Exits with 1 if a lock let the shop oversell, or if the shop without a lock did not.

use std::{
    io::{IsTerminal, Write},
    process::ExitCode,
};

use crate::{
    args::Args,
    buyer::Setup,
    fleet::Fleet,
    lock::{Kind, Systems},
    shop::{Method, Shop},
    table::{Row, Told},
};

mod args;
mod buyer;
#[path = "../console/child.rs"]
mod child;
#[path = "../console/mod.rs"]
mod console;
mod fleet;
#[path = "../../tests/locks/kind.rs"]
mod kind;
mod lock;
#[path = "../../tests/servers/mod.rs"]
mod servers;
mod shop;
mod stories;
mod table;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const NAME: &str = "oversell";

/// Why there are no results.
enum Stop {
    /// The arguments or the servers they name cannot be used.
    BadInput(String),
    Failed(Failure),
}

impl<E: Into<Failure>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

fn main() -> ExitCode {
    let args = match console::parse::<Args>().and_then(Args::checked) {
        Ok(args) => args,
        Err(line) => return console::bad_input(NAME, &line),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return console::failed(NAME, &error),
    };
    if args.worker {
        return child::run(NAME, &runtime, buyer::live());
    }
    // Not the process' number: in containers that share a database, all are number 1.
    let schema = format!("oversell_{:08x}", fastrand::u32(..));
    let ended = runtime.block_on(async {
        let ended = tokio::select! {
            // In this order: Ctrl-C stops the private servers, too, and their last words would
            // hide that Ctrl-C was pressed.
            biased;
            () = console::interrupted() => None,
            ended = run(&args, &schema) => Some(ended),
        };
        // Everything that `run` held is dropped by now: processes and private servers are gone. A
        // database that is not ours is left as it was.
        if let Some(url) = &args.database_url {
            shop::remove(url, &schema).await;
        }
        ended
    });
    match ended {
        Some(Ok(problems)) if problems.is_empty() => ExitCode::SUCCESS,
        Some(Ok(problems)) => {
            problems.iter().for_each(|problem| eprintln!("oversell: {problem}"));
            ExitCode::FAILURE
        }
        Some(Err(Stop::BadInput(line))) => console::bad_input(NAME, &line),
        Some(Err(Stop::Failed(error))) => console::failed(NAME, &*error),
        None => ExitCode::from(130),
    }
}

/// All methods and both stories. What went otherwise than it must.
async fn run(args: &Args, schema: &str) -> Result<Vec<String>, Stop> {
    let mut systems = Systems::with_shop(args, schema).await?;
    let kinds = &args.lock.kinds;
    for &kind in kinds {
        let ready = systems.prepare(kind).await;
        ready.map_err(|why| Stop::BadInput(format!("the {} lock: {why}", kind.name())))?;
    }
    let shop = Shop::open(&systems.addresses.database, 1).await?;

    // Not `println!`, whose panic at a closed pipe would leave the schema behind.
    let mut out = std::io::stdout();
    writeln!(out, "{}", table::opening(args))?;
    let mut methods = vec![Method::Unlocked];
    methods.extend(kinds.iter().map(|&kind| Method::Locked(kind)));
    methods.extend([Method::ForUpdate, Method::Atomic]);
    let mut rows = Vec::new();
    for method in methods {
        say(&format!("{} …", method.name()));
        rows.push(sell(args, &systems, &shop, schema, method).await?);
    }
    let mut told = vec![Told::mail(None, stories::mail(&systems, &shop, schema, None).await?)];
    for &kind in kinds {
        say(&format!("the stories under the {} lock …", kind.name()));
        told.push(Told::mail(
            Some(kind),
            stories::mail(&systems, &shop, schema, Some(kind)).await?,
        ));
        told.push(Told::late(kind, stories::late_write(&systems, &shop, schema, kind).await?));
    }
    say("");

    writeln!(out, "{}\n{}", table::table(&rows), table::stories(&told))?;
    let of_rows = rows.iter().filter_map(|row| row.problem(args.stock));
    Ok(of_rows.chain(told.iter().filter_map(Told::problem)).collect())
}

/// What happens now, on one line that the next one replaces.
fn say(line: &str) {
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K{line}");
    }
}

/// How long a buyer decides, at first.
const DECIDE_MS: u64 = 5;

/// All buyers with one method, by a fleet of its own.
async fn sell(
    args: &Args,
    systems: &Systems,
    shop: &Shop,
    schema: &str,
    method: Method,
) -> Result<Row, Stop> {
    // The in-process lock knows only its own process.
    let processes = match method {
        Method::Locked(Kind::Memory) => 1,
        _ => args.processes,
    };
    let buyers = args.processes * args.buyers / processes;
    let setup =
        Setup::new(systems, schema, method.kind(), buyers, (64 / processes).clamp(1, buyers));
    let mut fleet = Fleet::start(&setup, processes).await?;
    let mut decide_ms = DECIDE_MS;
    loop {
        shop.restock(args.stock).await?;
        let (seconds, answers) = fleet.buy(method, args.wants(), decide_ms).await?;
        let row =
            Row::new(method, (processes, buyers), shop.books(args.stock).await?, seconds, answers);
        // On a machine so busy that no two buyers met, longer decisions make them meet. Only here: a
        // lock that let two buyers in gets no second chance.
        if method == Method::Unlocked && row.books.oversold() == 0 && decide_ms < 400 {
            decide_ms *= 3;
            continue;
        }
        return Ok(row);
    }
}
