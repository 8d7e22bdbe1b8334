//! What the protocol does, what is done to it, and what it promises.

use crate::state::Kind;

/// The rules of the protocol. Each can be left out, to see what it is for.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub token_checked: bool,
    pub version_compared: bool,
    pub granted_once: bool,
    pub revoked: bool,
    pub tombstones: bool,
    pub fence_past_floor: bool,
    pub waiters_noted: bool,
    pub registered_first: bool,
    pub told: bool,
    pub near_dropped: bool,
    pub confirmed_after_drop: bool,
    pub dropped_again: bool,
    pub closed_unfilled: bool,
    pub floor_respected: bool,
    pub rejected_for_early_only: bool,
}

impl Rules {
    pub const OURS: Self = Self {
        token_checked: true,
        version_compared: true,
        granted_once: true,
        revoked: true,
        tombstones: true,
        fence_past_floor: true,
        waiters_noted: true,
        registered_first: true,
        told: true,
        near_dropped: true,
        confirmed_after_drop: true,
        dropped_again: true,
        closed_unfilled: true,
        floor_respected: true,
        rejected_for_early_only: true,
    };
}

#[derive(Clone, Copy, Default, Debug)]
pub struct Faults {
    /// Messages arrive twice. Late they are anyhow.
    pub twice: bool,
    /// A holder is frozen for longer than its lease: it ends under a load.
    pub freeze: bool,
    pub crash: bool,
    pub evict: bool,
    pub lag: bool,
    pub cut: bool,
    /// The store is replaced by an older copy of itself.
    pub failover: bool,
    /// The store's clock goes back.
    pub clock: bool,
}

#[derive(Clone, Debug)]
pub struct Config {
    pub rules: Rules,
    pub faults: Faults,
    pub processes: usize,
    /// Flights of one process at one time: an open one, and one that was closed.
    pub slots: usize,
    /// How many waiters a lease notes.
    pub noted: u32,
    /// The origin's last version. The first is 1.
    pub versions: u8,
    pub writes: &'static [Kind],
    /// Without failed and released loads, and entries that end by time: for the largest runs.
    pub is_lean: bool,
    /// How many faults come in one run. Lag and clocks are not counted.
    pub most_faults: u8,
}

impl Config {
    pub fn new(writes: &'static [Kind]) -> Self {
        Self {
            rules: Rules::OURS,
            faults: Faults::default(),
            processes: 2,
            slots: 1,
            noted: 2,
            versions: if writes.is_empty() { 1 } else { 2 },
            writes,
            is_lean: false,
            most_faults: 1,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Promise {
    OneLoad,
    GrowingFences,
    FencesPastWrites,
    OneCommit,
    NeverBackwards,
    NoResurrection,
    FreshHere,
    FreshElsewhere,
    NearTold,
    Woken,
}

impl Promise {
    pub const ALL: [Self; 10] = [
        Self::OneLoad,
        Self::GrowingFences,
        Self::FencesPastWrites,
        Self::OneCommit,
        Self::NeverBackwards,
        Self::NoResurrection,
        Self::FreshHere,
        Self::FreshElsewhere,
        Self::NearTold,
        Self::Woken,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::OneLoad => "P1 one load",
            Self::GrowingFences => "P1 fences grow",
            Self::FencesPastWrites => "P1 fences pass writes",
            Self::OneCommit => "P2 one commit per grant",
            Self::NeverBackwards => "P2 never backwards",
            Self::NoResurrection => "P3 no resurrection",
            Self::FreshHere => "P4 fresh here",
            Self::FreshElsewhere => "P4 fresh elsewhere",
            Self::NearTold => "P4 near entries told",
            Self::Woken => "P5, P7 every waiter woken",
        }
    }
}

/// A set of promises.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Broken(u16);

impl Broken {
    pub fn add(&mut self, promise: Promise) {
        self.0 |= 1 << promise as u16;
    }

    pub fn has(self, promise: Promise) -> bool {
        self.0 & (1 << promise as u16) != 0
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}
