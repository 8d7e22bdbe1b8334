//! What one run is to be: drawn from its seed before it begins.

use std::time::Duration;

use cattleguard::Policy;

use crate::{history::Kind, origin::Mood};

/// A kind of run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Profile {
    Calm,
    Late,
    Deaf,
    Cut,
    Partition,
    Away,
    Forgetful,
    Rewound,
    Full,
    Killed,
    Frozen,
    Clock,
    Origin,
    Lag,
    Everything,
    /// Everything, to a thousand processes.
    Thousand,
}

/// One run.
pub(crate) struct Plan {
    pub(crate) processes: u32,
    pub(crate) keys: u32,
    /// How many callers each process has.
    pub(crate) callers: u32,
    pub(crate) writers: u32,
    pub(crate) length: Duration,
    /// The longest pauses of a caller and of a writer.
    pub(crate) asks_within: Duration,
    pub(crate) writes_within: Duration,
    pub(crate) policy: Policy,
    pub(crate) times: Times,
    pub(crate) mood: Mood,
    /// How long a command takes at most, there and back again, in milliseconds.
    pub(crate) latency: u64,
    pub(crate) faults: Vec<Planned>,
}

/// Times of the policy that the checks know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) near_ttl: Duration,
    pub(crate) near_outage_ttl: Duration,
    pub(crate) lease_ttl: Duration,
    pub(crate) load_timeout: Duration,
    pub(crate) wait_timeout: Duration,
}

/// A fault that is to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Planned {
    pub(crate) kind: Kind,
    pub(crate) at: Duration,
    pub(crate) lasts: Duration,
    /// Which process, where it is about one.
    pub(crate) slot: u32,
}

impl Profile {
    /// The faults of its runs: of each, all that are listed at one time.
    fn kinds(self) -> &'static [&'static [Kind]] {
        match self {
            Self::Calm => &[],
            Self::Late => &[&[Kind::Slow]],
            Self::Deaf => &[&[Kind::Deaf]],
            Self::Cut => &[&[Kind::Cut]],
            Self::Partition => &[&[Kind::Cut, Kind::Deaf]],
            Self::Away => &[&[Kind::Away]],
            Self::Forgetful => &[&[Kind::Forgot]],
            Self::Rewound => &[&[Kind::Rewound]],
            Self::Full => &[&[Kind::Full]],
            Self::Killed => &[&[Kind::Killed]],
            Self::Frozen => &[&[Kind::Frozen]],
            Self::Clock => &[&[Kind::Clock]],
            Self::Origin => &[&[Kind::OriginFails]],
            Self::Lag => &[&[Kind::OriginLags]],
            Self::Everything | Self::Thousand => &[
                &[Kind::Slow],
                &[Kind::Deaf],
                &[Kind::Cut],
                &[Kind::Cut, Kind::Deaf],
                &[Kind::Away],
                &[Kind::Forgot],
                &[Kind::Rewound],
                &[Kind::Full],
                &[Kind::Killed],
                &[Kind::Frozen],
                &[Kind::OriginFails],
                &[Kind::OriginLags],
            ],
        }
    }
}

impl Plan {
    pub(crate) fn draw(profile: Profile) -> Self {
        let processes = match fastrand::u8(..) {
            _ if profile == Profile::Thousand => 1_000,
            0..4 => fastrand::u32(50..=200),
            _ => fastrand::u32(2..=6),
        };
        let is_large = processes > 6;
        let length = ms(fastrand::u64(4_000..8_000));
        let (policy, times) = draw_policy();
        Self {
            processes,
            keys: fastrand::u32(1..=3),
            callers: if is_large { 1 } else { fastrand::u32(1..=3) },
            writers: fastrand::u32(1..=3),
            length,
            asks_within: ms(if is_large { 4_000 } else { one_of(&[60, 150, 400]) }),
            writes_within: ms(one_of(&[200, 1_000, 3_000])),
            policy,
            times,
            mood: Mood { takes: one_of(&[0, 5, 50, 150]), ..Mood::default() },
            latency: one_of(&[1, 1, 5, 20]),
            faults: draw_faults(profile, processes, length),
        }
    }
}

fn draw_policy() -> (Policy, Times) {
    let times = Times {
        near_ttl: ms(one_of(&[0, 1_000, 5_000, 5_000])),
        near_outage_ttl: ms(500),
        lease_ttl: ms(one_of(&[300, 2_000, 2_000])),
        load_timeout: ms(one_of(&[1_000, 3_000])),
        wait_timeout: ms(one_of(&[1_000, 3_000])),
    };
    let policy = Policy::default()
        .ttl(ms(one_of(&[200, 1_000, 60_000])))
        .jitter(one_of(&[0.0, 0.1]))
        .grace(ms(one_of(&[0, 500, 30_000])))
        .stale_if_error(ms(one_of(&[0, 5_000, 300_000])))
        .early_refresh(one_of(&[0.0, 1.0, 5.0]))
        .soft_timeout(one_of(&[Duration::MAX, ms(100)]))
        .failure_backoff(ms(one_of(&[0, 250])))
        .max_failure_backoff(ms(1_000))
        .near_ttl(times.near_ttl)
        .lease_ttl(times.lease_ttl)
        .load_timeout(times.load_timeout)
        .wait_timeout(times.wait_timeout);
    (policy, times)
}

/// Some of the kinds of a profile, at some time, for a while.
fn draw_faults(profile: Profile, processes: u32, length: Duration) -> Vec<Planned> {
    let kinds = profile.kinds();
    if kinds.is_empty() {
        return Vec::new();
    }
    let mut faults: Vec<Planned> = Vec::new();
    for _ in 0..fastrand::u8(1..=4) {
        let at = length.mul_f64(fastrand::f64());
        let lasts = ms(one_of(&[30, 100, 300, 1_000, 3_000]));
        let together = kinds[fastrand::usize(..kinds.len())];
        // A few processes at one time, or one.
        for _ in 0..fastrand::u32(1..=processes.div_ceil(3)) {
            let slot = fastrand::u32(..processes);
            let planned = together.iter().map(|&kind| Planned { kind, at, lasts, slot });
            let planned: Vec<_> = planned.collect();
            if !planned.iter().any(|new| faults.iter().any(|old| new.meets(old))) {
                faults.extend(planned);
            }
        }
    }
    faults
}

impl Planned {
    /// Whether the end of one would end the other, too.
    fn meets(&self, other: &Self) -> bool {
        let is_of_one = [Kind::Slow, Kind::Deaf, Kind::Cut, Kind::Killed, Kind::Frozen];
        let is_same = self.slot == other.slot || !is_of_one.contains(&self.kind);
        let recovery = ms(2_000);
        self.kind == other.kind
            && is_same
            && self.at <= other.at + other.lasts + recovery
            && other.at <= self.at + self.lasts + recovery
    }
}

fn one_of<T: Copy>(all: &[T]) -> T {
    all[fastrand::usize(..all.len())]
}

pub(crate) const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}
