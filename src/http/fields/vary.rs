//! `Vary` (RFC 9110 §12.5.5).

use http::{HeaderMap, HeaderName, header};

use super::connection;

/// The request fields that selected a response, sorted and without repetition. `None` if something other
/// than request fields selects (`*`), or if a name is not a valid field name. Fields of one connection select
/// nothing: no load sends them.
pub(crate) fn selecting_fields(response: &HeaderMap) -> Option<Vec<HeaderName>> {
    let mut names = Vec::new();
    for list in response.get_all(header::VARY) {
        for name in list.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            match name {
                b"" => {}
                b"*" => return None,
                name => names.push(HeaderName::from_bytes(name).ok()?),
            }
        }
    }
    names.sort_by(|a: &HeaderName, b| a.as_str().cmp(b.as_str()));
    names.dedup();
    names.retain(|name| !connection::is_of_one(name));
    Some(names)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn fields(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn names_of_all_lines_are_sorted_and_listed_once() {
        let response = fields(&[("vary", "X-B , accept"), ("vary", "x-a,x-b")]);
        let names = selecting_fields(&response).expect("names");
        assert_eq!(names, ["accept", "x-a", "x-b"]);
        assert_eq!(selecting_fields(&fields(&[("vary", " , ")])), Some(Vec::new()));
        let response = fields(&[("vary", "TE, connection, x-a")]);
        assert_eq!(selecting_fields(&response).expect("names"), ["x-a"]);
    }

    #[test]
    fn anything_but_field_names_is_refused() {
        for value in ["*", "x-a, *", "x a", "x-a, \u{e4}", "x:a"] {
            let mut response = fields(&[("vary", "x-b")]);
            response
                .append(header::VARY, HeaderValue::from_bytes(value.as_bytes()).expect("a value"));
            assert_eq!(selecting_fields(&response), None, "{value}");
        }
    }
}
