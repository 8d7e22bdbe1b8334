//! What users compile against.
//!
//! - **Listing.** `docs/api.txt` has every public item, so that a change of the API is seen in a diff, and none
//!   happens by accident: [`listing`].
//! - **Messages.** What the compiler says to the mistakes that users make names what is missing: [`messages`].

mod compiler;
mod listing;
mod messages;
