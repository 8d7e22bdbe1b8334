//! `Cookie`, which HTTP/2 may split into crumbs (RFC 9113 §8.2.3).

use http::{HeaderMap, HeaderValue, header};

/// Joins the crumbs of a cookie to the one field that they are, so that it selects the same variant and the same
/// key whichever protocol carried it.
#[inline]
pub(crate) fn join_crumbs(request: &mut HeaderMap) {
    // Most requests have no field twice: a hit looks for none.
    if request.len() > request.keys_len() && request.get_all(header::COOKIE).iter().nth(1).is_some()
    {
        join(request);
    }
}

#[cold]
fn join(request: &mut HeaderMap) {
    let crumbs = request.get_all(header::COOKIE);
    let texts: Vec<_> = crumbs.iter().map(HeaderValue::as_bytes).collect();
    let is_sensitive = crumbs.iter().any(HeaderValue::is_sensitive);
    // What is made of values is one.
    if let Ok(mut whole) = HeaderValue::from_bytes(&texts.join(&b"; "[..])) {
        whole.set_sensitive(is_sensitive);
        request.insert(header::COOKIE, whole);
    }
}
