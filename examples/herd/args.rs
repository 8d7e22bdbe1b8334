//! The command line.

use std::{path::PathBuf, str::FromStr};

use clap::{Parser, ValueEnum};

use crate::{fault::Fault, strategy::Strategy};

/// The stampede, live: one phenomenon, several strategies side by side.
///
/// Without arguments it needs no server: guards in this process share an embedded store, and the
/// origin is a SQLite database. With `--far redis` every process is a real one.
#[derive(Parser, Clone, Debug)]
#[command(name = "herd", version)]
pub struct Args {
    /// What happens
    #[arg(long, value_enum, default_value_t = Phenomenon::ColdKey)]
    pub phenomenon: Phenomenon,
    /// A strategy's name, or `all` [default: all; without `none` for outage]
    #[arg(long)]
    pub strategy: Option<Strategies>,
    /// With `--phenomenon invalidate`, by what a changed row is invalidated
    #[arg(long, value_enum, default_value_t = By::Key)]
    pub by: By,
    /// How many more entries have the tag of each row, with `--by tag`
    #[arg(long, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub tagged: Option<u32>,
    /// What befalls Redis, with `--phenomenon outage`: some of these, with commas between [default: all]
    #[arg(long, value_enum, value_delimiter = ',')]
    pub fault: Vec<Fault>,
    /// How long the fault lasts, in milliseconds [default: 3000 for outage, 10000 for failing-origin]
    #[arg(long, value_parser = clap::value_parser!(u64).range(100..=60_000))]
    pub fault_ms: Option<u64>,
    /// The shared store: `memory`, `redis` or `cluster` (start private ones) or a `redis://` URL
    #[arg(long, default_value = "memory")]
    pub far: FarArg,
    /// How many primaries the Cluster has, with `--far cluster` [default: 3]
    #[arg(long, value_parser = clap::value_parser!(u32).range(3..=12))]
    pub shards: Option<u32>,
    /// The lock that elects who loads, with `--far redis`: `redis` itself, or `postgres`, `postgres-row`,
    /// `mysql`, `mysql-row` or `zookeeper` (starts a private one; `KIND@ADDRESS` uses yours)
    #[arg(long, default_value = "redis")]
    pub lock: LockArg,
    /// The database: `sqlite`, `postgres` (starts a private one) or a `postgres://` URL
    #[arg(long, default_value = "sqlite")]
    pub origin: OriginArg,
    /// How many processes [default: 4]; for fleet several numbers, with commas between [default: 1,10,50,200]
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=2000))]
    pub processes: Vec<u32>,
    /// How many callers in each process [default: 250; 25 for outage and failing-origin]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub callers: Option<u32>,
    /// How long a database query takes beyond the query itself, in milliseconds
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(0..=60_000))]
    pub load_ms: u64,
    /// How long an entry is fresh, in milliseconds [default: set by the phenomenon]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=86_400_000))]
    pub ttl_ms: Option<u64>,
    /// How many rounds; the figures are medians over them, of two rounds means [default: 5; 1 for outage and failing-origin]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: Option<u32>,
    /// Database connections of all processes together; a query holds one for its whole time
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=150))]
    pub pool: u32,
    /// The requests to replay: big-endian 32-bit keys, one after the other
    #[arg(long, required_if_eq("phenomenon", "replay"))]
    pub trace: Option<PathBuf>,
    /// One JSON object a line instead of the table
    #[arg(long)]
    pub json: bool,
    /// Write a page with plots to this file
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,
    /// This is one of the processes: orders come on standard input
    #[arg(long, hide = true)]
    pub worker: bool,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum By {
    /// Its key
    Key,
    /// A tag of it and of others; of the strategies only `cattleguard` has tags
    Tag,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phenomenon {
    /// All callers ask for one missing key at one moment
    ColdKey,
    /// Steady load while a hot key expires again and again
    Expiry,
    /// Rows are updated and invalidated under steady load
    Invalidate,
    /// The requests of a trace, in order, with a short ttl
    Replay,
    /// A cold key at 1 to 16 processes, and for 10 to 10,000 callers
    Scale,
    /// Redis dies, freezes, slows down or is cut off under steady load; needs `--far redis`. It is back to
    /// normal with the first 200 ms from which on no request fails, and p99 and database queries are at
    /// most twice what they were before (a p99 below the time of a query is always normal)
    Outage,
    /// The database refuses all queries for a while under steady load
    FailingOrigin,
    /// One process works, and more and more are merely connected: what each operation costs Redis.
    /// They share one OS process, with a connection each
    Fleet,
}

impl Phenomenon {
    pub fn name(self) -> &'static str {
        match self {
            Self::ColdKey => "cold-key",
            Self::Expiry => "expiry",
            Self::Invalidate => "invalidate",
            Self::Replay => "replay",
            Self::Scale => "scale",
            Self::Outage => "outage",
            Self::FailingOrigin => "failing-origin",
            Self::Fleet => "fleet",
        }
    }

    /// Whether something breaks in it.
    pub fn is_trial(self) -> bool {
        matches!(self, Self::Outage | Self::FailingOrigin)
    }
}

impl Args {
    /// Where there is one number of them.
    pub fn processes(&self) -> u32 {
        self.processes.first().copied().unwrap_or(4)
    }

    /// Those of `fleet`.
    pub fn fleet_sizes(&self) -> Vec<u32> {
        if self.processes.is_empty() { vec![1, 10, 50, 200] } else { self.processes.clone() }
    }

    pub fn shards(&self) -> usize {
        self.shards.map_or(3, |shards| shards as usize)
    }

    pub fn callers(&self) -> u32 {
        self.callers.unwrap_or(if self.phenomenon.is_trial() { 25 } else { 250 })
    }

    pub fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.phenomenon.is_trial() { 1 } else { 5 })
    }

    /// What the figures are of, in one sentence.
    pub fn averaged(&self) -> String {
        match self.rounds() {
            1 => "One round.".to_owned(),
            2 => "Means of two rounds.".to_owned(),
            rounds => format!("Medians of {rounds} rounds."),
        }
    }

    pub fn fault_ms(&self) -> u64 {
        let usual = if self.phenomenon == Phenomenon::Outage { 3_000 } else { 10_000 };
        self.fault_ms.unwrap_or(usual)
    }

    pub fn faults(&self) -> Vec<Fault> {
        if self.fault.is_empty() { Fault::value_variants().to_vec() } else { self.fault.clone() }
    }

    pub fn strategies(&self) -> Vec<Strategy> {
        let mut chosen = match &self.strategy {
            Some(strategies) => strategies.0.clone(),
            None => Strategy::ALL.to_vec(),
        };
        match self.phenomenon {
            // It never asks Redis.
            Phenomenon::Outage if self.strategy.is_none() => {
                chosen.retain(|strategy| *strategy != Strategy::None);
            }
            Phenomenon::Invalidate if self.by == By::Tag && self.strategy.is_none() => {
                chosen = vec![Strategy::Cattleguard];
            }
            Phenomenon::FailingOrigin if chosen.contains(&Strategy::Cattleguard) => {
                chosen.push(Strategy::NoStale);
            }
            _ => {}
        }
        chosen
    }

    /// What goes with what.
    pub fn check(&self) -> Result<(), String> {
        let is_outage = self.phenomenon == Phenomenon::Outage;
        if is_outage && !matches!(self.far, FarArg::PrivateRedis) {
            return Err(
                "--phenomenon outage breaks its Redis: it needs --far redis, which starts one"
                    .into(),
            );
        }
        if is_outage && !matches!(self.lock, LockArg::OfRedis) {
            return Err("--phenomenon outage takes no --lock".into());
        }
        self.check_tags()?;
        self.check_fleet()?;
        if !is_outage && !self.fault.is_empty() {
            return Err("--fault goes with --phenomenon outage".into());
        }
        if !self.phenomenon.is_trial() && self.fault_ms.is_some() {
            return Err("--fault-ms goes with --phenomenon outage and failing-origin".into());
        }
        Ok(())
    }
}

impl Args {
    fn check_tags(&self) -> Result<(), String> {
        let by_tag = self.by == By::Tag;
        if by_tag && self.phenomenon != Phenomenon::Invalidate {
            return Err("--by tag goes with --phenomenon invalidate".into());
        }
        if by_tag && self.strategies() != [Strategy::Cattleguard] {
            return Err("--by tag goes with --strategy cattleguard: the others have no tags".into());
        }
        if !by_tag && self.tagged.is_some() {
            return Err("--tagged goes with --by tag".into());
        }
        Ok(())
    }

    fn check_fleet(&self) -> Result<(), String> {
        if self.shards.is_some() && !matches!(self.far, FarArg::PrivateCluster) {
            return Err("--shards goes with --far cluster".into());
        }
        if self.phenomenon != Phenomenon::Fleet {
            return match self.processes[..] {
                [] | [0..=64] => Ok(()),
                _ => Err("--processes takes one number from 1 to 64, but with --phenomenon fleet \
                    several up to 2000"
                    .into()),
            };
        }
        let given = [
            ("--strategy", self.strategy.is_some()),
            ("--lock", !matches!(self.lock, LockArg::OfRedis)),
            ("--origin", !matches!(self.origin, OriginArg::Sqlite)),
            ("--callers", self.callers.is_some()),
            ("--ttl-ms", self.ttl_ms.is_some()),
            ("--rounds", self.rounds.is_some()),
        ];
        match given.into_iter().find(|(_, given)| *given) {
            Some((name, _)) => Err(format!("--phenomenon fleet takes no {name}")),
            None => Ok(()),
        }
    }

    /// How many more entries have the tag of each row, if there are tags.
    pub fn tagged(&self) -> Option<u32> {
        (self.by == By::Tag).then(|| self.tagged.unwrap_or(100))
    }
}

#[derive(Clone, Debug)]
pub struct Strategies(pub Vec<Strategy>);

impl FromStr for Strategies {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "all" {
            return Ok(Self(Strategy::ALL.to_vec()));
        }
        match Strategy::ALL.iter().find(|strategy| strategy.name() == text) {
            Some(strategy) => Ok(Self(vec![*strategy])),
            None => {
                let names: Vec<_> = Strategy::ALL.iter().map(|strategy| strategy.name()).collect();
                Err(format!("expected all, {}", names.join(", ")))
            }
        }
    }
}

/// The command that gives these results again.
pub fn command_line() -> String {
    let given: Vec<String> = std::env::args().skip(1).collect();
    command_with(&given.join(" "))
}

/// The command with these arguments.
pub fn command_with(arguments: &str) -> String {
    let separator = if arguments.is_empty() { "" } else { " -- " };
    format!("cargo run --release --example herd{separator}{arguments}")
}

#[derive(Clone, Debug)]
pub enum FarArg {
    Memory,
    PrivateRedis,
    PrivateCluster,
    Redis(String),
}

impl FromStr for FarArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "memory" => Ok(Self::Memory),
            "redis" => Ok(Self::PrivateRedis),
            "cluster" => Ok(Self::PrivateCluster),
            url if url.starts_with("redis://") => Ok(Self::Redis(url.to_owned())),
            _ => Err("expected memory, redis, cluster or redis://host:port".to_owned()),
        }
    }
}

#[derive(Clone, Debug)]
pub enum LockArg {
    OfRedis,
    Private(&'static str),
    At(&'static str, String),
}

impl LockArg {
    pub fn name(&self) -> &'static str {
        match self {
            Self::OfRedis => "redis",
            Self::Private(kind) | Self::At(kind, _) => kind,
        }
    }
}

impl FromStr for LockArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const KINDS: [&str; 5] = ["postgres", "postgres-row", "mysql", "mysql-row", "zookeeper"];
        let (name, address) = text.split_once('@').map_or((text, None), |(n, a)| (n, Some(a)));
        match (KINDS.into_iter().find(|kind| *kind == name), address) {
            (Some(kind), None) => Ok(Self::Private(kind)),
            (Some(kind), Some(address)) => Ok(Self::At(kind, address.to_owned())),
            (None, None) if text == "redis" => Ok(Self::OfRedis),
            _ => Err(format!("expected redis, {}, or one of them with @ADDRESS", KINDS.join(", "))),
        }
    }
}

#[derive(Clone, Debug)]
pub enum OriginArg {
    Sqlite,
    PrivatePostgres,
    Postgres(String),
}

impl FromStr for OriginArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "sqlite" => Ok(Self::Sqlite),
            "postgres" => Ok(Self::PrivatePostgres),
            url if url.starts_with("postgres://") || url.starts_with("postgresql://") => {
                Ok(Self::Postgres(url.to_owned()))
            }
            _ => Err("expected sqlite, postgres or postgres://user@host:port/database".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(arguments: &str) -> Result<Args, String> {
        let line = format!("herd {arguments}");
        let args = Args::try_parse_from(line.split_whitespace()).map_err(|e| e.to_string())?;
        args.check().map(|()| args)
    }

    #[test]
    fn a_fleet_has_several_sizes() {
        let sizes = |arguments| checked(arguments).map(|args| args.fleet_sizes());
        assert_eq!(sizes("--phenomenon fleet"), Ok(vec![1, 10, 50, 200]));
        assert_eq!(sizes("--phenomenon fleet --processes 1,2000"), Ok(vec![1, 2000]));
        for wrong in ["0", "2001", "1,,2", "ten", "1,2001"] {
            assert!(
                checked(&format!("--phenomenon fleet --processes {wrong}")).is_err(),
                "{wrong}"
            );
        }
    }

    #[test]
    fn other_phenomena_have_one() {
        let size = |arguments: &str| checked(arguments).map(|args| args.processes());
        assert_eq!(size(""), Ok(4));
        assert_eq!(size("--phenomenon expiry --processes 64"), Ok(64));
        for wrong in ["65", "1,2"] {
            let line = size(&format!("--processes {wrong}")).expect_err(wrong);
            assert!(line.starts_with("--processes takes one number") && !line.contains('\n'));
        }
    }

    #[test]
    fn shards_are_of_a_cluster() {
        let shards = |arguments| checked(arguments).map(|args| args.shards());
        assert_eq!(shards("--far cluster"), Ok(3));
        assert_eq!(shards("--far cluster --shards 6 --phenomenon invalidate"), Ok(6));
        for wrong in ["--shards 3", "--far redis --shards 6", "--far cluster --shards 2"] {
            assert!(shards(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_fleet_takes_no_strategy() {
        for wrong in ["--strategy all", "--rounds 2", "--callers 9", "--lock zookeeper --far redis"]
        {
            let line = checked(&format!("--phenomenon fleet {wrong}")).expect_err(wrong);
            assert!(line.starts_with("--phenomenon fleet takes no --"), "{line}");
        }
    }
}
