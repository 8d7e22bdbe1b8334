//! What the library uses of tokio, under shuttle.
//!
//! shuttle-tokio has most of it. Ours are
//!
//! - [`time`]: a clock that moves when nothing else can run, or at any moment (shuttle-tokio's sleeps end at once);
//! - [`task::spawn`]: a task that panics is told to who joins it (shuttle-tokio's fails the test);
//! - [`sync::Notify`] with `notified_owned`, and a [`sync::watch`] whose sender is made alone and cloned.

mod notify;
pub mod runtime;
pub mod sync;
pub mod task;
pub mod time;
mod watch;

pub use shuttle_tokio::{pin, select, task_local};

pub use self::task::spawn;
