//! The tags of a response: surrogate keys.

use http::{HeaderMap, HeaderName};

/// The tags in a field, separated by spaces as in `Surrogate-Key` or by commas as in `Cache-Tag`.
pub(crate) fn tag_names<'a>(
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
