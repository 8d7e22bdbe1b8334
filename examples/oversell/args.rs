//! The command line.

use std::str::FromStr;

use clap::Parser;

use crate::lock::Kind;

/// Selling what is not there: many buyers in several processes, one product, and what keeps the
/// shop from selling more than it has.
///
/// The shop is a PostgreSQL database. Servers that no option names are started from PATH, and end
/// with the program.
#[derive(Parser, Clone, Debug)]
#[command(name = "oversell", version)]
pub struct Args {
    /// Which locks: `all`, `none`, or some of memory, redis, postgres,
    /// postgres-row, mysql, mysql-row and zookeeper, separated by commas
    #[arg(long, default_value = "all")]
    pub lock: Locks,
    /// How many processes
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=16))]
    pub processes: u32,
    /// How many buyers in each process
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub buyers: u32,
    /// How many pieces there are; the buyers want at least twice as many
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub stock: u32,
    /// The PostgreSQL of the shop and of the postgres locks: postgres://user@host/database
    #[arg(long, value_name = "URL", value_parser = url(&["postgres://", "postgresql://"]))]
    pub database_url: Option<String>,
    /// The Redis of its lock: redis://host:port
    #[arg(long, value_name = "URL", value_parser = url(&["redis://", "rediss://"]))]
    pub redis_url: Option<String>,
    /// The MariaDB or MySQL of its locks: mysql://user@host/database
    #[arg(long, value_name = "URL", value_parser = url(&["mysql://", "mariadb://"]))]
    pub mysql_url: Option<String>,
    /// The ZooKeeper of its lock: host:port
    #[arg(long, value_name = "HOST:PORT", value_parser = address)]
    pub zookeeper_address: Option<String>,
    /// This is one of the processes: orders come on standard input
    #[arg(long, hide = true)]
    pub worker: bool,
}

impl Args {
    pub fn checked(self) -> Result<Self, String> {
        match self.processes * self.buyers {
            0 | 1 => {
                Err("one buyer has no other to race with: give --processes or --buyers 2 or more"
                    .to_owned())
            }
            _ => Ok(self),
        }
    }

    /// How many pieces each buyer wants. Twice the stock altogether, so that all of it is sold and some
    /// buyers leave with empty hands.
    pub fn wants(&self) -> u32 {
        (2 * self.stock).div_ceil(self.processes * self.buyers)
    }
}

/// The locks to try.
#[derive(Clone, Debug)]
pub struct Locks {
    pub kinds: Vec<Kind>,
}

impl FromStr for Locks {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => return Ok(Self { kinds: Kind::ALL.to_vec() }),
            "none" => return Ok(Self { kinds: Vec::new() }),
            _ => {}
        }
        let mut kinds = Vec::new();
        for name in text.split(',') {
            let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.name() == name) else {
                let names = Kind::ALL.map(Kind::name).join(", ");
                return Err(format!("expected all, none, or some of {names}"));
            };
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        Ok(Self { kinds })
    }
}

fn url(
    schemes: &'static [&'static str],
) -> impl Fn(&str) -> Result<String, String> + Clone + Send + Sync {
    move |text| match schemes.iter().any(|scheme| text.starts_with(scheme)) {
        true => Ok(text.to_owned()),
        false => Err(format!("expected {}…", schemes[0])),
    }
}

fn address(text: &str) -> Result<String, String> {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
            Ok(text.to_owned())
        }
        _ => Err("expected host:port".to_owned()),
    }
}
