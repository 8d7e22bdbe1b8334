//! The tags of a response: surrogate keys.

use http::{HeaderMap, HeaderName};

/// A tag of a stored response.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Tag {
    pub(crate) name: String,
    /// The tag's epoch when the response was loaded.
    pub(crate) epoch: u64,
}

impl Tag {
    /// The names in a field, separated by spaces as in `Surrogate-Key` or by commas as in `Cache-Tag`.
    pub(crate) fn names<'a>(
        field: &HeaderName,
        headers: &'a HeaderMap,
    ) -> impl Iterator<Item = &'a str> + use<'a> {
        headers
            .get_all(field)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|list| list.split([' ', '\t', ',']))
            .filter(|name| !name.is_empty())
    }
}
