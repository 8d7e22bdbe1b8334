//! What was done to the run, and what README and `docs/promises.md` admit then.

use serde::{Deserialize, Serialize};

use super::Micros;

/// A fault, while it lasts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Fault {
    pub kind: Kind,
    /// Which process; `None`: the far tier or the origin, so all.
    pub process: Option<u32>,
    pub begun: Micros,
    pub ended: Micros,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Kind {
    /// SIGKILL, or the whole guard dropped with its tasks.
    Killed,
    /// SIGSTOP until SIGCONT.
    Frozen,
    /// Commands of this process do not reach the far tier (refused, hung, or their answers lost).
    Cut,
    /// Messages to this process do not arrive, though it may not know.
    Deaf,
    /// Commands or messages are late, or come twice.
    Slow,
    /// The far tier does not answer, and has its data when it is back (restart with AOF, or stopped).
    Away,
    /// It has lost records: eviction, FLUSHALL, restart empty.
    Forgot,
    /// It has lost writes that it had acknowledged: restart from an older snapshot, failover.
    Rewound,
    /// It refuses writes: out of memory, or read-only.
    Full,
    /// Its clock was set.
    Clock,
    /// Loads fail, panic, or hang.
    OriginFails,
    /// Loads read replicas that lag.
    OriginLags,
}
