//! What the nemesis does.

use clap::ValueEnum;

use crate::{args::FarKind, history::Kind};

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Act {
    /// SIGKILL of a process; another one takes its place
    Killed,
    /// SIGSTOP of a process for longer than its leases last
    Frozen,
    /// One process: its connections are closed, and refused
    Cut,
    /// One process: nothing gets through, and all of it later
    Stalled,
    /// One process: its commands are carried out, but answers and messages arrive later
    Muted,
    /// One process: messages arrive, but its commands later
    Gagged,
    /// One process: messages do not arrive, and nothing tells it; its commands may be late
    Deaf,
    /// One process: the connections that it has lead nowhere, without an end
    HalfOpen,
    /// One process: all takes longer, in both directions
    Slow,
    /// FLUSHALL
    Flushed,
    /// Records and leases are evicted, one by one
    Evicted,
    /// Redis is out of memory
    Full,
    /// Redis is read, but takes no writes: it misses its replicas
    Refusing,
    /// Redis closes all connections, also those for messages
    Dropped,
    /// SIGSTOP of Redis
    Paused,
    /// SIGKILL of Redis, which comes back with all that it had acknowledged
    Restarted,
    /// SIGKILL of Redis, which comes back empty
    Emptied,
    /// SIGKILL of Redis, which comes back from a snapshot of seconds before
    Rewound,
    /// Redis' clock is set, and back
    Clock,
    /// A primary dies with writes that no replica has, and a replica takes over
    Failover,
    /// Loads fail
    OriginFails,
    /// Loads panic
    OriginPanics,
    /// Loads do not end
    OriginHangs,
    /// Loads take seconds
    OriginSlow,
    /// Loads read a replica that lags
    OriginLags,
}

/// Whom it befalls: each of them by one act at a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Victim {
    Process,
    Redis,
    Origin,
}

impl Act {
    pub fn name(self) -> &'static str {
        match self {
            Self::Killed => "killed",
            Self::Frozen => "frozen",
            Self::Cut => "cut",
            Self::Stalled => "stalled",
            Self::Muted => "muted",
            Self::Gagged => "gagged",
            Self::Deaf => "deaf",
            Self::HalfOpen => "half-open",
            Self::Slow => "slow",
            Self::Flushed => "flushed",
            Self::Evicted => "evicted",
            Self::Full => "full",
            Self::Refusing => "refusing",
            Self::Dropped => "dropped",
            Self::Paused => "paused",
            Self::Restarted => "restarted",
            Self::Emptied => "emptied",
            Self::Rewound => "rewound",
            Self::Clock => "clock",
            Self::Failover => "failover",
            Self::OriginFails => "origin-fails",
            Self::OriginPanics => "origin-panics",
            Self::OriginHangs => "origin-hangs",
            Self::OriginSlow => "origin-slow",
            Self::OriginLags => "origin-lags",
        }
    }

    pub fn victim(self) -> Victim {
        match self {
            Self::Killed | Self::Frozen => Victim::Process,
            _ if self.is_on_the_way() => Victim::Process,
            Self::OriginFails
            | Self::OriginPanics
            | Self::OriginHangs
            | Self::OriginSlow
            | Self::OriginLags => Victim::Origin,
            _ => Victim::Redis,
        }
    }

    /// A fault of the network between one process and Redis.
    pub fn is_on_the_way(self) -> bool {
        matches!(
            self,
            Self::Cut
                | Self::Stalled
                | Self::Muted
                | Self::Gagged
                | Self::Deaf
                | Self::HalfOpen
                | Self::Slow
        )
    }

    /// A proxy stands before a single Redis only: Sentinels and a Cluster's nodes tell clients other addresses.
    pub fn is_possible(self, far: FarKind) -> bool {
        let is_single = matches!(far, FarKind::Single | FarKind::Lock);
        match self {
            Self::Failover => !is_single,
            Self::Restarted | Self::Emptied | Self::Rewound | Self::Clock => is_single,
            _ => is_single || !self.is_on_the_way(),
        }
    }

    /// What the judge is told of it.
    pub fn kinds(self, far: FarKind) -> &'static [Kind] {
        match self {
            Self::Killed => &[Kind::Killed],
            Self::Frozen => &[Kind::Frozen],
            Self::Cut | Self::Stalled | Self::Muted | Self::HalfOpen => &[Kind::Cut, Kind::Deaf],
            Self::Gagged => &[Kind::Cut],
            Self::Deaf => &[Kind::Deaf],
            Self::Slow => &[Kind::Slow],
            Self::Flushed | Self::Evicted => &[Kind::Forgot],
            Self::Full | Self::Refusing => &[Kind::Full],
            Self::Dropped => &[Kind::Away, Kind::Deaf],
            // A replica may take over meanwhile.
            Self::Paused if matches!(far, FarKind::Sentinel | FarKind::Cluster) => {
                &[Kind::Away, Kind::Deaf, Kind::Rewound]
            }
            Self::Paused | Self::Restarted => &[Kind::Away, Kind::Deaf],
            Self::Emptied => &[Kind::Away, Kind::Deaf, Kind::Forgot],
            Self::Rewound | Self::Failover => &[Kind::Away, Kind::Deaf, Kind::Rewound],
            Self::Clock => &[Kind::Clock],
            Self::OriginFails | Self::OriginPanics | Self::OriginHangs => &[Kind::OriginFails],
            // No excuse.
            Self::OriginSlow => &[],
            Self::OriginLags => &[Kind::OriginLags],
        }
    }
}
