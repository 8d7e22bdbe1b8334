//! The far tier and the lock inside one process: what a guard uses that shares nothing, and the references
//! that the contract tests compare the others with.

mod far;
mod lock;
mod records;

pub use self::{far::MemoryFar, lock::MemoryLock};
