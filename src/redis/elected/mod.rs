//! Redis keeps the entries and carries the messages; a lock of another system elects who loads.
//!
//! - A *load* begins at its record with the lock's fencing token and stays *open* until it is committed,
//!   ended, overtaken by a greater token, or revoked by a put or an invalidation. Only the open load may
//!   write: a holder that has lost the lock without knowing, or was overtaken by an invalidation, writes
//!   nothing. The lock only promises that there is one load.
//! - A miss costs the process that loads: read, look up, lock, open, commit, publish, unlock. A waiter:
//!   read, look up, lock, and one look-up when it is notified.
//! - An invalidation closes the open load at once. The lock is freed when its holder learns of it: at once in
//!   this process, by message in another, and with the next renewal otherwise.
//! - A caller that was told "held" is notified of each way in which that ends: a lock is freed by
//!   [`Election::free`](election::Election::free) alone, which publishes.
//! - What follows the record's answer (messages, the lock's release) continues when the caller is cancelled,
//!   and is waited for no longer than [`SETTLE`](election::SETTLE).

mod election;
mod far;
mod open_loads;

pub use self::far::ElectedFar;
