//! What the server lets this user do, as the first use finds out. Where there is another way, it is taken.

use parking_lot::Mutex;

/// Shared by the records and the messages of one far tier.
#[derive(Default)]
pub(super) struct Permissions {
    found: Mutex<Permitted>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Permitted {
    /// Whether scripts may ask for the time. If not, they are given it.
    pub(super) time: bool,
    pub(super) publisher: Publisher,
    /// Whether the subscribers of a channel may be counted. If not, a stranger that listens by a pattern is
    /// taken for one of ours, which never confirms.
    pub(super) count: bool,
}

/// Who sends the messages about what a script did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Publisher {
    Script,
    /// The client does, after the script.
    Client,
    /// `PUBLISH` is refused: waiters poll.
    Nobody,
}

impl Default for Permitted {
    fn default() -> Self {
        Self { time: true, publisher: Publisher::Script, count: true }
    }
}

impl Permissions {
    pub(super) fn get(&self) -> Permitted {
        *self.found.lock()
    }

    pub(super) fn set(&self, found: Permitted) {
        *self.found.lock() = found;
    }
}
