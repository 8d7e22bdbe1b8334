//! What the one process does that works.

use std::fmt;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    /// A key that nobody has and nobody waits for.
    Fill,
    /// A row that has not changed is loaded anew.
    Refresh,
    /// A row that has a newer version.
    Change,
    /// With so many at once.
    Invalidation(usize),
    /// What one of so many processes costs that wait for a key while another loads it.
    Waiting(usize),
    /// What a process costs in a minute in which nothing happens.
    Idle,
}

pub const AT_ONCE: usize = 32;
pub const INVALIDATIONS_AT_ONCE: [usize; 2] = [64, 8];

impl Operation {
    /// In a plot.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fill => "fill",
            Self::Refresh => "refresh",
            Self::Change => "change",
            Self::Invalidation(_) => "invalidation",
            Self::Waiting(_) => "waiting process",
            Self::Idle => "idle process",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name();
        match self {
            Self::Fill | Self::Refresh | Self::Change => write!(f, "{name} ×{AT_ONCE}"),
            Self::Invalidation(at_once) => write!(f, "{name} ×{at_once}"),
            Self::Waiting(processes) => write!(f, "waiting, of {processes}"),
            Self::Idle => write!(f, "idle, a minute"),
        }
    }
}
