//! The cache keys of requests (RFC 9111 §2, §4.1).

mod authority;
mod cache_key;
mod extractor;
mod sent_uri;
mod variants;

pub(super) use self::{
    cache_key::CacheKey,
    extractor::{KeyExtractor, Query},
    sent_uri::SentUri,
    variants::Variants,
};
