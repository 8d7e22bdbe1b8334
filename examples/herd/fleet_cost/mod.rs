//! What a fleet costs Redis by the number of processes that are merely connected: one of them works.
//!
//! The processes are guards in this one, each with a connection of its own.

use std::{fs::File, io::Write};

mod cost;
mod crowd;
mod gate;
mod operation;
mod row;
mod size;
mod table;

use self::{cost::Cost, row::Row, size::Size, table::FleetTable};
use crate::{
    args::{Args, FarArg},
    closing::ending,
    error::Error,
    open_files,
    output::say,
};

pub async fn run(args: &Args, report: Option<File>) -> Result<(), Error> {
    let sizes = args.fleet_sizes();
    let most = u64::from(sizes.iter().copied().max().unwrap_or(0));
    open_files::allow(most * files_each(args) + OTHER_FILES)?;
    let mut table = FleetTable::new(args);
    let mut nobody: Option<Cost> = None;
    for processes in sizes {
        let mut size = Size::open(args, processes as usize, &mut nobody).await?;
        let rows = size.rows().await?;
        eprintln!("{}", progress(processes, &rows));
        for row in &rows {
            if args.json {
                say(&serde_json::to_string(row)?)?;
            }
        }
        table.add(rows);
    }
    if let Some(mut report) = report {
        report.write_all(table.page().render().as_bytes())?;
    }
    if !args.json {
        say(&format!("{}\n\n{}", table.terminal(), ending(args, &table.seen())))?;
    }
    Ok(())
}

/// The runtime's, the harness' and the servers'.
const OTHER_FILES: u64 = 256;

/// Connections of a process: for commands, and for messages; to each node of a Cluster.
fn files_each(args: &Args) -> u64 {
    match args.far {
        FarArg::Memory => 0,
        FarArg::PrivateRedis | FarArg::Redis(_) => 2,
        FarArg::PrivateCluster => 2 * args.shards() as u64 + 1,
    }
}

fn progress(processes: u32, rows: &[Row]) -> String {
    let said = rows.iter().filter_map(|row| {
        let figure = match row.cpu_us {
            Some(cpu) => format!("{cpu:.0} µs"),
            None => format!("{:.0}/s", row.per_second?),
        };
        Some(format!("{} {figure}", row.operation))
    });
    let processes =
        if processes == 1 { "1 process".into() } else { format!("{processes} processes") };
    format!("{processes}: {}", said.collect::<Vec<_>>().join(" · "))
}
