//! The near tier: a map in this process, bounded in entries and in bytes.
//!
//! Entries carry their own times, and a look decides by them. What is past its time leaves a few at a time,
//! with each insertion, in the order in which it came.
//!
//! An insertion has two parts. Under the name's lock, [`Near::insert`] changes the map and nothing else. After
//! the lock, when [`Evicted`] is dropped, the user's code runs: the size function, and the drops of what is out
//! of use. A size that is only known then is corrected in place, for an entry that is still there:
//! nothing that an invalidation has removed meanwhile comes back.

mod bounds;
mod evicted;
mod line;
mod map;
#[cfg(test)]
mod tests;
mod tier;

pub(crate) use self::{bounds::Bounds, evicted::Evicted, tier::Near};
