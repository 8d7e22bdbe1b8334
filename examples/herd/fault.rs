//! What befalls Redis.

use clap::ValueEnum;

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// SIGKILL; restarted with its data
    Killed,
    /// SIGKILL; restarted empty
    Emptied,
    /// SIGSTOP, then SIGCONT
    Frozen,
    /// The network takes 1 s each way: 2 s a command
    Slow,
    /// The primary of a Sentinel group is killed, and a replica takes over
    Failover,
    /// The network between one process and Redis is cut; the other processes go on
    Cut,
}

impl Fault {
    pub fn name(self) -> &'static str {
        match self {
            Self::Killed => "killed",
            Self::Emptied => "emptied",
            Self::Frozen => "frozen",
            Self::Slow => "slow",
            Self::Failover => "failover",
            Self::Cut => "cut",
        }
    }

    /// The process that it concerns alone.
    pub fn cuts_off(self) -> Option<usize> {
        (self == Self::Cut).then_some(0)
    }

    /// In one sentence, for the reader.
    pub fn story(self, fault_ms: u64) -> String {
        let lasts = fault_ms as f64 / 1000.0;
        match self {
            Self::Killed => {
                format!("Redis is killed, and restarted with its data {lasts} s later.")
            }
            Self::Emptied => {
                format!("Redis is killed, and restarted without its data {lasts} s later.")
            }
            Self::Frozen => format!("Redis is stopped for {lasts} s (SIGSTOP)."),
            Self::Slow => format!("The network to Redis takes 1 s more each way, for {lasts} s."),
            Self::Failover => {
                "The primary is killed; it is over when Sentinel has made a replica the primary."
                    .into()
            }
            Self::Cut => {
                format!("One process is cut off from Redis for {lasts} s; the others go on.")
            }
        }
    }
}
