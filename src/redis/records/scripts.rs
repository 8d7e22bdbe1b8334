use std::sync::LazyLock;

use ::redis::Script;

use crate::redis::script::script;

/// The scripts of one way to make fencing tokens.
pub(crate) struct Scripts {
    pub(super) open: Script,
    pub(super) commit: Script,
    pub(super) invalidate: Script,
}

const PRELUDE: &str = include_str!("lua/prelude.lua");
const BY_CLOCK_FLOOR: &str = include_str!("lua/by_clock.lua");
const BY_LOCK_FLOOR: &str = include_str!("lua/by_lock.lua");
const OPEN: &str = include_str!("lua/open.lua");
const LOOK_UP_OR_LEASE: &str = include_str!("lua/look_up_or_lease.lua");
const BEGIN: &str = include_str!("lua/begin.lua");
const COMMIT: &str = include_str!("lua/commit.lua");
const INVALIDATE: &str = include_str!("lua/invalidate.lua");

/// Before the prelude, which knows how many waiters a lease has.
const TELL: &str = include_str!("../lua/tell.lua");
const PUBLISH_COUNTED: &str = include_str!("../lua/publish_counted.lua");

/// Fencing tokens from the server's clock: Redis elects who loads.
pub(crate) static BY_CLOCK: LazyLock<Scripts> = LazyLock::new(|| Scripts {
    open: script(&[TELL, PRELUDE, OPEN, LOOK_UP_OR_LEASE]),
    commit: script(&[TELL, PRELUDE, BY_CLOCK_FLOOR, COMMIT]),
    invalidate: script(&[TELL, PRELUDE, BY_CLOCK_FLOOR, PUBLISH_COUNTED, INVALIDATE]),
});

/// Fencing tokens from a lock of another system, which elects who loads.
pub(crate) static BY_LOCK: LazyLock<Scripts> = LazyLock::new(|| Scripts {
    open: script(&[TELL, PRELUDE, BY_LOCK_FLOOR, OPEN, BEGIN]),
    commit: script(&[TELL, PRELUDE, BY_LOCK_FLOOR, COMMIT]),
    invalidate: script(&[TELL, PRELUDE, BY_LOCK_FLOOR, PUBLISH_COUNTED, INVALIDATE]),
});

pub(super) static RENEW: LazyLock<Script> =
    LazyLock::new(|| script(&[TELL, PRELUDE, include_str!("lua/renew.lua")]));
pub(super) static FAIL: LazyLock<Script> =
    LazyLock::new(|| script(&[TELL, PRELUDE, include_str!("lua/fail.lua")]));

/// What a user may do.
pub(super) static PROBE: LazyLock<Script> = LazyLock::new(|| Script::new(PROBE_TEXT));
pub(super) const PROBE_TEXT: &str = include_str!("lua/probe.lua");

/// Sent as text, not by its hash: when a look-up timed out, nothing waits for the answer that the server
/// does not know the script yet, and the lease would stand unused until its ttl.
pub(super) const RELEASE: &str =
    concat!(include_str!("../lua/tell.lua"), include_str!("lua/release.lua"));
