//! The far tier and the lock inside one process: the default of a guard that shares nothing, and the
//! references that the contract tests compare the other systems with.
//!
//! - [`MemoryFar`] keeps entries in [moka](https://docs.rs/moka) and leases in maps beside it. Every call on a
//!   name runs under a lock on it, so record and lease are judged at one moment.
//!   It is bounded in records, and with [`bounded`](MemoryFar::bounded) in bytes, too.
//! - [`MemoryLock`] is a lock among the tasks of this process.
//!
//! Both promise the whole contract of [`Far`](crate::far::Far) and [`Lock`](crate::lock::Lock) to whatever
//! shares a clone, and nothing to other processes. What breaks a promise: a record that was evicted for room
//! takes its version with it.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), cattleguard::Error> {
//! use cattleguard::{Guard, Loaded, memory::MemoryFar};
//!
//! // Two guards, as in two parts of a program, that share what they load.
//! let far = MemoryFar::new();
//! let [one, other] =
//!     [(); 2].map(|()| Guard::<u64, String>::builder().far(far.clone()).build());
//! let load = || async { Ok::<_, std::io::Error>(Loaded::found("Ada".to_owned(), 1)) };
//! one.fetch(&17, load).await?;
//! let ada = other.find(&17).await.expect("the other guard has loaded it");
//! assert_eq!(ada.value().map(String::as_str), Some("Ada"));
//! # Ok(()) }
//! ```

mod far;
mod lock;
mod records;

pub use self::{far::MemoryFar, lock::MemoryLock, records::Usage};
