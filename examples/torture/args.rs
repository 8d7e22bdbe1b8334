//! The command line.

use std::{path::PathBuf, str::FromStr, time::Duration};

use clap::{Parser, ValueEnum};

use crate::act::Act;

/// Real processes over a real Redis, which are killed, frozen, cut off and lied to, while a judge compares
/// every answer with what the cache promises.
#[derive(Parser, Clone, Debug)]
#[command(name = "torture", version)]
pub struct Args {
    /// How long
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub seconds: u64,
    /// Chooses what befalls whom, and when; the machine still has its own timing [default: random]
    #[arg(long)]
    pub seed: Option<u64>,
    /// The far tier: a private Redis of this kind; `lock` is a single one with another system's lock
    #[arg(long, value_enum, default_value_t = FarKind::Single)]
    pub far: FarKind,
    /// With `--far lock`, which: `redis` (a second one), `postgres`, `postgres-row`, `mysql`, `mysql-row` or
    /// `zookeeper`
    #[arg(long, value_enum)]
    pub lock: Option<LockKind>,
    /// What befalls them: `all`, `none`, or names with commas between
    #[arg(long, default_value = "all")]
    pub faults: Acts,
    /// How many processes
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(2..=64))]
    pub processes: u32,
    /// How many answers a second they aim at, together
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    pub rate: u32,
    /// Write what was seen to this file: one JSON object a line, faults first
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// Judge what an earlier run has written with `--record`, and do nothing else
    #[arg(long, value_name = "FILE", conflicts_with = "record")]
    pub judge: Option<PathBuf>,
    /// This is one of the processes: orders come on standard input
    #[arg(long, hide = true)]
    pub worker: bool,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum FarKind {
    Single,
    Sentinel,
    Cluster,
    Lock,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum LockKind {
    Redis,
    Postgres,
    PostgresRow,
    Mysql,
    MysqlRow,
    Zookeeper,
}

#[derive(Clone, Debug)]
pub enum Acts {
    All,
    Some(Vec<Act>),
}

impl FromStr for Acts {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self::All),
            "none" => Ok(Self::Some(Vec::new())),
            names => names.split(',').map(act).collect::<Result<_, _>>().map(Self::Some),
        }
    }
}

fn act(name: &str) -> Result<Act, String> {
    Act::from_str(name, true).map_err(|_| {
        let names: Vec<_> = Act::value_variants().iter().map(|act| act.name()).collect();
        format!("expected all, none, or some of {}", names.join(","))
    })
}

impl Args {
    pub fn checked(self) -> Result<Self, String> {
        if self.lock.is_some() && self.far != FarKind::Lock {
            return Err("--lock goes with --far lock".into());
        }
        if let Acts::Some(acts) = &self.faults
            && let Some(act) = acts.iter().find(|act| !act.is_possible(self.far))
        {
            let (act, far) = (act.name(), self.far.name());
            return Err(format!("--faults {act} does not go with --far {far}"));
        }
        Ok(self)
    }

    /// Those that can befall this far tier.
    pub fn acts(&self) -> Vec<Act> {
        match &self.faults {
            Acts::Some(acts) => acts.clone(),
            Acts::All => {
                let all = Act::value_variants().iter().copied();
                all.filter(|act| act.is_possible(self.far)).collect()
            }
        }
    }

    pub fn lasts(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    /// The name of the lock's server.
    pub fn lock(&self) -> Option<&'static str> {
        (self.far == FarKind::Lock).then(|| match self.lock.unwrap_or(LockKind::Postgres) {
            LockKind::Redis => "redis",
            LockKind::Postgres => "postgres",
            LockKind::PostgresRow => "postgres-row",
            LockKind::Mysql => "mysql",
            LockKind::MysqlRow => "mysql-row",
            LockKind::Zookeeper => "zookeeper",
        })
    }

    /// The command that does the same again.
    pub fn command(&self, seed: u64) -> String {
        let mut command = format!(
            "cargo run --release --example torture -- --seconds {} --seed {seed} --far {}",
            self.seconds,
            self.far.name()
        );
        if let Some(lock) = self.lock() {
            command += &format!(" --lock {lock}");
        }
        match &self.faults {
            Acts::All => command + " --faults all",
            Acts::Some(acts) if acts.is_empty() => command + " --faults none",
            Acts::Some(acts) => {
                let names: Vec<_> = acts.iter().map(|act| act.name()).collect();
                command + " --faults " + &names.join(",")
            }
        }
    }
}

impl FarKind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Sentinel => "sentinel",
            Self::Cluster => "cluster",
            Self::Lock => "lock",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(arguments: &str) -> Result<Args, String> {
        let line = format!("torture {arguments}");
        let args = Args::try_parse_from(line.split_whitespace()).map_err(|e| e.to_string())?;
        args.checked()
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        for wrong in [
            "--faults rain",
            "--faults killed,",
            "--lock postgres",
            "--far sentinel --faults cut",
            "--far single --faults failover",
            "--far moon",
        ] {
            assert!(checked(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_command_gives_the_same_again() {
        for line in [
            "--seconds 5 --seed 7 --far lock --lock mysql-row --faults killed,flushed",
            "--seconds 60 --seed 7 --far cluster --faults all",
            "--seconds 60 --seed 7 --far single --faults none",
        ] {
            let command = checked(line).map(|args| args.command(7));
            assert_eq!(command, Ok(format!("cargo run --release --example torture -- {line}")));
        }
    }
}
