//! The header fields that the cache reads and writes.

pub(super) mod age;
mod cache_control;
pub(super) mod cache_status;
pub(super) mod connection;
pub(super) mod cookie;
pub(super) mod date;
mod directive;
mod entity_tag;
pub(super) mod vary;

#[cfg(test)]
pub(super) use self::cache_control::parsed_responses;
pub(super) use self::{
    cache_control::{CacheControl, Scope},
    entity_tag::EntityTag,
};
