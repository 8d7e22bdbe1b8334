//! What a moment of the fleet is: one key, its origin, its store, and up to three processes.

pub const PROCESSES: usize = 3;
pub const SLOTS: usize = 2;
pub const INBOX: usize = 4;

/// A version of the origin's row. Zero: none.
pub type Version = u8;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub enum Record {
    #[default]
    Absent,
    Tombstone(Version),
    Entry {
        version: Version,
        is_fresh: bool,
    },
}

impl Record {
    pub fn version(self) -> Version {
        match self {
            Self::Absent => 0,
            Self::Tombstone(version) | Self::Entry { version, .. } => version,
        }
    }

    pub fn fresh(self) -> Option<Version> {
        match self {
            Self::Entry { version, is_fresh: true } => Some(version),
            _ => None,
        }
    }
}

/// A flight, and so a token: a flight holds one lease at a time.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Holder {
    pub process: u8,
    pub slot: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub enum Lease {
    #[default]
    Free,
    /// `holder` is `None` when the process has crashed. `waiters` has a bit for each process.
    Held {
        holder: Option<Holder>,
        waiters: u8,
    },
    BackOff,
}

impl Lease {
    pub fn waiters(self) -> u8 {
        match self {
            Self::Held { waiters, .. } => waiters,
            _ => 0,
        }
    }

    pub fn is_of(self, holder: Holder) -> bool {
        matches!(self, Self::Held { holder: Some(by), .. } if by == holder)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Store {
    pub record: Record,
    pub lease: Lease,
}

/// What the callers aboard may not get less than: acknowledged in their process, and everywhere.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Minimum {
    pub own: Version,
    pub everywhere: Version,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub enum Stage {
    #[default]
    Idle,
    LookUp,
    /// Only where a flight registers too late: the answer is known, messages are not heard.
    Unregistered,
    Held {
        notified: bool,
        timer: bool,
    },
    Leased {
        minimum: Version,
        is_overtaken: bool,
    },
    Loaded {
        version: Version,
        minimum: Version,
        is_overtaken: bool,
    },
    Hit(Version),
    Stored(Version),
    Refused(Version),
}

impl Stage {
    pub fn is_loading(self) -> bool {
        matches!(self, Self::Leased { .. } | Self::Loaded { .. })
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Flight {
    pub stage: Stage,
    pub is_open: bool,
    /// The newest version heard of while it was open.
    pub floor: Version,
    /// Of callers that boarded before its epoch, and of all, once it is closed.
    pub early: Minimum,
    pub late: Minimum,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    Put,
    /// `invalidate_at`
    At,
    /// `invalidate`
    Any,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub enum Write {
    #[default]
    Idle,
    /// The origin has it, and this process has dropped its near entry.
    Begun { kind: Kind, version: Version },
    /// The store has it. `unconfirmed` has a bit for each process that has not confirmed.
    Told { kind: Kind, version: Version, unconfirmed: u8 },
}

/// In [`Write::Told`]: confirmations cannot be counted.
pub const UNCOUNTED: u8 = 0x80;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Message {
    Committed(Version),
    Put(Version),
    Invalidated { below: Option<Version>, writer: u8, number: Version },
    Released,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub enum Link {
    #[default]
    Up,
    /// Cut, and the process does not know yet.
    Cut,
    Down,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Process {
    pub flights: [Flight; SLOTS],
    pub near: Option<Version>,
    pub inbox: [Option<Message>; INBOX],
    pub link: Link,
    pub write: Write,
    /// The newest invalidation that was acknowledged here.
    pub acknowledged: Version,
    /// Only where a process confirms first: what it has not dropped yet.
    pub dropping: Option<Option<Version>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct State {
    pub row: Version,
    pub store: Store,
    pub processes: [Process; PROCESSES],
    /// The newest invalidation that was acknowledged as `Everywhere`.
    pub everywhere: Version,
    /// The newest `invalidate_at` that was acknowledged.
    pub at: Version,
    /// The newest version ever on record.
    pub newest: Version,
    pub snapshot: Option<Store>,
    /// How many faults have come, of those that a run has a number of.
    pub faults: u8,
    pub fence: Fence,
}

/// Fences only grow and are only compared: it is enough to know what is not below the last one granted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Fence {
    pub is_clock_behind: bool,
    pub is_floor_behind: bool,
}
