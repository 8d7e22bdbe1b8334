//! Many keys in one fetch: one read, the leases side by side, one load.
//!
//! - Each key boards as a single fetch does (`boarding`) and has a flight of its own, which others may board
//!   and which ends by itself. That is why a batch cannot lock up with another one, or with single fetches: a
//!   flight that must wait for another process first *stands by*, and the batch's load begins without it.
//! - When every flight has decided, one load is made for those that hold a lease. A flight that stood by
//!   and is granted the lease later, or must load again, loads its one key.

mod batch_load;
mod fetch_many;
