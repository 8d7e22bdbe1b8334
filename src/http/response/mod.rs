//! A response: whether it may be stored, for how long it is fresh, and what is served of it.

mod cached;
mod codec;
mod freshness;
mod head;
mod portion;
mod storable;
mod stored;
mod tag;

pub(super) use self::{
    cached::CachedResponse,
    head::{Head, VALIDATORS},
    storable::{Reuse, Storable, StoreSettings, is_failure, may_be_of_one_client},
    stored::Kind,
    tag::tag_names,
};
pub use self::{codec::Responses, stored::StoredResponse};
