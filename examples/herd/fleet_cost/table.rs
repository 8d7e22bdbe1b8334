//! The results, as a table and as a page.

use super::{
    operation::{INVALIDATIONS_AT_ONCE, Operation},
    row::Row,
};
use crate::{
    args::{self, Args, FarArg},
    count::commas,
    page::{LinePlot, Page},
    sheet::{Column, NONE, OPERATION, Sheet, UNKNOWN, wrapped},
};

pub struct FleetTable<'a> {
    args: &'a Args,
    rows: Vec<Row>,
}

const COLUMNS: [Column<Row>; 11] = [
    ("processes", "pro-\ncesses", |row| row.processes.to_string()),
    (OPERATION, OPERATION, |row| row.operation.clone()),
    ("per_second", "a\nsecond", |row| whole(row.per_second)),
    ("p50_ms", "p50\nms", |row| fine(row.p50_ms)),
    ("p99_ms", "p99\nms", |row| fine(row.p99_ms)),
    ("commands", "com-\nmands", |row| tenths(row.commands)),
    ("messages", "mes-\nsages", |row| tenths(row.messages)),
    ("cpu_us", "CPU\nµs", |row| whole(row.cpu_us)),
    ("bytes_in", "bytes\nin", |row| whole(row.bytes_in)),
    ("bytes_out", "bytes\nout", |row| whole(row.bytes_out)),
    ("unconfirmed", "uncon-\nfirmed", |row| {
        row.unconfirmed.map_or(NONE.to_owned(), |share| format!("{:.0} %", share * 100.0))
    }),
];

const SHARDS: Column<Row> = ("shard_cpu", "shard\nCPU %", |row| match row.shard_cpu {
    Some((least, most)) => format!("{:.0}–{:.0}", least * 100.0, most * 100.0),
    None => UNKNOWN.to_owned(),
});

fn whole(figure: Option<f64>) -> String {
    figure.map_or(UNKNOWN.to_owned(), |figure| commas(figure.round() as usize))
}

fn tenths(figure: Option<f64>) -> String {
    figure.map_or(UNKNOWN.to_owned(), |figure| format!("{figure:.1}"))
}

fn fine(figure: Option<f64>) -> String {
    figure.map_or(UNKNOWN.to_owned(), |figure| format!("{figure:.2}"))
}

impl<'a> FleetTable<'a> {
    pub fn new(args: &'a Args) -> Self {
        Self { args, rows: Vec::new() }
    }

    pub fn add(&mut self, rows: Vec<Row>) {
        self.rows.extend(rows);
    }

    pub fn terminal(&self) -> String {
        let sheet = self.sheet();
        let caption = format!("fleet: {}{}", self.story(), sheet.caption());
        format!("{}\n{}", wrapped(&caption), sheet.terminal())
    }

    /// In one sentence.
    pub fn seen(&self) -> String {
        let of = |kind: Operation| self.rows.iter().filter(move |row| row.kind == kind);
        let says = |row: &Row| match (row.cpu_us, row.per_second) {
            (Some(cpu), _) => format!("{cpu:.0} µs of Redis' CPU"),
            (None, per_second) => format!("one of {} a second", whole(per_second)),
        };
        let grown = |name: &str, kind: Operation| {
            let first = of(kind).next()?;
            let mut said = format!("{name} is {} at {}", says(first), size(first.processes));
            if let Some(last) =
                of(kind).next_back().filter(|last| last.processes != first.processes)
            {
                said += &format!(" and {} at {}", says(last), size(last.processes));
            }
            Some(said)
        };
        let fill = grown("a fill", Operation::Fill);
        let invalidation =
            grown("an invalidation", Operation::Invalidation(INVALIDATIONS_AT_ONCE[0]));
        let all: Vec<_> = fill.into_iter().chain(invalidation).collect();
        format!("{}.", all.join(", "))
    }

    /// The page for `--report`.
    pub fn page(&self) -> Page {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let of_redis = !matches!(self.args.far, FarArg::Memory);
        Page {
            title: "The stampede: fleet".to_owned(),
            subtitle: format!("{} All on one machine with {cores} cores.", self.story()),
            command: args::command_line(),
            sheet: self.sheet(),
            panels: Vec::new(),
            times: Vec::new(),
            lines: of_redis.then(|| self.plot()).into_iter().collect(),
        }
    }

    fn story(&self) -> String {
        let far = match &self.args.far {
            FarArg::Memory => "the embedded store".to_owned(),
            FarArg::PrivateRedis | FarArg::Redis(_) => "Redis".to_owned(),
            FarArg::PrivateCluster => format!("a Redis Cluster of {}", self.args.shards()),
        };
        format!(
            "One process works (×32: on so many keys at once), the others are connected to {far}. Figures are for one operation, \
             one waiting process beyond the load that it waits for, or one idle process in a minute."
        )
    }

    fn sheet(&self) -> Sheet {
        let mut columns = COLUMNS.to_vec();
        columns.extend(matches!(self.args.far, FarArg::PrivateCluster).then_some(SHARDS));
        let heads = columns.iter().map(|(name, heading, _)| (*name, *heading)).collect();
        let cells = |row| columns.iter().map(|(_, _, cell)| cell(row)).collect();
        Sheet::new(heads, self.rows.iter().map(cells).collect())
    }

    /// Of operations that were measured in several ways, the first.
    fn plot(&self) -> LinePlot {
        let mut lines: Vec<(String, Vec<(f64, f64)>)> = Vec::new();
        for row in &self.rows {
            let Some(cpu) = row.cpu_us else { continue };
            let (name, point) = (row.kind.name(), (row.processes as f64, cpu));
            match lines.iter_mut().find(|(line, _)| line == name) {
                Some((_, points)) if points.last().is_some_and(|last| last.0 == point.0) => {}
                Some((_, points)) => points.push(point),
                None => lines.push((name.to_owned(), vec![point])),
            }
        }
        for (_, points) in &mut lines {
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
        }
        LinePlot {
            title: "Redis' CPU as the fleet grows".to_owned(),
            x: "processes".to_owned(),
            y: "CPU time for an operation, a waiting process, or an idle one in a minute, µs"
                .to_owned(),
            lines,
        }
    }
}

fn size(processes: usize) -> String {
    if processes == 1 { "1 process".to_owned() } else { format!("{processes} processes") }
}
