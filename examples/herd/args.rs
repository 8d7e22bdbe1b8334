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
    /// The shared store: `memory`, `redis` (starts a private one) or a `redis://` URL
    #[arg(long, default_value = "memory")]
    pub far: FarArg,
    /// The lock that elects who loads, with `--far redis`: `redis` itself, or `postgres`, `postgres-row`,
    /// `mysql`, `mysql-row` or `zookeeper` (starts a private one; `KIND@ADDRESS` uses yours)
    #[arg(long, default_value = "redis")]
    pub lock: LockArg,
    /// The database: `sqlite`, `postgres` (starts a private one) or a `postgres://` URL
    #[arg(long, default_value = "sqlite")]
    pub origin: OriginArg,
    /// How many processes
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub processes: u32,
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
        }
    }

    /// Whether something breaks in it.
    pub fn is_trial(self) -> bool {
        matches!(self, Self::Outage | Self::FailingOrigin)
    }
}

impl Args {
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
    Redis(String),
}

impl FromStr for FarArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "memory" => Ok(Self::Memory),
            "redis" => Ok(Self::PrivateRedis),
            url if url.starts_with("redis://") => Ok(Self::Redis(url.to_owned())),
            _ => Err("expected memory, redis or redis://host:port".to_owned()),
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
